"""Start, find and stop a model server."""
