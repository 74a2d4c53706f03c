"""The rows of each part of the owners, and then of all: near-duplicates go, families of forks stay together.

A part is a folder:

    rows.parquet     its rows, whose splits are not yet known
    marks            of each the number of its shingles, and its MinHash
    shingles         of each the hashes of its shingles
    told.json        its pull requests, how many each step left out, what could not be read, the kin of repositories

Parts are read in their order, so what comes of them does not hang on who made them.

Near-duplicates are rows whose issue and change are almost the same, as backports and forks make them. A row is the set
of its shingles: runs of three words of the issue and of the lines that the change adds and removes. datasketch's index
finds the rows that may be similar; of these the shingles are compared, so the similarity of Jaccard that decides is
exact.

Repositories are of one family where they have a first commit in common, or events say that one was forked from the
other. A family is known by the least first commit of its members, or by the least name in lower case where none is
known: more input can join families, but does not rename one whose members are cloned.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from agentless_mini.errors import RepositoryError, printable
from agentless_mini.learning.curation.events import part_of
from agentless_mini.learning.curation.filters import NAMES, LeftOut, Step, before_the_mirror, is_benchmark_fork
from agentless_mini.learning.curation.history import History, Mirrors
from agentless_mini.learning.curation.joined import Joined, Pull, engine
from agentless_mini.learning.curation.pulls import Finding, Relevance, RowMaker
from agentless_mini.learning.rows import SPLITS, Row, RowFile, read_rows, write_rows
from agentless_mini.settings.learning import CurateSettings

# Numbers of a MinHash: at a similarity of 0.8 all but one of 10 million pairs share a band.
MARK, BANDS, DEPTH = 128, 32, 4
WORDS = 3
MOST_SHINGLES = 20_000
AT_ONCE = 32  # pull requests


def shard_part(
    part: int, listed: Path, mirrors: Mirrors, settings: CurateSettings, finding: Finding, record: Path, shard: Path
) -> None:
    """Write the folder of a part. `listed` names the shards of events, `record` keeps what a model says."""
    events = [listed.parent / "events" / name for name in listed.read_text("utf-8").split()]
    record.parent.mkdir(parents=True, exist_ok=True)
    shard.mkdir()
    with (
        engine() as database,
        finding(record) as relevance,
        (shard / "marks").open("wb") as marks,
        (shard / "shingles").open("wb") as shingles,
    ):
        work = _Part(Joined(database, events, part), mirrors, settings, relevance)
        work.note_benchmarks(part)

        def marked() -> Iterator[Row]:
            for row in work.rows():
                mark, hashes = mark_of(row)
                marks.write(mark.tobytes())
                shingles.write(hashes.tobytes())
                yield row

        write_rows(shard / "rows.parquet", marked())
    (shard / "told.json").write_text(json.dumps(work.told), "utf-8")


@dataclass(eq=False)
class _Part:
    """Passes the pull requests of a part through the filters."""

    known: Joined
    mirrors: Mirrors
    settings: CurateSettings
    relevance: Relevance
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.told: dict[str, Any] = {"pulls": 0, "left_out": self.left_out, "rejected": [], "kin": {}}

    def note_benchmarks(self, part: int) -> None:
        """Note the first commits of the benchmarks' repositories that have a mirror: they tell forks of them."""
        for name in sorted(NAMES):
            folder = self.mirrors.kept(name) if part_of(name, self.settings.partitions) == part else None
            if folder is not None:
                try:
                    self.told["kin"][name] = History(folder).roots()
                except RepositoryError as error:
                    self._put_aside(name, Step.MIRROR_BROKEN, str(error))

    def rows(self) -> Iterator[Row]:
        """Yield the rows, and count what is left out."""
        for repo in self.known.repos():
            maker: RowMaker | LeftOut | None = None
            promising = self._promising(repo)
            while pulls := dict(islice(promising, AT_ONCE)):
                maker = maker or self._maker(repo)
                found = maker.rows(pulls) if isinstance(maker, RowMaker) else dict.fromkeys(pulls, maker)
                for number, outcome in found.items():
                    if isinstance(outcome, Row):
                        yield outcome
                        continue
                    self.left_out[outcome.step] += 1
                    if outcome.step in {Step.UNREADABLE, Step.MIRROR_BROKEN} and outcome.detail:
                        self._put_aside(f"{repo}#{number}", outcome.step, outcome.detail)

    def _promising(self, repo: str) -> Iterator[tuple[int, Pull]]:
        """Yield the pull requests that events say nothing against."""
        for number, pull in self.known.pulls(repo):
            self.told["pulls"] += 1
            if step := before_the_mirror(repo, pull):
                self.left_out[step] += 1
            else:
                yield number, pull

    def _maker(self, repo: str) -> RowMaker | LeftOut:
        """Open the mirror, or return why the repository is left out."""
        former = self.known.former(repo)
        folder = next(filter(None, map(self.mirrors.find, (repo, *former))), None)
        if folder is None:
            return LeftOut(Step.NO_MIRROR)
        history = History(folder)
        try:
            roots = history.roots()
        except RepositoryError as error:
            self._put_aside(repo, Step.MIRROR_BROKEN, str(error))
            return LeftOut(Step.MIRROR_BROKEN)
        is_fork, origins = self.known.forked(repo)
        kin = (*roots, *origins, *former)
        if is_benchmark_fork(repo, kin, is_fork):
            return LeftOut(Step.BENCHMARK_FORK)
        self.told["kin"][repo] = kin
        return RowMaker(repo, self.known, history, self.settings, self.relevance)

    def _put_aside(self, place: str, step: Step, detail: str) -> None:
        self.told["rejected"].append((place, step, printable(detail)[:200]))


