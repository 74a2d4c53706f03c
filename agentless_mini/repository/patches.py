"""Patches that were made elsewhere, read from files and from recorded runs; and git's word on patches of a snapshot.

What git looks at (the files that the patch names, whatever stands in the way of a new one, and `.gitattributes`) is
put into a scratch folder, where `git apply` runs. The rest of the tree, which may have thousands of files, is never
written, and nothing is kept between two patches.
"""

import asyncio
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path, PurePosixPath

from agentless_mini.domain import (
    Candidate,
    Completion,
    FileChange,
    FileKind,
    Finish,
    Patch,
    Proposal,
    Reason,
    Rejected,
    SampleDone,
    Snapshot,
    SourceFile,
    Stage,
    StageStarted,
)
from agentless_mini.edits import Forms, candidate_patch
from agentless_mini.errors import FEW, EnvironmentFailed, RepositoryError, UsageError, boundary, few, printable, reason
from agentless_mini.ports import PatchCheck, Watch
from agentless_mini.record import RunId, Store
from agentless_mini.repository.gitcommand import EXECUTABLE, REGULAR, Answer, GitCommand, decode_path, verdict

# What users have set for their own repositories does not decide what belongs to this one.
CONFIG = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfilemode = true\n\tsymlinks = true\n"
    "\tautocrlf = false\n\texcludesFile =\n\tattributesFile =\n[user]\n\tname = amini\n\temail = amini@localhost\n"
    "[commit]\n\tgpgSign = false\n"
)


