"""A small shop repository, and a session over the scripted sampler, for tests of stages and the pipeline."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from agentless_mini.chain.lexical import survey
from agentless_mini.chain.session import Session, Subject
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Event, FileKind, Issue, Patch, Rejected, Snapshot, SourceFile
from agentless_mini.ports import Sampler

Result = TypeVar("Result")

CART = """\
def total(prices):
    result = 0
    for price in prices[1:]:
        result += price
    return result
"""
ISSUE = Issue("The total of a cart leaves out its first price.\n")


def text_file(path: str, text: str) -> SourceFile:
    return SourceFile(path, "100644", FileKind.TEXT, text.encode())


def shop(*more: SourceFile) -> Snapshot:
    files = (text_file("shop/cart.py", CART), text_file("shop/tax.py", "RATE = 0.2\n"), *more)
    return Snapshot("shop", "c" * 40, "d" * 64, tuple(sorted(files, key=lambda file: file.path)))


def subject(snapshot: Snapshot, issue: Issue = ISSUE) -> Subject:
    return Subject(issue, snapshot, survey(issue, snapshot))


class Bench:
    """A session whose events are kept; git accepts every patch unless told otherwise."""

    def __init__(self, sampler: Sampler, refused: Rejected | None = None) -> None:
        self.events: list[Event] = []
        self.checked: list[Patch] = []
        self._refused = refused
        self.session = Session(sampler, load_prompts(None), self._check, self.events.append, "shop@c")

    def _check(self, patch: Patch) -> Patch | Rejected:
        self.checked.append(patch)
        return self._refused or patch


def run(job: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(job)


def edit(search: str, replace: str, path: str = "shop/cart.py") -> str:
    return f"Because.\n\n```python\n### {path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n```\n"


FIX = edit("    for price in prices[1:]:\n", "    for price in prices:\n")
SAME_FIX = edit("    for price in prices[1:]:\n", "    # all of them\n    for price in (prices):\n")
WRONG = edit("    result = 0\n", "    result = 1\n")
NONSENSE = "I would rather not."