# --- near-duplicates -------------------------------------------------------------------------------------------------


def mark_of(row: Row) -> tuple[Any, Any]:
    """Return the mark of a row, the number of its shingles and a MinHash of them, and their hashes, sorted."""
    import numpy
    from datasketch import MinHash, sha1_hash32

    texts = [row.issue, *(line for file in row.files for line in _changed_lines(file))]
    words = [word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())][:MOST_SHINGLES]
    runs = {" ".join(words[at : at + WORDS]) for at in range(max(1, len(words) - WORDS + 1))} if words else set()
    hashes = numpy.unique(numpy.array([sha1_hash32(run.encode("utf-8", "replace")) for run in runs], numpy.uint32))
    sketch = MinHash(MARK, hashfunc=int, scheme="affine32")
    sketch.update_batch(hashes)
    return numpy.array([len(hashes), *sketch.hashvalues], numpy.uint32), hashes


def _changed_lines(file: RowFile) -> Iterator[str]:
    """Yield the lines that only one side has, counted, in the order of the sides."""
    before, after = ((text or "").split("\n") for text in (file.before, file.after))
    for side, other in ((before, after), (after, before)):
        own = Counter(side) - Counter(other)
        for line in side:
            if own[line] > 0:
                own[line] -= 1
                yield line


class NearDuplicates:
    """Tells which of some rows, given in order, are like one that was kept before."""

    def __init__(self, marks: Any, shingles: Sequence[Any], similar: float) -> None:  # noqa: ANN401 - an array
        """Compare rows by all marks and the shingles of each; from a similarity of `similar` on they are alike."""
        from datasketch import MinHashLSH

        self._marks = marks
        self._shingles = shingles
        self._similar = similar
        self._index = MinHashLSH(num_perm=MARK, params=(BANDS, DEPTH))

    def is_new(self, number: int) -> bool:
        """Tell whether no row that was kept is similar to one, and keep this one if so."""
        from datasketch import LeanMinHash

        sketch = LeanMinHash(seed=1, hashvalues=self._marks[number, 1:], scheme="affine32")
        if any(self._jaccard(number, one) >= self._similar for one in self._index.query(sketch)):
            return False
        self._index.insert(number, sketch, check_duplication=False)
        return True

    def _jaccard(self, one: int, other: int) -> float:
        import numpy

        both = numpy.intersect1d(self._shingles[one], self._shingles[other], assume_unique=True).size
        every = len(self._shingles[one]) + len(self._shingles[other]) - both
        return float(both / every) if every else 1.0

    @classmethod
    def of(cls, parts: Sequence[Path], similar: float) -> "NearDuplicates":
        """Compare the rows of parts, whose shingles stay on the disk."""
        import numpy

        marks, shingles = [], []
        for part in parts:
            own = numpy.fromfile(part / "marks", numpy.uint32).reshape(-1, MARK + 1)
            marks.append(own)
            some = own[:, 0].any()  # an empty file cannot be mapped
            hashes = numpy.asarray(numpy.memmap(part / "shingles", numpy.uint32, "r") if some else [], numpy.uint32)
            shingles += numpy.split(hashes, own[:, 0].cumsum()[:-1])[: len(own)]
        return cls(numpy.concatenate(marks), shingles, similar)


