"""Makes the rows of the learning experiment: one-line bugs in real functions, with an issue and a check of each.

    python -m tests.benchmarks.bugs OUT PACKAGE... [--held-out A,B] [--seed N]

PACKAGE is importable here. A module's function is cut out with what it needs of its module, calls of it are made up and
observed in boxes on the right file twice, mutants of its lines (those that the embedded model ranks) once. Where
some calls come to something else, that is a row: the issue shows some of these calls, the check has all. Each check is
run on the faulty and on the right file before the row counts. Nobody's intention is known: what the right file does is
right. OUT/train.parquet and, of the packages that are held out, OUT/test.parquet; no function body is in both.

It is no generator of training data for real use: only functions that need nothing but a few pure modules of the
standard library, no methods, and what is changed in place is not observed.
"""

import argparse
import ast
import asyncio
import hashlib
import importlib.util
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from agentless_mini.domain import FileChange, Job, PlacedFile, Step
from agentless_mini.edits import make_patch
from agentless_mini.edits.sources import parse_python
from agentless_mini.environment.work import Opened
from agentless_mini.learning.rewarding import check_patch, open_plain
from agentless_mini.learning.rows import Row, RowFile, write_rows
from agentless_mini.model.embedded.mutants import mutants
from agentless_mini.model.embedded.regions import Region
from agentless_mini.settings.run import SandboxSettings

# Modules that touch nothing outside of the process, know no clock and draw nothing by chance.
PURE = frozenset(
    {
        "__future__", "abc", "base64", "bisect", "binascii", "cmath", "codecs", "collections", "colorsys", "copy",
        "dataclasses", "decimal", "enum", "fractions", "functools", "heapq", "html", "ipaddress", "itertools", "json",
        "keyword", "math", "numbers", "operator", "posixpath", "re", "statistics", "string", "struct", "textwrap",
        "types", "typing", "unicodedata", "warnings", "zlib"
    }
)  # fmt: skip
NOT_OWN = frozenset({"tests", "test", "testing", "_vendor", "vendor", "_vendored", "vendored", "extern", "external"})
MOST_BYTES, MOST_LINES = 3200, 60
CALLS, KEPT, FEWEST = 160, 24, 4
CANDIDATES, PER_FUNCTION, BATCH = 12, 4, 48
WORDS = ("alpha", "Beta", "a-b_c", "one two", "x", "10", "3.14", "a.b.c", "key=value", "/usr/lib", "Łódź", "", "  pad ")
POOLS = {
    "int": ("0", "1", "2", "3", "7", "10", "64", "255", "-1", "-5", "1000"),
    "float": ("0.0", "0.5", "1.0", "2.25", "-0.75", "100.5"),
    "bool": ("True", "False"),
    "str": tuple(map(repr, WORDS)),
    "bytes": tuple(repr(word.encode()) for word in WORDS),
    "list": ("[]", "[1]", "[3, 1, 2]", "[0, -1, 5, 5]", "['a', 'b']", "['alpha', '', 'Beta']", "[(1, 'a'), (2, 'b')]"),
    "tuple": ("()", "(1, 2)", "(0, 3, 5)", "('a', 'b')", "(1, 2, 3, 4)"),
    "dict": ("{}", "{'a': 1}", "{'a': 1, 'b': [2]}", "{'x': 'y', 'key': 'value'}"),
    "none": ("None",),
    "callable": ("len", "str", "abs", "(lambda value: value)"),
}
Outcomes = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A function in a file that holds it and what it needs; `first` and `last` are its rows there, from 1."""

    package: str
    path: str
    name: str
    text: str
    first: int
    last: int
    calls: tuple[str, ...]


# --- functions -------------------------------------------------------------------------------------------------------


def subjects(package: str, seed: int) -> Iterator[tuple[str, Subject]]:
    """Yield the functions of a package that can be cut out, each with a text that copies of it share."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise SystemExit(f"{package} is no package or module here: install it, or correct it")
    root = Path(spec.origin)
    files = sorted(root.parent.rglob("*.py")) if root.name == "__init__.py" else [root]
    base = root.parent.parent if root.name == "__init__.py" else root.parent
    for file in files:
        path = file.relative_to(base).as_posix()
        text = file.read_text("utf-8", errors="replace")
        if NOT_OWN & set(path.split("/")) or "\r" in text:
            continue
        try:
            tree = parse_python(text)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and not function.decorator_list:
                found = _subject(package, path, tree, text, function, random.Random(f"{seed} {path} {function.name}"))  # noqa: S311
                if found is not None:
                    yield ast.dump(ast.Module(function.body[ast.get_docstring(function) is not None :], [])), found


