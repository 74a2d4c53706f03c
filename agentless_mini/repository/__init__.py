"""A git repository as a tree to repair, and where issues come from."""
