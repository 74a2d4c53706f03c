"""What runs in the box with the tests. Its text is placed there: see `testing.plans`.

`amini_run` is started by the box's own Python (3.7 or newer); the others run in the Python of the tests (3.6 or newer,
pytest 4 to 9), with the standard library alone, and import nothing of this package. The rest of the package never calls
them. Everything here shares a process or a user with untrusted code, and is no judge of it: see `testing`.
"""
