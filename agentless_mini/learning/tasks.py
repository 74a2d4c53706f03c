"""The task sets of the field -> rows, by the columns that they are published with.

    SWE-bench's train split, SWE-Gym, SWE-rebench,    `repo`, `base_commit`, `patch`, `problem_statement`: the patch is
    SWE-bench-extra                                   the repair, contents come from a clone
    SWE-smith                                         `repo` is `swesmith/owner__name.commit`, and the patch the bug
    R2E-Gym                                           `parsed_commit_content` has contents before and after

Repositories of SWE-bench Verified and its kin are left out as in curation, and so is a change that is not in code.
Where FAIL_TO_PASS is told, the row's check is JSON: the image, the tests by name, those of PASS_TO_PASS up to
`MOST_TESTS`, and the files that the test patch makes. `commands.learn_training` runs it in boxes.
"""

import ast
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentless_mini.chain.file_roles import CODE_SUFFIX, is_test_path
from agentless_mini.domain import FileChange, FileKind, Patch, Rejected, Snapshot, SourceFile
from agentless_mini.edits import changed_files, write_answer
from agentless_mini.errors import RepositoryError, Unreachable, UsageError, boundary, printable
from agentless_mini.learning.curation.filters import NAMES, LeftOut, Step, is_benchmark_fork
from agentless_mini.learning.curation.history import History, Mirrors
from agentless_mini.learning.rows import SPLITS, Row, RowFile, as_bytes
from agentless_mini.repository.gitcommand import REGULAR
from agentless_mini.repository.patches import patch_reader

MOST_TESTS = 300
Task = Mapping[str, Any]
_FILES = re.compile(r"^(?=diff --git )", re.MULTILINE)
_PATHS = re.compile(r"^(?:(?:---|\+\+\+) [ab]/|(?:rename|copy) from |diff --git a/.* b/)([^\t\n]+)", re.MULTILINE)
_SMITH = re.compile(r"(?:swesmith/)?([^/]+)__([^/]+)\.([0-9a-f]{7,40})")
_REPO, _COMMIT = re.compile(r"[A-Za-z0-9][\w-]*/[\w.-]*[\w-]"), re.compile(r"[0-9a-f]{7,40}")
_PYTEST = re.compile(r"([^\s:]+\.py)::\S.*")


def hub_tasks(name: str, split: str) -> Iterator[Task]:
    """Yield the rows of the split of a set on the hub. Raises `UsageError` where there is none."""
    import datasets

    said = f"The task set {printable(name)} cannot be read ({{}}): name a file, or a set on the hub and its --split."
    with boundary({Exception: lambda error: UsageError(said.format(printable(str(error))[:200]))}):
        yield from datasets.load_dataset(name, split=split, streaming=True)


def rows(tasks: Iterable[Task], mirrors: Mirrors, images: str, most_bytes: int, counts: Counter[str]) -> Iterator[Row]:
    """Yield the rows that can be made; `counts` says what became of all. `images` names images where tasks do not."""
    for task in tasks:
        try:
            row = _row(task, mirrors, images, most_bytes)
            counts["with a check" if row.check else "without a check"] += 1
            yield row
        except LeftOut as left_out:
            counts[left_out.step.value] += 1
        except Unreachable:  # what is not known is owed
            raise
        except (RepositoryError, UnicodeError) as error:  # text that is not Unicode cannot stand in a row
            counts[Step.UNREADABLE if isinstance(error, UnicodeError) else Step.MIRROR_BROKEN] += 1


def _row(task: Task, mirrors: Mirrors, images: str, most_bytes: int) -> Row:
    repo, base = str(task.get("repo") or task.get("repo_name") or ""), str(task.get("base_commit") or "")
    smith, content = _SMITH.fullmatch(repo), task.get("parsed_commit_content")
    if smith:
        repo, base = f"{smith[1]}/{smith[2]}", smith[3]
    if repo.lower() in NAMES or is_benchmark_fork(repo, (), is_fork="/" not in repo):
        raise LeftOut(Step.BENCHMARK)
    tests: Sequence[FileChange] | None = ()
    if content:
        base, changes = str(task.get("commit_hash") or ""), _told(str(content))
    else:
        tree = _Clone(repo, base, mirrors)
        changes = tree.changes(_code_of(str(task.get("patch") or ""))) or ()
        if smith:
            changes = tuple(FileChange(one.path, one.after, one.before, one.mode) for one in changes)
        tests = tree.changes(said, required=False) if (said := str(task.get("test_patch") or "")) else ()
    if sum(len(one.before or b"") + len(one.after or b"") for one in changes) > most_bytes:
        raise LeftOut(Step.HUGE)
    wanted = [one for one in changes if CODE_SUFFIX.search(one.path) and not is_test_path(one.path)]
    if not wanted or not any(one.before for one in wanted):
        raise LeftOut(Step.NO_CODE)
    if isinstance(write_answer(wanted), Rejected):
        raise LeftOut(Step.UNSAYABLE)
    name = str(task.get("instance_id") or f"{repo}@{base}")
    text = task.get("problem_statement")  # a table of numbers and texts may have NaN where there is none
    issue = text.strip() if isinstance(text, str) else ""
    if not issue:
        raise LeftOut(Step.NO_ISSUE)
    f"{repo}{name}{issue}".encode()  # raises where text is not Unicode
    files = tuple(RowFile(one.path, _text(one.before), _text(one.after)) for one in wanted)
    licence, when = str(task.get("license_name") or task.get("license") or ""), str(task.get("created_at") or "")
    check = _check(task, name, tests, images)
    return Row(name, repo, issue.partition("\n")[0], issue, "", files, base, when, licence, SPLITS[0], check=check)


