"""The instances of a benchmark, each parted in two that never meet: what the chain may know, and the solution.

Nothing of the patch, the test patch, the lists of tests, the hints or the evaluation script reaches a prompt or a stage
that runs tests. A row has the columns of SWE-bench (Multilingual has the same), SWE-bench-Live or Multi-SWE-bench,
whose own harness grades what these two ask. Names on the hub are read by `grading.dataset_rows`.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentless_mini.domain import Issue, canonical_json
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable, reason
from agentless_mini.installing import install_command

Row = Mapping[str, Any]

SPLITS = {
    "verified": "SWE-bench/SWE-bench_Verified",
    "lite": "SWE-bench/SWE-bench_Lite",
    "full": "SWE-bench/SWE-bench",
    "multilingual": "SWE-bench/SWE-bench_Multilingual",
}
"""The names of `--split`, and those of the hub."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")
"""What an instance can be called: its name is one of folders, files and containers."""
NEEDED = ("instance_id", "repo", "base_commit", "problem_statement", "patch")
_SEEN = 60
"""Characters of a wrong id that a message shows."""
_TESTBED = "/testbed"
# How one test file of a repository is run, by the runner that a row tells of. Its evaluation script and the lists of
# commands in older releases of swebench name the very tests of the fix: they are never looked at.
_COMMANDS = (
    (r"go_?test|go test", 'go test "./$(dirname {tests})"'),
    (r"vitest", "npx vitest run {tests}"),
    (r"jest|immutable_js", "npx jest {tests}"),
    (r"_tap|mocha", "npx mocha {tests}"),
    (r"phpunit", "vendor/bin/phpunit {tests}"),
    (r"rspec", "bundle exec rspec {tests}"),
    (r"minitest|ruby_unit|jekyll", "bundle exec ruby -Ilib:test {tests}"),
    (r"cargo", 'cargo test --offline --test "$(basename {tests} .rs)"'),
    (r"gradle", './gradlew --offline test --tests "*$(basename {tests} .java)"'),
    (
        r"maven|mvn",
        'mvn -o -q test -Dtest="$(basename {tests} .java)" -pl "$(echo {tests} | sed \'s,/*src/test/.*,,; s,^$,.,\')"',
    ),
)


@dataclass(frozen=True, slots=True)
class Instance:
    """What the chain may know of an instance: of `owner/name`, the tree at `folder` of a Docker `image`.

    `created` is the ISO time of the issue, "" where the dataset does not say. `test_command` runs a test file, as
    `--test-cmd` does, and is "" where the row does not tell how, and the tree has to.
    """

    id: str
    repo: str
    base_commit: str
    issue: Issue
    image: str
    created: str = ""
    folder: str = _TESTBED
    test_command: str = ""


@dataclass(frozen=True, slots=True)
class Solution:
    """What only the official harness and the report may see.

    `row` is the dataset's whole row as JSON, `files` the paths that exist before the true fix and that it touches,
    sorted. `gradable` tells whether swebench grades such rows.
    """

    row: str = field(repr=False)
    files: tuple[str, ...] = field(repr=False)
    difficulty: str = ""
    gradable: bool = True


@dataclass(frozen=True, slots=True)
class Dataset:
    """Instances in order of id, and their solutions by id. `fingerprint` is the SHA-256 of all rows, in hex."""

    name: str
    fingerprint: str
    instances: tuple[Instance, ...]
    solutions: Mapping[str, Solution] = field(repr=False)


def read_dataset(path: Path) -> Dataset:
    """Read a file. Raises `UsageError` where a row lacks what is needed, `EnvironmentFailed` for want of pyarrow."""
    return dataset_of(path.name, list(rows_of(path)))


def rows_of(path: Path) -> Iterator[Row]:
    """Yield the rows of a file as they are. Raises as `read_dataset`."""
    shown = printable(str(path))

    def refused(error: BaseException) -> UsageError:
        return UsageError(f"The dataset {shown} cannot be read ({reason(error)}): name another file.")

    with boundary(dict.fromkeys((OSError, ValueError, OverflowError), refused)):
        yield from _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path.read_text("utf-8"), shown)


def dataset_of(name: str, rows: Iterable[Row]) -> Dataset:
    """Return the dataset of these rows. Raises `UsageError` for one that is incomplete, double, or has a bad id."""
    with boundary({RecursionError: lambda _: UsageError(f"A row of {printable(name)} is nested too deeply: see it.")}):
        parted = sorted((_parted(_plain(row)) for row in rows), key=lambda pair: pair[0].id)
    solutions = {instance.id: solution for instance, solution in parted}
    if not solutions or len(solutions) < len(parted):
        raise UsageError(f"The dataset {printable(name)} is empty or has an instance twice: check the file.")
    total = hashlib.sha256("\n".join(one.row for one in solutions.values()).encode("utf-8", "surrogatepass"))
    return Dataset(name, total.hexdigest(), tuple(instance for instance, _ in parted), solutions)