def _subject(
    package: str, path: str, tree: ast.Module, text: str, function: ast.FunctionDef, rng: random.Random
) -> Subject | None:
    cut = _cut(tree, text, function.name)
    size = (function.end_lineno or 0) - function.lineno + 1
    if cut is None or len(cut.encode()) > MOST_BYTES or not 2 < size <= MOST_LINES:
        return None
    parsed = ast.parse(cut)
    own = [one for one in parsed.body if isinstance(one, ast.FunctionDef) and one.name == function.name][-1]
    return Subject(package, path, own.name, cut, own.lineno, own.end_lineno or 0, _calls(own, rng))


def _cut(tree: ast.Module, text: str, name: str) -> str | None:
    """Return the lines of a module that a name needs, None where that is not all within it and the pure modules."""
    bound: dict[str, set[int]] = {}
    for number, statement in enumerate(tree.body):
        for one in _bound(statement):
            bound.setdefault(one, set()).add(number)
    needed: set[int] = set()
    waiting = [name]
    while waiting:
        for number in bound.get(waiting.pop(), set()) - needed:
            needed.add(number)
            nodes = [*ast.walk(tree.body[number])]
            if not all(map(_is_pure, nodes)):
                return None
            waiting += [node.id for node in nodes if isinstance(node, ast.Name)]
    future = [one for one in tree.body if isinstance(one, ast.ImportFrom) and one.module == "__future__"]
    rows, parts = text.split("\n"), []
    for statement in [*future, *(tree.body[number] for number in sorted(needed) if tree.body[number] not in future)]:
        first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", ()))])
        parts.append("\n".join(rows[first - 1 : statement.end_lineno]))
    cut = "\n\n".join(dict.fromkeys(parts)) + "\n"
    return cut if len(cut.split("\n")) < 400 else None


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a top statement binds, and some more that a function in it does."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            return


def _is_pure(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and (node.module or "").partition(".")[0] in PURE
    if isinstance(node, ast.Import):
        return all(one.name.partition(".")[0] in PURE for one in node.names)
    return not isinstance(node, ast.Global | ast.Await | ast.AsyncFunctionDef)


def _calls(function: ast.FunctionDef, rng: random.Random) -> tuple[str, ...]:
    """Return made-up calls: values that suit what a parameter's annotation or default says, others now and then."""
    taken = function.args
    plain = [*taken.posonlyargs, *taken.args]
    defaults = [*[None] * (len(plain) - len(taken.defaults)), *taken.defaults, *taken.kw_defaults]
    constants = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant)]
    own = {
        kind.__name__: [repr(value) for value in constants if type(value) is kind and len(repr(value)) < 20]
        for kind in (str, int, bytes)
    }
    parameters = [*plain, *taken.kwonlyargs]
    kinds = [_kinds(parameter, default) for parameter, default in zip(parameters, defaults, strict=True)]
    found: dict[str, None] = {}
    for _ in range(4 * CALLS):
        said, named = [], False
        for number, (parameter, default) in enumerate(zip(parameters, defaults, strict=True)):
            if default is not None and rng.random() < 0.55:
                named = True
                continue
            kind = rng.choice(kinds[number] if rng.random() < 0.9 else list(POOLS))
            value = rng.choice([*POOLS[kind], *own.get(kind, ())])
            said.append(f"{parameter.arg}={value}" if named or number >= len(plain) else value)
        found[f"{function.name}({', '.join(said)})"] = None
    return tuple(found)[:CALLS]