# --- families and splits ---------------------------------------------------------------------------------------------


class Families:
    """Repositories and first commits, joined as they are told of: a forest of union and find."""

    def __init__(self) -> None:
        """Know of none."""
        self._parents: dict[str, str] = {}

    def join(self, repo: str, kin: Iterable[str]) -> None:
        """Say that a repository is of one family with others: repositories by name, or first commits by id.

        Names hold a "/" and ids do not; of the two an id becomes the family's.
        """
        for other in kin:
            one, two = sorted((self.of(repo), self.of(other)), key=lambda name: ("/" in name, name))
            if one != two:
                self._parents[two] = one

    def of(self, repo: str) -> str:
        """Return the name of the family of a repository."""
        name = repo.lower()
        while (parent := self._parents.get(name)) is not None:
            self._parents[name] = self._parents.get(parent, parent)
            name = parent
        return name


def families_of(kin: Iterable[tuple[str, Sequence[str]]], events: Sequence[Path]) -> Families:
    """Join repositories with their kin, and these with what events say that they were forked from, all the way up."""
    families = Families()
    names: set[str] = set()
    for repo, others in kin:
        families.join(repo, others)
        names.update(other.lower() for other in (repo, *others) if "/" in other)
    asked = """
        WITH RECURSIVE fork AS MATERIALIZED (
            SELECT DISTINCT lower(repo) AS name, lower(origin) AS origin FROM read_parquet($events)
            WHERE kind = 'fork' AND uid = 'origin'
        ), up(name) AS (SELECT unnest($names::VARCHAR[]) UNION SELECT origin FROM up JOIN fork USING (name))
        SELECT name, origin FROM fork SEMI JOIN up USING (name)
    """
    with engine() as database:
        given = {"events": list(map(str, events)), "names": sorted(names)}
        for name, origin in database.execute(asked, given).fetchall():
            families.join(name, [origin])
    return families


def split_of(family: str, settings: CurateSettings) -> str:
    """Return the split of a family: by its name and the seed. More input moves no row unless families join."""
    digest = hashlib.sha256(f"{settings.seed} {family}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < settings.test:
        return "test"
    return "valid" if place < settings.test + settings.valid else "train"


def collect(parts: Sequence[Path], families: Families, out: Path, settings: CurateSettings) -> Counter[str]:
    """Write train, valid and test; return how many rows of the parts each split has, and each step left out."""
    barred = {families.of(name) for name in NAMES}
    duplicates = NearDuplicates.of(parts, settings.similar)
    became: list[str] = []
    with engine() as database:
        rows = database.execute("SELECT repo FROM read_parquet($1)", [[str(part / "rows.parquet") for part in parts]])
        while row := rows.fetchone():
            family = families.of(row[0])
            is_new = family not in barred and duplicates.is_new(len(became))
            out_at = Step.BENCHMARK_FORK if family in barred else Step.DUPLICATE
            became.append(split_of(family, settings) if is_new else out_at)
    for split in SPLITS:
        every = chain.from_iterable(read_rows(part / "rows.parquet") for part in parts)
        own = (replace(row, split=split) for row, one in zip(every, became, strict=True) if one == split)
        partial, folder = out / f".{split}.partial", out / split
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for number, first in enumerate(own):
            rest = islice(own, settings.rows_per_file - 1)
            write_rows(partial / f"{number:05}.parquet", chain([first], rest))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return Counter(became)
