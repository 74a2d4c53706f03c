"""The papers' algorithm: from an issue and a tree to the patch that tests have chosen."""