def selected(
    dataset: Dataset, ids: tuple[str, ...] = (), shard: tuple[int, int] = (1, 1), limit: int = 0
) -> tuple[Instance, ...]:
    """Return the instances with these ids (none: all), of these one shard, of it the first `limit` (0: all), by id.

    `shard` is (i, n): the i-th (from 1) of n parts, dealt out like cards. Raises `UsageError` for an unknown id.
    """
    unknown = sorted(set(ids) - dataset.solutions.keys())
    if unknown:
        shown = ", ".join(printable(name) for name in unknown[:5])
        raise UsageError(f"The dataset {printable(dataset.name)} has no instance {shown}: check --instances.")
    which, of = shard
    chosen = tuple(one for one in dataset.instances if not ids or one.id in ids)[which - 1 :: of]
    return chosen[: limit or None]


def _parted(given: Row) -> tuple[Instance, Solution]:
    row = {**given, **_of_pull_request(given)} if "org" in given and "fix_patch" in given else given
    lacking = [name for name in NEEDED if not isinstance(row.get(name), str)]
    if lacking:
        named = _shown(row.get("instance_id", "without a name"))
        raise UsageError(f"The row {named} of the dataset lacks {', '.join(lacking)}: check --dataset.")
    name, text = row["instance_id"], row["problem_statement"]
    if not NAME.fullmatch(name):
        raise UsageError(
            f"The instance {_shown(name)!r} of the dataset cannot name a folder: use letters, digits, dots, dashes and "
            "underscores, 200 at most, and begin with a letter or a digit."
        )
    instance = Instance(
        id=name,
        repo=row["repo"],
        base_commit=row["base_commit"],
        issue=Issue(text, name),
        image=str(
            row.get("image")
            or row.get("docker_image")
            or f"swebench/sweb.eval.x86_64.{name.lower().replace('__', '_1776_')}:latest"
        ),
        created=str(row.get("created_at") or ""),
        folder=_TESTBED if row is given else row["folder"],
        test_command=_test_command(row),
    )
    solution = Solution(
        row=canonical_json(given),
        files=_files(name, row["patch"]),
        difficulty=str(row.get("difficulty") or ""),
        gradable=row is given and ("eval_script" in row or "docker_image" not in row),
    )
    return instance, solution


def _of_pull_request(row: Row) -> Row:
    """Return the columns that SWE-bench has of a row of Multi-SWE-bench: the issues that the pull request resolves."""
    try:
        org, repo, number = str(row["org"]), str(row["repo"]), int(row["number"])
        said = [f"{issue['title']}\n{issue['body'] or ''}".rstrip() for issue in row["resolved_issues"]]
        return {
            "instance_id": f"{org}__{repo}-{number}",
            "repo": f"{org}/{repo}",
            "base_commit": row["base"]["sha"],
            "problem_statement": "\n\n".join(said),
            "patch": row["fix_patch"],
            "image": f"mswebench/{org}_m_{repo}:pr-{number}".lower(),
            "folder": f"/home/{repo}",
        }
    except (KeyError, TypeError, ValueError) as error:
        message = f"A row of the dataset is none of Multi-SWE-bench ({reason(error)}): check --dataset."
        raise UsageError(message) from error


def _test_command(row: Row) -> str:
    """Return how a test file of the instance is run, by the runner that its row names; "" where that is not known."""
    if row["repo"] == "mrdoob/three.js":  # the one that is read as mocha's is and runs QUnit
        return "npx qunit {tests}"
    commands = row.get("test_cmds")
    told = " ".join(map(str, commands)) if isinstance(commands, list) else str(row.get("log_parser") or "")
    return next((command for names, command in _COMMANDS if re.search(names, told)), "")


def _plain(row: Row) -> Row:
    """Return a row in JSON's own types: what JSON does not know as text, what is not a number as None."""
    plain: Row = json.loads(json.dumps(row, default=str), parse_constant=lambda _: None)
    return plain


def _shown(name: object) -> str:
    return printable(str(name)[:_SEEN])


def _files(name: str, patch: str) -> tuple[str, ...]:
    """Return the files that a patch touches and that are there before it, sorted."""
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        sources = {_unquoted(file.source_file) for file in PatchSet(patch) if not file.is_added_file}
    except (UnidiffParseError, ValueError, SyntaxError) as error:
        message = f"The patch of {printable(name)} in the dataset cannot be read ({error}): check the file."
        raise UsageError(message) from error
    return tuple(sorted(source.removeprefix("a/") for source in sources))


def _unquoted(name: str) -> str:
    """Return the name that git wrote, in double quotes and with C's escapes where it is no plain ASCII."""
    return ast.literal_eval(f"b{name}").decode("utf-8", "surrogateescape") if name.startswith('"') else name


def _parquet_rows(path: Path) -> Iterator[Row]:
    missing = EnvironmentFailed(f"Reading parquet needs the extra 'eval': {install_command('eval')}.")
    with boundary({ImportError: lambda _: missing}):
        from pyarrow import ArrowException, parquet

    def refused(error: BaseException) -> UsageError:
        return UsageError(f"{printable(str(path))} is no parquet file ({reason(error)}): name another file.")

    with boundary({ArrowException: refused}), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=64):
            yield from batch.to_pylist()


def _json_rows(text: str, shown: str) -> Iterator[Row]:
    try:
        lines = filter(str.strip, text.split("\n"))
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        message = f"The dataset {shown} is neither a JSON list nor JSON lines ({error}): name another file."
        raise UsageError(message) from error
    for row in rows:
        if not isinstance(row, dict):
            raise UsageError(f"The dataset {shown} has a row that is no object: name another file.")
        yield row
