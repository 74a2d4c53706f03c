"""The work on one part of the owners: joins its events, passes its pull requests through the filters, makes its rows.

Pull requests are taken a few at a time, so that git is asked for many at once and memory does not grow with them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agentless_mini.errors import RepositoryError, printable
from agentless_mini.learning.curation.event_shards import Aside, part_of
from agentless_mini.learning.curation.exclusions import NAMES, is_benchmark_fork
from agentless_mini.learning.curation.filters import before_the_mirror, by_changes, by_title
from agentless_mini.learning.curation.history import History
from agentless_mini.learning.curation.joined import Joined, joined
from agentless_mini.learning.curation.making import LeftOut, RowMaker
from agentless_mini.learning.curation.mirrors import Mirrors
from agentless_mini.learning.curation.pulls import Merged, story
from agentless_mini.learning.curation.records import PullFacts
from agentless_mini.learning.curation.relevance import Relevance
from agentless_mini.learning.curation.row_shards import RowSink, row_sink
from agentless_mini.learning.curation.settings import CurateSettings
from agentless_mini.learning.curation.spans import Span, spans
from agentless_mini.learning.curation.steps import Step
from agentless_mini.learning.rows import Row

AT_ONCE = 32  # pull requests


@dataclass(frozen=True, slots=True)
class Tools:
    """What the parts are worked on with."""

    mirrors: Mirrors
    settings: CurateSettings
    relevance: Relevance


def shard_part(part: int, events: Iterable[Path], shard: Path, tools: Tools) -> None:
    """Write the shard of a part from all shards of events."""
    with joined(events, part) as known, row_sink(shard) as sink:
        for name, origin in known.forks():
            sink.fork(name, origin)
        _note_benchmarks(part, sink, tools)
        for repo in known.repos():
            _Bench(repo, known, sink, tools).work()


def _note_benchmarks(part: int, sink: RowSink, tools: Tools) -> None:
    """Note the first commits of the benchmarks' repositories that have a mirror: they tell forks of them."""
    for name in sorted(NAMES):
        folder = tools.mirrors.kept(name) if part_of(name, tools.settings.partitions) == part else None
        if folder is not None:
            try:
                sink.repo(name, History(folder).roots())
            except RepositoryError as error:
                sink.put_aside(Aside(name, Step.MIRROR_BROKEN, str(error)))


class _Bench:
    """Where the pull requests of one repository become rows, or are left out."""

    def __init__(self, repo: str, known: Joined, sink: RowSink, tools: Tools) -> None:
        self._repo = repo
        self._known = known
        self._sink = sink
        self._tools = tools

    def work(self) -> None:
        """Work through all pull requests."""
        maker: RowMaker | Step | None = None
        for pulls in _groups(self._promising()):
            maker = self._maker() if maker is None else maker
            for number, outcome in self._outcomes(pulls, maker).items():
                self._take(number, outcome)

    def _promising(self) -> Iterator[tuple[int, PullFacts]]:
        """Yield the pull requests that events say nothing against."""
        for number in list(self._known.pulls(self._repo)):
            self._sink.pull()
            pull = self._known.pull(self._repo, number)
            step = before_the_mirror(self._repo, pull)
            if step is None:
                yield number, pull
            else:
                self._sink.leave_out(step)

    def _maker(self) -> RowMaker | Step:
        """Open the mirror, or return why the repository is left out."""
        names = (self._repo, *self._known.former(self._repo))
        folder = next(filter(None, map(self._tools.mirrors.find, names)), None)
        if folder is None:
            return Step.NO_MIRROR
        history = History(folder)
        try:
            roots = history.roots()
        except RepositoryError as error:
            self._sink.put_aside(Aside(self._repo, Step.MIRROR_BROKEN, str(error)))
            return Step.MIRROR_BROKEN
        origins = (*self._known.origins(self._repo), *names[1:])
        if is_benchmark_fork(self._repo, origins=origins, said=self._known.is_fork(self._repo), roots=roots):
            return Step.BENCHMARK_FORK
        self._sink.repo(self._repo, (*roots, *origins))
        return RowMaker(history, self._tools.settings, self._tools.relevance)

    def _outcomes(self, pulls: Mapping[int, PullFacts], maker: RowMaker | Step) -> dict[int, Row | LeftOut]:
        """Return the row of each pull request, or why there is none."""
        if isinstance(maker, Step):
            return dict.fromkeys(pulls, LeftOut(maker))
        try:
            found = spans(maker.history, pulls)
            return {
                number: LeftOut(span) if isinstance(span, Step) else self._outcome(number, pulls[number], span, maker)
                for number, span in found.items()
            }
        except RepositoryError as error:
            if len(pulls) == 1:
                return dict.fromkeys(pulls, LeftOut(Step.MIRROR_BROKEN, str(error)))
        # One commit that git cannot read is no reason to lose the others.
        return {n: outcome for n in pulls for outcome in self._outcomes({n: pulls[n]}, maker).values()}

    def _outcome(self, number: int, pull: PullFacts, span: Span, maker: RowMaker) -> Row | LeftOut:
        step = by_changes(span.changes, self._tools.settings)
        if step is not None:
            return LeftOut(step)
        merged = Merged(self._repo, number, pull, span)
        told = story(self._known, maker.history, merged)
        if isinstance(told, Step):
            return LeftOut(told)
        step = by_title(told.title)
        return LeftOut(step) if step else maker.row(merged, told)

    def _take(self, number: int, outcome: Row | LeftOut) -> None:
        if isinstance(outcome, Row):
            self._sink.keep(outcome)
            return
        self._sink.leave_out(outcome.step)
        if outcome.step in {Step.UNREADABLE, Step.MIRROR_BROKEN} and outcome.detail:
            self._sink.put_aside(Aside(f"{self._repo}#{number}", outcome.step, printable(outcome.detail)))


def _groups(pulls: Iterator[tuple[int, PullFacts]]) -> Iterator[dict[int, PullFacts]]:
    while group := dict(islice(pulls, AT_ONCE)):
        yield group
