"""The rows of each part of the owners, and then of all: near-duplicates go, families of forks stay together.

A part is a folder: `rows.parquet` has its rows with their shingles, whose splits are not yet known, and `told.json`
how many pull requests each step left out, what could not be read, and the kin of repositories. Parts are read in their
order, so what comes of them does not hang on who made them.

Near-duplicates are rows whose issue and change are almost the same, as backports and forks make them. A row is the set
of its shingles: runs of three words of the issue and of the lines that the change adds and removes. datasketch's index
finds the rows that may be similar, and the similarity of Jaccard that decides is exact.

Repositories are of one family where they have a first commit in common, or events say that one was forked from the
other. Its name is the least first commit of its members, or the least name in lower case where none is known: more
input can join families, but does not rename one whose members are cloned.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from agentless_mini.errors import RepositoryError, printable
from agentless_mini.learning.curation.events import part_of
from agentless_mini.learning.curation.filters import NAMES, LeftOut, Step, before_the_mirror, is_benchmark_fork
from agentless_mini.learning.curation.history import History, Mirrors
from agentless_mini.learning.curation.joined import Joined, Known, engine
from agentless_mini.learning.curation.pulls import Finding, Relevance, RowMaker
from agentless_mini.learning.rows import SPLITS, Row, RowFile, read_rows, row_schema, write_rows, write_table
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
    import pyarrow

    events = [listed.parent / "events" / name for name in listed.read_text("utf-8").split()]
    record.parent.mkdir(parents=True, exist_ok=True)
    shard.mkdir()
    with engine() as database, finding(record) as relevance:
        work = _Part(Joined(database, events, part), mirrors, settings, relevance)
        for name in sorted(NAMES):
            if part_of(name, settings.partitions) == part and (folder := mirrors.kept(name)) is not None:
                work.note_kin(name, History(folder))  # the first commits of benchmarks tell forks of them
        schema = row_schema().append(pyarrow.field("shingles", pyarrow.list_(pyarrow.uint32())))
        made = ({**asdict(row), "shingles": shingles_of(row)} for row in work.rows())
        write_table(shard / "rows.parquet", made, schema)
    told = {"left_out": work.left_out, "rejected": work.rejected, "kin": work.kin}
    (shard / "told.json").write_text(json.dumps(told), "utf-8")


@dataclass(eq=False)
class _Part:
    """Passes the pull requests of a part through the filters, and counts what is left out."""

    known: Joined
    mirrors: Mirrors
    settings: CurateSettings
    relevance: Relevance
    left_out: Counter[str] = field(default_factory=Counter)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)
    kin: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """Yield the rows."""
        for known in self.known.repos():
            maker: RowMaker | LeftOut | None = None
            pulls = self.known.pulls(known.repo)
            while some := dict(islice(pulls, AT_ONCE)):
                steps = {number: before_the_mirror(known.repo, pull) for number, pull in some.items()}
                found: dict[int, Row | LeftOut] = {n: LeftOut(step) for n, step in steps.items() if step}
                if left := {number: pull for number, pull in some.items() if number not in found}:
                    maker = maker or self._maker(known)
                    found |= maker.rows(left) if isinstance(maker, RowMaker) else dict.fromkeys(left, maker)
                for number, outcome in found.items():
                    if isinstance(outcome, Row):
                        yield outcome
                        continue
                    self.left_out[outcome.step] += 1
                    if outcome.step in {Step.UNREADABLE, Step.MIRROR_BROKEN} and outcome.detail:
                        self._put_aside(f"{known.repo}#{number}", outcome.step, outcome.detail)

    def _maker(self, known: Known) -> RowMaker | LeftOut:
        """Open the mirror, or return why the repository is left out."""
        folder = next(filter(None, map(self.mirrors.find, (known.repo, *known.former))), None)
        if folder is None:
            return LeftOut(Step.NO_MIRROR)
        history = History(folder)
        if not self.note_kin(known.repo, history, (*filter(None, known.origins), *known.former)):
            return LeftOut(Step.MIRROR_BROKEN)
        if is_benchmark_fork(known.repo, self.kin[known.repo], bool(known.origins)):
            del self.kin[known.repo]
            return LeftOut(Step.BENCHMARK_FORK)
        return RowMaker(known.repo, self.known, history, self.settings, self.relevance)

    def note_kin(self, repo: str, history: History, others: Sequence[str] = ()) -> bool:
        """Note the first commits of a repository and others; return whether the mirror can be read."""
        try:
            self.kin[repo] = (*history.roots(), *others)
        except RepositoryError as error:
            self._put_aside(repo, Step.MIRROR_BROKEN, str(error))
            return False
        return True

    def _put_aside(self, place: str, step: Step, detail: str) -> None:
        self.rejected.append((place, step, printable(detail)[:200]))


# --- near-duplicates -------------------------------------------------------------------------------------------------


def shingles_of(row: Row) -> Any:  # noqa: ANN401 - an array
    """Return the hashes of a row's shingles, sorted, each once."""
    import numpy
    from datasketch import sha1_hash32

    texts = [row.issue, *(line for file in row.files for line in _changed_lines(file))]
    words = [word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())][:MOST_SHINGLES]
    runs = {" ".join(words[at : at + WORDS]) for at in range(max(1, len(words) - WORDS + 1))} if words else set()
    return numpy.unique(numpy.array([sha1_hash32(run.encode("utf-8", "replace")) for run in runs], numpy.uint32))


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
    """Tells which of some rows, given in order by their shingles, are like one that was kept before."""

    def __init__(self, similar: float) -> None:
        """From a similarity of `similar` on two rows are alike."""
        from datasketch import MinHashLSH

        self._similar = similar
        self._index = MinHashLSH(num_perm=MARK, params=(BANDS, DEPTH))
        self._kept: list[Any] = []

    def is_new(self, shingles: Any) -> bool:  # noqa: ANN401 - an array
        """Tell whether no row that was kept is similar to one, and keep this one if so."""
        from datasketch import MinHash

        sketch = MinHash(MARK, hashfunc=int, scheme="affine32")
        sketch.update_batch(shingles)
        if any(_jaccard(shingles, self._kept[one]) >= self._similar for one in self._index.query(sketch)):
            return False
        self._index.insert(len(self._kept), sketch, check_duplication=False)
        self._kept.append(shingles)
        return True


