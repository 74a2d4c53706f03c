"""Model text -> edits -> patch -> normal form: the one parser and the one applier.

Inference, evaluation and training read answers through this package and nothing else. It is pure: it opens no file,
runs no git, and what a model says is never evaluated, expanded or passed on as a command.
"""

from agentless_mini.domain import Completion, Finish, Matching, Patch, Reason, Rejected
from agentless_mini.edits.answer import KNOWN, Marks, answer_text, parse_edits
from agentless_mini.edits.applying import Tree, apply_edits
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.writing import candidate_patch, changed_files, make_patch, write_answer

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


def read_answer(
    completion: Completion, tree: Tree, matching: Matching = Matching.STRICT, marks: Marks = KNOWN
) -> Patch | Rejected:
    """Return the patch that a completion asks for on a tree, or why it is no patch."""
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the answer was cut off by the token limit")
    if completion.finish is Finish.FILTER:
        return Rejected(Reason.WITHHELD, "the server withheld the answer")
    if completion.reasoning.strip() and not completion.text.strip():
        return Rejected(Reason.NO_EDIT, "the answer is empty, and all that was said is in the server's reasoning field")
    edits = parse_edits(completion.text, tree.paths, marks)
    if isinstance(edits, Rejected):
        return edits
    changes = apply_edits(edits, tree, matching)
    return changes if isinstance(changes, Rejected) else candidate_patch(changes, tree.forms)