def _kinds(parameter: ast.arg, default: ast.expr | None) -> list[str]:
    said = ast.unparse(parameter.annotation).lower() if parameter.annotation else ""
    if not said and isinstance(default, ast.Constant):
        said = type(default.value).__name__.replace("NoneType", "none str int").lower()
    aliases = {"sequence": "list", "iterable": "list", "mapping": "dict", "optional": "none", "any": "str int list"}
    said += "".join(f" {kind}" for name, kind in aliases.items() if name in said)
    return [kind for kind in POOLS if kind in said] or ["str", "str", "int", "list"]


# --- boxes -----------------------------------------------------------------------------------------------------------


async def observed(opened: Opened, asked: Sequence[tuple[str, Sequence[str]]], hash_seed: int) -> list[Outcomes | None]:
    """Return what came of the calls on each file, many files in a box; None where the box told nothing."""
    batches = [asked[at : at + BATCH] for at in range(0, len(asked), BATCH)]
    found = await asyncio.gather(*(_batch(opened, batch, hash_seed) for batch in batches))
    return [one for batch in found for one in batch]


async def _batch(opened: Opened, asked: Sequence[tuple[str, Sequence[str]]], hash_seed: int) -> list[Outcomes | None]:
    program = f"{_inside()}\n\nmain('plan.json', 'result.json')\n"
    seconds, variables = 20.0 + 8 * len(asked), (("PYTHONHASHSEED", str(hash_seed)),)
    step = Step(("python", "-s", "-B", "main.py"), seconds=seconds, results=("result.json",), variables=variables)
    files = (PlacedFile("main.py", program.encode()), PlacedFile("plan.json", json.dumps(asked).encode()))
    limits = replace(opened.limits, result=2**25, seconds=max(opened.limits.seconds, seconds))
    result = await opened.sandbox.run(Job(opened.place.environment, opened.place.tree, files, (step,), limits))
    told: list[Outcomes | None] = [json.loads(file.data) for one in result.steps for file in one.results]
    return list(told[0] or ()) if told else [None] * len(asked)


def _inside() -> str:
    return Path(__file__).with_name("bugs_box.py").read_text("utf-8")


# --- rows ------------------------------------------------------------------------------------------------------------


async def made(opened: Opened, packages: Sequence[str], held_out: Sequence[str], seed: int) -> list[Row]:
    """Return the rows; the packages that are held out come first, so no copy of their functions is trained on."""
    seen: set[str] = set()
    known = []
    for package in sorted(packages, key=lambda name: (name not in held_out, name)):
        for substance, subject in subjects(package, seed):
            if substance not in seen:
                seen.add(substance)
                known.append(subject)
    first, second = [await observed(opened, [(one.text, one.calls) for one in known], number) for number in (1, 2)]
    faulty: list[tuple[Subject, dict[str, Sequence[str]], str]] = []
    for subject, *runs in zip(known, first, second, strict=True):
        wanted = _worth_keeping(subject, *runs)
        faulty += [(subject, wanted, text) for text in _mutants(subject, seed)] if wanted else []
    broken = await observed(opened, [(text, list(wanted)) for _, wanted, text in faulty], 1)
    rows, counts = [], Counter[str]()
    for (subject, wanted, text), got in zip(faulty, broken, strict=True):
        changed = {
            call: said for call, said in zip(wanted, got or (), strict=False) if said not in (wanted[call], ["nothing"])
        }
        if changed and len(changed) < len(wanted) and counts[f"{subject.path} {subject.name}"] < PER_FUNCTION:
            counts[f"{subject.path} {subject.name}"] += 1
            rows.append(_row(subject, wanted, changed, text, "test" if subject.package in held_out else "train"))
    proven = await asyncio.gather(*(_is_proven(row, opened) for row in rows))
    return [row for row, is_proven in zip(rows, proven, strict=True) if is_proven]


