"""What runs inside a box, before and around the untrusted programs. Its text is sent there: see `inside.program`.

It is run by the Python that the box has (3.7 or newer, the standard library alone) and imports nothing else of this
package. The rest of the package never calls it.
"""

from importlib import resources

_BEGINNING = """
import sys, types
def load(name, text):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
"""


def program(*, fenced: bool = False) -> str:
    """Return the Python program, as `python -I -S -c` takes it, that serves one job, with or without a fence."""
    names = ("files", "processes", *(("fence",) if fenced else ()), "runner")
    texts = ((f"{__name__}.{name}", (resources.files(__name__) / f"{name}.py").read_text("utf-8")) for name in names)
    loading = "".join(f"load({name!r}, {text!r})\n" for name, text in texts)
    return f"{_BEGINNING}{loading}sys.modules[{__name__ + '.runner'!r}].main()\n"