def _jaccard(one: Any, other: Any) -> float:  # noqa: ANN401 - arrays
    import numpy

    both = numpy.intersect1d(one, other, assume_unique=True).size
    every = one.size + other.size - both
    return float(both / every) if every else 1.0


# --- families and splits ---------------------------------------------------------------------------------------------


def families_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the name of the family of each repository and first commit, in lower case, by pairs of one family."""
    families: dict[str, set[str]] = {}
    for one, other in pairs:
        own, others = (families.setdefault(name, {name}) for name in (one.lower(), other.lower()))
        if own is not others:
            fewer, more = sorted((own, others), key=len)
            more |= fewer
            families.update(dict.fromkeys(fewer, more))
    names: dict[str, str] = {}
    for members in {id(members): members for members in families.values()}.values():
        first = min(members, key=lambda name: ("/" in name, name))  # ids hold no "/" and come before repositories
        names.update(dict.fromkeys(members, first))
    return names


def forks_of(repos: Iterable[str], events: Sequence[Path]) -> list[tuple[str, str]]:
    """Return pairs of fork and origin: what events say repositories were forked from, and these, all the way up."""
    asked = """
        WITH RECURSIVE fork AS MATERIALIZED (
            SELECT DISTINCT lower(repo) AS name, lower(origin) AS origin FROM read_parquet($events)
            WHERE kind = 'fork' AND uid = 'origin'
        ), up(name) AS (SELECT unnest($names::VARCHAR[]) UNION SELECT origin FROM up JOIN fork USING (name))
        SELECT name, origin FROM fork SEMI JOIN up USING (name)
    """
    given = {"events": list(map(str, events)), "names": sorted({repo.lower() for repo in repos})}
    with engine() as database:
        return database.execute(asked, given).fetchall()


def split_of(family: str, settings: CurateSettings) -> str:
    """Return the split of a family: by its name and the seed. More input moves no row unless families join."""
    digest = hashlib.sha256(f"{settings.seed} {family}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < settings.test:
        return "test"
    return "valid" if place < settings.test + settings.valid else "train"


def collect(parts: Sequence[Path], families: Mapping[str, str], out: Path, settings: CurateSettings) -> Counter[str]:
    """Write train, valid and test; return how many rows of the parts each split has, and each step left out."""
    import numpy

    barred = {families.get(name, name) for name in NAMES}
    duplicates = NearDuplicates(settings.similar)
    became: list[str] = []
    with engine() as database:
        asked = "SELECT lower(repo), shingles FROM read_parquet($1)"
        found = database.execute(asked, [[str(part / "rows.parquet") for part in parts]])
        for repo, shingles in iter(found.fetchone, None):
            family = families.get(repo, repo)
            if family in barred:
                became.append(Step.BENCHMARK_FORK)
            else:
                is_new = duplicates.is_new(numpy.array(shingles, numpy.uint32))
                became.append(split_of(family, settings) if is_new else Step.DUPLICATE)
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
