"""All faults that can be put into one function."""

import ast
import warnings

from agentless_mini.learning.bugs.expressions import expression_faults
from agentless_mini.learning.bugs.faults import Fault, Page, place_of
from agentless_mini.learning.bugs.harvest import Subject, find_function
from agentless_mini.learning.bugs.statements import statement_faults


def faults(subject: Subject) -> tuple[Fault, ...]:
    """Return the distinct faults of a subject's function, by row and kind; those that do not parse are left out."""
    function, _ = find_function(ast.parse(subject.text), subject)
    page = Page(tuple(row.encode() for row in subject.text.split("\n")), function)
    found = dict.fromkeys([*expression_faults(page), *statement_faults(page)])
    return tuple(sorted((fault for fault in found if _parses(fault.of(subject.text))), key=place_of))


def _parses(text: str) -> bool:
    try:
        with warnings.catch_warnings():  # what the compiler thinks of foreign code is not our user's concern
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