class _Scratch:
    """Makes scratch folders of a snapshot; several threads may ask for some."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.files = snapshot.by_path()
        self._folders = {str(folder) for path in self.files for folder in PurePosixPath(path).parents}
        named = self.files.items()
        self._attributes = tuple(file for path, file in named if PurePosixPath(path).name == ".gitattributes")

    @contextmanager
    def holding(self, paths: Collection[str], home: str = "") -> Iterator[GitCommand]:
        """Give git in a folder with what it looks at of a patch of these paths. With a `home` its .git is that one."""
        names = {name for path in paths for name in (path, *map(str, PurePosixPath(path).parents))}
        full = "A patch cannot be checked ({}): free some space in the folder for temporary files."
        unmade = boundary({OSError: lambda error: EnvironmentFailed(full.format(error))})
        with unmade, tempfile.TemporaryDirectory(prefix="amini-check-") as scratch:
            if not home:  # the least that git takes for a repository: it looks for none above and heeds attributes
                for part in ("objects", "refs"):
                    (Path(scratch) / ".git" / part).mkdir(parents=True)
                (Path(scratch) / ".git/HEAD").write_text("ref: refs/heads/none\n")
                (Path(scratch) / ".git/config").write_text(CONFIG)
            for name in sorted(names & self._folders):
                Path(scratch, name).mkdir(parents=True, exist_ok=True)
            for file in (*self._attributes, *(self.files[name] for name in sorted(names & self.files.keys()))):
                _write_source(Path(scratch, file.path), file)
            yield GitCommand(scratch, variables=(f"GIT_DIR={home or scratch}/.git",))


def snapshot_check(snapshot: Snapshot) -> PatchCheck:
    """Return the check of patches against this tree, which several threads may call.

    It raises `EnvironmentFailed` where there is no room for its folder, or no git that answers.
    """
    scratch = _Scratch(snapshot)

    def check(patch: Patch) -> Patch | Rejected:
        with scratch.holding(patch.paths) as git:
            answer = _applied(git, patch.diff, "--check")
        return Rejected(Reason.REFUSED_BY_GIT, answer.complaint) if answer.status else patch

    return check


def _applied(git: GitCommand, diff: bytes, *options: str) -> Answer:
    try:
        return verdict(git.ask("apply", *options, "-", stdin=diff))
    except RepositoryError as error:  # the user named no repository: the machine is to blame
        raise EnvironmentFailed(str(error)) from error


# --- patches that were made elsewhere, on a tree ---------------------------------------------------------------------


@contextmanager
def patch_reader(snapshot: Snapshot) -> Iterator[Callable[[bytes], Patch | Rejected]]:
    """Give what reads a patch by any tool, as `git apply` does, into a patch of this tree; for one thread at a time.

    A rename becomes a deleted and a new file, and a change of a mode is left out. Raises as `snapshot_check`.
    """
    scratch, forms = _Scratch(snapshot), Forms()

    def read(diff: bytes) -> Patch | Rejected:
        if not diff.strip():
            return Rejected(Reason.NO_CHANGE, "it is empty")
        return _some_way(made, diff)

    def made(diff: bytes, level: Sequence[str]) -> Patch | Rejected:
        paths = _named(home, diff, *level)
        if isinstance(paths, Rejected):
            return paths
        if level and scratch.files.keys().isdisjoint(paths):  # else a/ and b/ would be made as folders
            return Rejected(Reason.REFUSED_BY_GIT, "it names no file of the tree")
        for path in paths:
            entry = scratch.files.get(path)
            if not {"", ".", "..", ".git"}.isdisjoint(path.split("/")):
                return Rejected(Reason.BAD_PATH, f"it leads out of the tree ({printable(path)})")
            if entry is not None and entry.kind is not FileKind.TEXT:
                return Rejected(Reason.NOT_EDITABLE, f"{printable(path)} is no text file here ({entry.kind})")
        with scratch.holding(paths, home.folder) as git:
            answer = _applied(git, diff, "--whitespace=nowarn", *level)  # whatever the user has set
            if answer.status:
                hint = "its lines end in CRLF" if b"\r\n" in diff else "it may be of another base"
                return Rejected(Reason.REFUSED_BY_GIT, f"git does not apply it ({answer.complaint}); {hint}")
            changes = [_change(Path(git.folder, path), path, scratch.files.get(path), forms) for path in paths]
        refused = next((one for one in changes if isinstance(one, Rejected)), None)
        differing = [one for one in changes if isinstance(one, FileChange) and one.before != one.after]
        unchanged = Rejected(Reason.NO_CHANGE, "it changes no line")
        return refused or (candidate_patch(differing, forms) if differing else unchanged)

    with scratch.holding(()) as home:  # a folder is slow to make and to remove
        yield read


def _named(git: GitCommand, diff: bytes, *level: str) -> list[str] | Rejected:
    """Return the paths that a patch names: of a rename the first list has the new one, the second the old one."""
    moves = b"\nrename " in diff or b"\ncopy " in diff
    listed = [_applied(git, diff, "--numstat", "-z", *level, *["--reverse"] * way) for way in range(1 + moves)]
    if complaint := listed[0].complaint if listed[0].status else "":
        return Rejected(Reason.REFUSED_BY_GIT, f"it is no patch that git can read ({complaint})")
    entries = [entry.split(b"\t", 2) for answer in listed for entry in answer.out.split(b"\0")[:-1]]
    if any(added == b"-" for added, *_ in entries):
        return Rejected(Reason.NOT_EDITABLE, "it changes a binary file")
    return sorted({decode_path(name) for *_, name in entries})


def _some_way(made: Callable[[bytes, Sequence[str]], Patch | Rejected], diff: bytes) -> Patch | Rejected:
    """Read it as it is, or else without a/ and b/, or with the empty lines of context at its end that stripping took.

    There are at most three of these (git's context); without them git calls the patch corrupt.
    """
    whole = diff if diff.endswith(b"\n") else diff + b"\n"
    ways = ((whole + b" \n" * lost, level) for lost in range(4) for level in ((), ("-p0",)))
    found = made(*next(ways))
    if isinstance(found, Patch) or found.reason is not Reason.REFUSED_BY_GIT:
        return found
    return next((one for one in starmap(made, ways) if isinstance(one, Patch)), found)


def _change(now: Path, path: str, entry: SourceFile | None, forms: Forms) -> FileChange | Rejected:
    is_there = now.is_file()
    after = now.read_bytes() if is_there and not now.is_symlink() else None
    kinds = {"symbolic link": now.is_symlink(), "submodule": entry is None and now.is_dir()}
    kinds["binary file"] = b"\0" in (after or b"")
    if kind := next((kind for kind, made in kinds.items() if made), None):
        return Rejected(Reason.NOT_EDITABLE, f"it makes a {kind} ({printable(path)})")
    before = entry.data if entry else None
    if after != before and (problem := forms.fault(path, before, after)):
        return Rejected(Reason.SYNTAX, f"{printable(path)} would no longer parse, {problem}")
    made = EXECUTABLE if is_there and os.access(now, os.X_OK) else REGULAR
    return FileChange(path, before, after, entry.mode if entry else made)


async def read_pool(pool: Sequence[Proposal], tree: Snapshot, check: PatchCheck, watch: Watch) -> tuple[Candidate, ...]:
    """Return what became of each patch on this tree, in order, and can be cancelled. Raises as `snapshot_check`."""
    if not pool:
        return ()
    watch(StageStarted(Stage.CHOOSE, len(pool)))
    known: dict[bytes, Patch | Rejected] = {}
    candidates: list[Candidate] = []
    seen: Counter[Proposal] = Counter()
    with patch_reader(tree) as read:
        for order, one in enumerate(pool):
            if one.diff not in known:
                found = await asyncio.to_thread(read, one.diff)
                known[one.diff] = found if isinstance(found, Rejected) else await asyncio.to_thread(check, found)
            outcome = known[one.diff]
            candidates.append(Candidate(one.request().key(), seen[one], order, outcome))
            done = Completion(seen[one], "", Finish.STOP)
            watch(SampleDone(Stage.CHOOSE, done, outcome if isinstance(outcome, Rejected) else None))
            seen[one] += 1
    return tuple(candidates)


def record_pool(store: Store, run: RunId, pool: Sequence[Proposal], candidates: Sequence[Candidate]) -> None:
    """Record the patches as what a run uses, as samples of their sources."""
    for one, candidate in zip(pool, candidates, strict=True):
        text = one.diff.decode("utf-8", "surrogateescape")
        key = store.put_request(request := one.request())
        store.put_sample(key, request, Completion(candidate.index, text, Finish.STOP))
        store.runs.link(run, key, candidate.index)


def _write_source(path: Path, file: SourceFile) -> None:
    """Write a text as it is; of other files, which no patch can change, write what keeps their name taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match file.kind:
        case FileKind.SYMLINK:
            path.symlink_to("amini-does-not-know-the-target")  # git follows none
        case FileKind.SUBMODULE:
            path.mkdir(exist_ok=True)
        case _:
            path.write_bytes(file.data)
            os.chmod(path, 0o755 if file.mode == "100755" else 0o644)  # noqa: PTH101 - a name may hold any byte


# --- where they come from --------------------------------------------------------------------------------------------

_PATCHES, _PREDICTIONS = {".patch", ".diff"}, {".json", ".jsonl"}


@dataclass(frozen=True, slots=True)
class Proposed:
    """A row in SWE-bench's format: what a system proposes for an instance, and the file that says so."""

    instance: str
    system: str
    diff: bytes
    file: str


def read_proposals(words: Sequence[str], instance: str | None) -> tuple[Proposal, ...]:
    """Return the patches in these files and folders, in their order; of predictions those of the instance.

    Each file counts once. Raises `UsageError` where a file cannot be read, or does not say which instance is meant.
    """
    found: list[Proposed] = []
    files = [file for word in words for file in _files(Path(word), _PATCHES | _PREDICTIONS)]
    for path in {file.resolve(): file for file in files}.values():  # however it is spelled
        name = str(path)
        if path.suffix not in _PREDICTIONS:
            with _reading(path):
                found.append(Proposed("", name, path.read_bytes(), name))
            continue
        rows = list(_predictions(path))
        instances = sorted({row.instance for row in rows})
        if instance is None and len(instances) > 1:
            raise UsageError(
                f"{printable(name)} has predictions of {len(instances)} instances: name one with --instance, such as "
                f"{printable(instances[0])}."
            )
        said = [row for row in rows if instance in {None, row.instance}]
        if not said:
            raise UsageError(f"{printable(name)} has no prediction of {printable(str(instance))}: check --instance.")
        found += said
    return tuple(Proposal(source, row.diff) for source, row in _named_apart(found))


def of_runs(store: Store, runs: str) -> tuple[Proposal, ...]:
    """Return the valid patches of recorded runs, one for each sample that has a vote, in their order.

    `runs` are numbers with commas between them. Raises `UsageError` where one is no run, or has no patch.
    """
    proposals: list[Proposal] = []
    for word in dict.fromkeys(word.strip() for word in runs.split(",")):
        if not word.isascii() or not word.isdecimal() or not 0 < len(word) < 19:
            raise UsageError(f"{printable(repr(word))} is no run: give numbers to --runs, such as 3,5.")
        trace = store.runs.trace(RunId(int(word)))
        made = [one.outcome for one in trace.candidates() if isinstance(one.outcome, Patch) and not one.repeats]
        if not made:
            raise UsageError(f"Run {word} came to no patch: leave it out of --runs; amini show lists the runs.")
        proposals += [Proposal(f"run {word} ({trace.run.start.model})", patch.diff) for patch in made]
    return tuple(proposals)


def read_predictions(places: Sequence[Path]) -> dict[str, tuple[Proposal, ...]]:
    """Return what each system proposes, by instance: nothing (an empty patch) where its file has no row of one.

    A folder stands for the predictions in it and in the folders of submissions below it. Raises `UsageError`.
    """
    files = dict.fromkeys(file for place in places for file in _files(place, _PREDICTIONS))
    rows = [row for file in files for row in _predictions(file)]
    table: dict[str, dict[str, bytes]] = {}
    for system, row in _named_apart(rows):
        if row.instance in table.setdefault(system, {}):
            raise UsageError(f"{printable(row.file)} has {printable(row.instance)} twice: leave one of the rows out.")
        table[system][row.instance] = row.diff
    return {
        name: tuple(Proposal(system, said.get(name, b"")) for system, said in table.items())
        for name in sorted({row.instance for row in rows})
    }


def notes_on(pool: Sequence[Proposal], candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return sentences on the patches that cannot be used, and on the largest groups that say the same."""
    notes = []
    groups: dict[str, Counter[str]] = {}
    for one, candidate in zip(pool, candidates, strict=True):
        name = printable(one.source)
        if isinstance(candidate.outcome, Patch):
            groups.setdefault(candidate.outcome.normal, Counter())[name] += 1
        else:
            notes.append(f"{name} cannot be used: {candidate.outcome.detail}.")
    for names in sorted(groups.values(), key=Counter.total, reverse=True)[:FEW]:
        said = [f"{name} ({count} times)" if count > 1 else name for name, count in names.items()]
        if names.total() > 1:
            says = "say" if len(said) > 1 else "says"
            notes.append(f"{few(said)} {says} the same: one change of {names.total()} votes.")
    return tuple(notes)


def _named_apart(rows: Sequence[Proposed]) -> Iterator[tuple[str, Proposed]]:
    """Yield each with the name of its system, and that of the file too where several files have that system."""
    files = Counter(system for system, _ in {(row.system, row.file) for row in rows})
    for row in rows:
        yield row.system if files[row.system] == 1 else f"{row.system} ({row.file})", row


def _reading(path: Path) -> AbstractContextManager[None]:
    unread = f"{printable(str(path))} cannot be read"
    return boundary({OSError: lambda error: UsageError(f"{unread} ({reason(error)}): check its name and permissions.")})


def _files(place: Path, suffixes: set[str]) -> list[Path]:
    with _reading(place):
        if not place.exists():
            raise UsageError(f"There is no file {printable(str(place))}: name a patch, a folder, or predictions.")
        if not place.is_dir():
            return [place]
        inside = [path for path in sorted(place.iterdir()) if path.suffix in suffixes and path.is_file()]
        inside += sorted(place.glob("*/*pred*.json*"))  # such as all_preds.jsonl of SWE-bench's submissions
    if not inside:
        raise UsageError(f"The folder {printable(str(place))} has no {', '.join(sorted(suffixes))} file: name another.")
    return inside


def _predictions(path: Path) -> Iterator[Proposed]:
    """Yield the rows of a file: JSON lines, a list, one row, or rows by instance."""
    shown = printable(str(path))

    def wrong(why: str) -> UsageError:
        return UsageError(f"{shown} has no predictions in SWE-bench's format ({why}): see `amini help choose`.")

    where = ""
    try:
        with _reading(path):
            text = path.read_bytes().decode("utf-8-sig")
        try:
            read = json.loads(text)
        except ValueError:
            read = []
            for number, line in enumerate(text.split("\n"), 1):
                where = f"line {number}: "
                read += [json.loads(line)] if line.strip() else []
    except (ValueError, RecursionError) as error:
        raise wrong(f"it is neither JSON nor JSON lines: {where}{getattr(error, 'msg', error)}") from error
    if isinstance(read, dict):
        read = [read] if "instance_id" in read else [*read.values()]
    if not isinstance(read, list) or not read:
        raise wrong("it has no rows")
    for row in read:
        given = (row.get("instance_id"), row.get("model_patch", 0) or "") if isinstance(row, dict) else ()
        match given:
            case str(name), str(patch) if "model_patch" in row:
                system = str(row.get("model_name_or_path") or path.stem)
                yield Proposed(name, system, patch.encode("utf-8", "surrogatepass"), shown)
            case _:
                raise wrong("a row lacks instance_id or model_patch, or they are no texts")
