"""Model text -> edits -> patch -> normal form: the one parser and the one applier.

Inference, evaluation and training read answers through this package and nothing else. It is pure: it opens no file,
runs no git, and what a model says is never evaluated, expanded or passed on as a command.
"""

from agentless_mini.edits.answer import KNOWN, Marks, answer_text, parse_edits
from agentless_mini.edits.applying import Tree, apply_edits
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.writing import candidate_patch, changed_files, make_patch, read_answer, write_answer

__all__ = [
    "KNOWN",
    "Forms",
    "Marks",
    "Tree",
    "answer_text",
    "apply_edits",
    "candidate_patch",
    "changed_files",
    "make_patch",
    "parse_edits",
    "read_answer",
    "write_answer",
]
