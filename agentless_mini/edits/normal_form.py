"""A digest of what a file says, equal for files that differ in comments, blank lines and formatting alone.

Python is compared by its syntax tree, docstrings included: a docstring is a value of the program. Other text, and
Python that this interpreter cannot parse, is compared line by line without its blanks and its blank lines.
"""

import ast
import hashlib
import warnings
from dataclasses import dataclass

from agentless_mini.sources import is_python


@dataclass(frozen=True, slots=True)
class Form:
    """The digest, and for a Python file that does not parse why: one line with the line's number, else ""."""

    digest: str
    problem: str = ""


class Forms:
    """The forms of files, each worked out once: samples of one prompt share what they start from and often agree.

    Not for two threads at once: warnings are silenced for the whole process while a file is parsed.
    """

    def __init__(self) -> None:
        """Begin with no form known."""
        self._known: dict[tuple[bool, bytes], Form] = {}

    def of(self, path: str, data: bytes) -> Form:
        """Return the form of a file with these bytes at that path."""
        key = (is_python(path), hashlib.sha256(data).digest())
        if key not in self._known:
            self._known[key] = _python_form(data) if is_python(path) else _text_form(data)
        return self._known[key]


def _python_form(data: bytes) -> Form:
    try:
        with warnings.catch_warnings():  # what the compiler thinks of a repository's code is not our user's concern
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except SyntaxError as error:
        return _text_form(data, f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return _text_form(data, f"line 1: the parser refuses the file ({type(error).__name__})")
    try:
        return _form("python", ast.dump(tree).encode("utf-8", "surrogatepass"))
    except RecursionError:  # an expression of a thousand terms is valid all the same
        return _text_form(data)


def _text_form(data: bytes, problem: str = "") -> Form:
    lines = (b"".join(line.split()) for line in data.split(b"\n"))
    return _form("text", b"\n".join(line for line in lines if line), problem)


def _form(kind: str, said: bytes, problem: str = "") -> Form:
    return Form(hashlib.sha256(kind.encode() + b"\n" + said).hexdigest(), problem)
