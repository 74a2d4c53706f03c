"""What builds an environment inside a box. Its text is sent there: see `build.build_job`.

The Python of the box runs it (3.7 or newer, the standard library alone). What it reports is not to be believed: the
code that it installs runs beside it. The rest of the package never calls it.
"""

from importlib import resources


def program() -> str:
    """Return the program, as `python -I -c` takes it."""
    return (resources.files(__name__) / "install.py").read_text("utf-8")
