"""What reading answers costs: 1,000 distinct answers on Python files of 2,000 to 7,000 lines, read as the chain does.

    python -m tests.benchmarks.reading [FILES...] [--answers 1000] [--seed 0]

Without files those of this Python's library are taken (and of its tests, where they are installed). The answers are
made here, seeded: insertions and replacements at different places, some of several edits, and some that must be
rejected. They are handed out all at once by a sampler that costs nothing and read by `stages.drawing.Draws`, while a
task that wants to run each millisecond measures how long the event loop keeps it waiting. The peer is the way of the
first releases, in the same run: to parse the whole file after each answer, and digest its dumped syntax tree.
"""

import argparse
import ast
import asyncio
import hashlib
import random
import statistics
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.chain.repair import Draws
from agentless_mini.chain.session import Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import (
    Completion,
    Event,
    FileKind,
    Finish,
    Matching,
    Message,
    ModelCard,
    Patch,
    Rejected,
    Role,
    SampleRequest,
    SamplingParams,
    Snapshot,
    SourceFile,
    Stage,
)
from agentless_mini.edits import Tree, changed_files, read_answer

LIBRARY = ("argparse.py", "typing.py", "tkinter/__init__.py", "_pydecimal.py")
TESTS = ("test/test_descr.py", "test/datetimetester.py", "test/test_socket.py")
TICK = 0.001
KINDS = ("insert",) * 9 + ("replace",) * 5 + ("several",) * 3 + ("missing", "syntax", "comment")


# --- answers -------------------------------------------------------------------------------------------------------


class Writer:
    """Writes answers that edit one file: no two of them alike."""

    def __init__(self, file: SourceFile, chance: random.Random) -> None:
        self._path, self._chance = file.path, chance
        self._text = file.data.decode()
        self._lines = self._text.splitlines(keepends=True)
        self._places = [
            node.lineno - 1
            for node in ast.walk(ast.parse(self._text))
            if isinstance(node, ast.Assign | ast.Return | ast.Expr | ast.Raise | ast.AugAssign)
            and node.lineno == node.end_lineno
            and not self._lines[node.lineno - 1][: node.col_offset].strip()
        ]

    def write(self, number: int) -> str:
        """Return the answer of that number."""
        kind = self._chance.choice(KINDS)
        count = self._chance.randint(2, 5) if kind == "several" else 1
        places = sorted(self._chance.sample(self._places, count))
        edits = [self._edit(kind, at, f"{number}_{turn}") for turn, at in enumerate(places)]
        return f"The fault is in {self._path}.\n\n```\n### {self._path}\n{''.join(edits)}```\n"

    def _edit(self, kind: str, at: int, name: str) -> str:
        line = self._lines[at]
        indent = line[: len(line) - len(line.lstrip())]
        new = {
            "replace": f"{indent}value_{name} = {line.strip()!r}\n",
            "syntax": f"{indent}value_{name} = (\n{line}",
            "comment": f"{indent}# {name}\n{line}",
        }.get(kind, f"{indent}value_{name} = None\n{line}")
        first, last = self._around(at)
        search = "".join(self._lines[first:last])
        replace = "".join([*self._lines[first:at], new, *self._lines[at + 1 : last]])
        missing = f"{indent}nothing_{name}()\n" if kind == "missing" else ""
        return f"<<<<<<< SEARCH\n{search}{missing}=======\n{replace}>>>>>>> REPLACE\n"

    def _around(self, at: int) -> tuple[int, int]:
        """Return the lines of a SEARCH that stands once in the file, two lines of context at least."""
        context = 2
        while True:
            first, last = max(0, at - context), min(len(self._lines), at + 1 + context)
            if f"\n{self._text}".count("\n" + "".join(self._lines[first:last])) == 1:
                return first, last
            context += 1


def written(files: Sequence[SourceFile], count: int, seed: int) -> list[str]:
    chance = random.Random(seed)  # noqa: S311 - for answers that can be made again
    writers = [Writer(file, chance) for file in files]
    return [writers[number % len(writers)].write(number) for number in range(count)]


# --- reading -------------------------------------------------------------------------------------------------------


