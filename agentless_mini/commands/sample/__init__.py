"""What `amini demo` repairs: a small module with a fault on purpose, its tests, and an issue text."""