def _worth_keeping(subject: Subject, *runs: Outcomes | None) -> dict[str, Sequence[str]]:
    """Return calls and what comes of them each time, those with new outcomes first; nothing where that tells little.

    An exception counts if the file itself raises its type.
    """
    if None in runs:
        return {}
    agreed = {
        call: first
        for call, first, second in zip(subject.calls, *filter(None, runs), strict=True)
        if first == second and (first[0] == "returns" or (first[0] == "raises" and f"raise {first[1]}" in subject.text))
    }
    order = sorted(agreed, key=lambda call: [*agreed.values()][: [*agreed].index(call)].count(agreed[call]))
    kept = {call: agreed[call] for call in order[:KEPT]}
    distinct = {tuple(said) for said in kept.values()}
    returned = sum(said[0] == "returns" for said in kept.values())
    return kept if len(kept) >= FEWEST and len(distinct) > 1 and returned * 2 >= len(kept) else {}


def _mutants(subject: Subject, seed: int) -> Iterator[str]:
    rows = subject.text.split("\n")
    region = Region(subject.path, subject.first, "\n".join(rows[subject.first - 1 : subject.last]))
    found = mutants(region)
    drawn = random.Random(f"{seed} {subject.path} {subject.name} faults").sample(found, min(CANDIDATES, len(found)))  # noqa: S311
    for mutant in drawn:
        at = subject.first - 1 + mutant.row
        yield "\n".join([*rows[:at], mutant.text, *rows[at + 1 :]])


def _row(
    subject: Subject, wanted: dict[str, Sequence[str]], changed: dict[str, Sequence[str]], text: str, split: str
) -> Row:
    shown = sorted(changed, key=lambda call: (len(call) + len("".join(wanted[call])), call))
    shown = shown[: max(1, min(3, len(shown) - 1))]  # at least one is held back where there are several
    module = subject.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    title = f"`{subject.name}` gives a wrong result"
    calls = "\n".join(shown)
    expected = "\n".join(f"- `{call}`: {_said(wanted[call])}" for call in shown)
    actual = "\n".join(f"- `{call}`: {_said(changed[call])}" for call in shown)
    code = f"```python\nfrom {module} import {subject.name}\n\n{calls}\n```"
    issue = f"{code}\n\nExpected:\n\n{expected}\n\nActual:\n\n{actual}"
    cases = json.dumps([[call, list(said)] for call, said in wanted.items()])
    return Row(
        id=f"{subject.package}:{subject.path}:{subject.name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        repo=subject.package,
        title=title,
        issue=f"{title}\n\n{issue}\n",
        conversation="",
        files=(RowFile(subject.path, text, subject.text),),
        base="",
        merged_at="",
        licence="",
        split=split,
        check=f"{_inside()}\n\nsys.exit(check({subject.path!r}, json.loads({cases!r})))\n",
    )


def _said(outcome: Sequence[str]) -> str:
    return f"`{outcome[1]}`" if outcome[0] == "returns" else f"raises `{': '.join(outcome[1:]).removesuffix(': ')}`"


async def _is_proven(row: Row, opened: Opened) -> bool:
    """Return whether the check fails on the file as it is, and passes on the repaired one."""
    forms = row.tree().forms
    useless = make_patch((FileChange("nothing.txt", None, b"nothing\n", "100644"),), forms)
    repaired = make_patch(row.oracle(), forms)
    return not await check_patch(row, useless, opened) and await check_patch(row, repaired, opened)


async def write(out: Path, packages: Sequence[str], held_out: Sequence[str], seed: int) -> dict[str, Any]:
    """Make the rows and write them; return how many of which package there are, and the seconds that it took."""
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        cache = platformdirs.user_cache_path("amini")
        opened = await open_plain(SandboxSettings(), cache, dict(os.environ), lambda event: None, stack)
        rows = await made(opened, packages, held_out, seed)
    splits = {
        split: write_rows(out / f"{split}.parquet", (row for row in rows if row.split == split))
        for split in ("train", "test")
    }
    return {**splits, "packages": dict(Counter(row.repo for row in rows)), "seconds": round(time.monotonic() - begun)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("packages", nargs="+", metavar="PACKAGE")
    parser.add_argument("--held-out", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    told = asyncio.run(write(given.out, given.packages, given.held_out.split(","), given.seed))
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