class Said:
    """A sampler that has all the answers at once."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = answers

    async def card(self) -> ModelCard:
        return ModelCard("said", 1_000_000)

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        return len(messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        for index in request.indices:
            yield Completion(index, self._answers[index], Finish.STOP)


@dataclass(slots=True)
class Ticker:
    """Wants to run each millisecond; `waits` are the seconds that it had to wait longer."""

    waits: list[float]

    async def run(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK)
            self.waits.append(time.perf_counter() - began - TICK)


@dataclass(frozen=True, slots=True)
class Measured:
    outcomes: list[Patch | Rejected]
    processor: float
    seconds: float
    waits: list[float]


async def chain(tree: Tree, answers: Sequence[str]) -> Measured:
    """Read all answers as the chain does."""
    session = Session(Said(answers), load_prompts(None), _accepts, _watch, "")
    draws = Draws(tree, Matching.STRICT, session)
    ticker = Ticker([])
    ticking = asyncio.create_task(ticker.run())
    await asyncio.sleep(0.05)
    ticker.waits.clear()
    processor, began = time.process_time(), time.perf_counter()
    request = SampleRequest("said", (Message(Role.USER, ""),), SamplingParams(8192, 1.0), (), Stage.REPAIR, "")
    drawn = await draws.draw([request], range(len(answers)))
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    await asyncio.sleep(0.01)
    ticking.cancel()
    return Measured([one.candidate.outcome for one in drawn], processor, seconds, ticker.waits)


def _accepts(patch: Patch) -> Patch:
    return patch


def _watch(event: Event) -> None:
    pass


def each(tree: Tree, answers: Sequence[str]) -> Iterator[float]:
    """Yield the processor seconds of each answer, one after the other."""
    for answer in answers:
        began = time.process_time()
        read_answer(Completion(0, answer, Finish.STOP), tree)
        yield time.process_time() - began


def peer(tree: Tree, outcomes: Sequence[Patch | Rejected]) -> Iterator[float]:
    """Yield the processor seconds of parsing and digesting whole files, for each patch."""
    for outcome in outcomes:
        if isinstance(outcome, Patch):
            changes = changed_files(outcome, tree.entries)
            began = time.process_time()
            for change in changes:
                hashlib.sha256(ast.dump(ast.parse(change.after or b"")).encode()).hexdigest()
            yield time.process_time() - began


# --- the report ----------------------------------------------------------------------------------------------------


def snapshot(names: Sequence[str]) -> Snapshot:
    library = Path(sysconfig.get_path("stdlib"))
    paths = [Path(name) for name in names] or [path for name in LIBRARY + TESTS if (path := library / name).exists()]
    files = [SourceFile(f"src/{path.name}", "100644", FileKind.TEXT, path.read_bytes()) for path in paths]
    return Snapshot("library", "", "", tuple(files))


def spread(seconds: Sequence[float]) -> str:
    """Return median, ninth decile and maximum in milliseconds."""
    ordered = sorted(seconds)
    p90 = ordered[int(len(ordered) * 0.9)]
    middle = statistics.median(ordered)
    return (
        f"median {middle * 1e3:.2f}, p90 {p90 * 1e3:.2f}, max {ordered[-1] * 1e3:.2f}, "
        f"mean {statistics.mean(ordered) * 1e3:.2f}"
    )


def made(tree: Snapshot, outcomes: Sequence[Patch | Rejected]) -> Iterator[str]:
    for file in tree.files:
        yield f"{file.path}: {file.data.count(10)} lines, {len(file.data) / 1e3:.0f} kB"
    kinds = Counter(one.reason.value if isinstance(one, Rejected) else "patch" for one in outcomes)
    yield f"{len(outcomes)} distinct answers: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}"


def read(found: Measured) -> Iterator[str]:
    each = found.processor / len(found.outcomes)
    yield f"Through the chain: {found.seconds:.2f} s wall, {each * 1e3:.2f} ms CPU an answer"
    over = sum(wait > 0.02 for wait in found.waits)
    yield f"Loop: longest stall {max(found.waits) * 1e3:.1f} ms, {over} over 20 ms, of {len(found.waits)} ticks"


def compared(tree: Snapshot, answers: Sequence[str], outcomes: Sequence[Patch | Rejected]) -> Iterator[str]:
    ours, whole = list(each(Tree.of(tree), answers)), list(peer(Tree.of(tree), outcomes))
    first = len(tree.files)
    yield f"CPU ms of an answer alone, the first of each file: {spread(ours[:first])}"
    yield f"CPU ms of an answer alone, those after it: {spread(ours[first:])}"
    yield f"CPU ms of parsing and dumping its whole file, the peer: {spread(whole)}"
    yield f"Ratio of the medians, ours to the peer's: {statistics.median(ours) / statistics.median(whole):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tree = snapshot(options.files)
    answers = written(tree.files, options.answers, options.seed)
    found = asyncio.run(chain(Tree.of(tree), answers))
    sys.stdout.write(
        "\n".join([*made(tree, found.outcomes), *read(found), *compared(tree, answers, found.outcomes), ""])
    )


if __name__ == "__main__":
    main()