def _check(task: Task, name: str, tests: Sequence[FileChange] | None, images: str) -> str:
    """Return the check of a task as JSON, "" where no test can be named to pytest, or none was applied."""
    failing, passing = _names(task.get("FAIL_TO_PASS")), _names(task.get("PASS_TO_PASS"))
    spelled = {key: name.lower().replace("__", sign) for key, sign in (("id", "_1776_"), ("id_s", "_s_"))}
    image = str(task.get("image_name") or task.get("docker_image") or images.format(**spelled))
    if not failing or tests is None or not all(map(_PYTEST.fullmatch, failing)):
        return ""
    asked = [*failing, *filter(_PYTEST.fullmatch, passing)][: max(MOST_TESTS, len(failing))]
    files = {one.path: _text(one.after) for one in tests}
    return json.dumps({"image": image, "tests": asked, "files": files})


def _names(said: object) -> list[str]:
    """Return names of tests: a list, or one written as JSON or as Python has it."""
    try:
        found = ast.literal_eval(said) if isinstance(said, str) and said.strip() not in {"", "null"} else said
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise LeftOut(Step.UNREADABLE) from error
    return [str(one) for one in found] if isinstance(found, list | tuple) else []


def _code_of(diff: str) -> str:
    """Return what a patch says of code: other files, binary ones among them, are no part of a row."""
    parts = _FILES.split(diff)
    code = [part for part in parts if CODE_SUFFIX.search(part.partition("\n")[0].rstrip('\r"'))]
    if len(parts) > 1 and not code:
        raise LeftOut(Step.NO_CODE)
    return "".join(code) if code else diff


class _Clone:
    """The tree of a commit of a clone, of which no more is read than patches name."""

    def __init__(self, repo: str, base: str, mirrors: Mirrors) -> None:
        folder = mirrors.find(repo) if _REPO.fullmatch(repo) else None
        if folder is None:
            raise LeftOut(Step.NO_MIRROR)
        self._repo, self._history = repo, History(folder)
        self._base = next(iter(self._history.commits([base] if _COMMIT.fullmatch(base) else [])), "")
        if not self._base:
            raise LeftOut(Step.COMMIT_MISSING)
        if is_benchmark_fork(repo, _roots(folder), is_fork=False):
            raise LeftOut(Step.BENCHMARK_FORK)

    def changes(self, diff: str, *, required: bool = True) -> tuple[FileChange, ...] | None:
        """Return what a patch changes; None of one that git does not apply, unless it is required."""
        specs = {f"{self._base}:{path}": path for path in dict.fromkeys(_PATHS.findall(diff))}
        found = {spec: name for spec, (name, _) in self._history.found([*specs]).items()}
        data = self._history.blobs([*dict.fromkeys(found.values())])
        files = (SourceFile(specs[spec], REGULAR, FileKind.TEXT, data[name]) for spec, name in found.items())
        snapshot = Snapshot(self._repo, self._base, "", tuple(sorted(files, key=lambda file: file.path)))
        with patch_reader(snapshot) as read:
            patch = read(diff.encode("utf-8", "surrogateescape"))
        if isinstance(patch, Patch):
            return changed_files(patch, snapshot.by_path())
        if required:
            raise LeftOut(Step.UNREADABLE, patch.detail)
        return None


@functools.cache
def _roots(folder: Path) -> tuple[str, ...]:
    return History(folder).roots()


def _told(content: str) -> tuple[FileChange, ...]:
    """Return the changes of a commit as R2E-Gym has parsed it; a side without text is no file."""
    try:
        diffs = [one for one in json.loads(content)["file_diffs"] if not one.get("is_binary_file")]
        sides = [
            (str(one["header"]["file"]["path"]), one["old_file_content"], one["new_file_content"]) for one in diffs
        ]
        return tuple(
            FileChange(path, as_bytes(old or None), as_bytes(new or None), REGULAR) for path, old, new in sides
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeftOut(Step.UNREADABLE) from error


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeError as error:
        raise LeftOut(Step.UNREADABLE) from error
