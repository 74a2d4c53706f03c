"""The work on one part of the owners: joins its events, passes its pull requests through the filters, makes its rows.

Pull requests are taken a few at a time, so that git is asked for many at once and memory does not grow with them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agentless_mini.errors import RepositoryError, printable
from agentless_mini.learning.curation.event_shards import Aside
from agentless_mini.learning.curation.exclusions import is_benchmark_fork
from agentless_mini.learning.curation.filters import before_the_mirror, by_changes
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
        for repo in known.repos():
            _Bench(repo, known, sink, tools).work()


class _Bench:
    """Where the pull requests of one repository become rows, or are left out."""

    def __init__(self, repo: str, known: Joined, sink: RowSink, tools: Tools) -> None:
        self._repo = repo
        self._known = known
        self._sink = sink
        self._tools = tools

    def work(self) -> None:
        """Work through all pull requests. Where git fails on the mirror the rest of them is left out, and no more."""
        maker: RowMaker | Step | None = None
        for pulls in _groups(self._promising()):
            try:
                maker = self._maker(pulls) if maker is None else maker
                outcomes = self._outcomes(pulls, maker)
            except RepositoryError as error:
                self._sink.put_aside(Aside(self._repo, Step.MIRROR_BROKEN, str(error)))
                maker = Step.MIRROR_BROKEN
                outcomes = self._outcomes(pulls, maker)
            for number, outcome in outcomes.items():
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

    def _maker(self, pulls: Mapping[int, PullFacts]) -> RowMaker | Step:
        """Open the mirror, or return why the repository is left out."""
        folder = self._tools.mirrors.find(self._repo)
        if folder is None:
            return Step.NO_MIRROR
        history = History(folder)
        roots, origins = history.roots(), self._known.origins(self._repo)
        said = any(pull.fork for pull in pulls.values())
        if is_benchmark_fork(self._repo, origins=origins, said=said, roots=roots):
            return Step.BENCHMARK_FORK
        self._sink.repo(self._repo, (*roots, *origins))
        return RowMaker(history, self._tools.settings, self._tools.relevance)

    def _outcomes(self, pulls: Mapping[int, PullFacts], maker: RowMaker | Step) -> dict[int, Row | LeftOut]:
        """Return the row of each pull request, or why there is none."""
        if isinstance(maker, Step):
            return dict.fromkeys(pulls, LeftOut(maker))
        found = spans(maker.history, pulls)
        return {
            number: LeftOut(span) if isinstance(span, Step) else self._outcome(number, pulls[number], span, maker)
            for number, span in found.items()
        }

    def _outcome(self, number: int, pull: PullFacts, span: Span, maker: RowMaker) -> Row | LeftOut:
        step = by_changes(span.changes, self._tools.settings)
        if step is not None:
            return LeftOut(step)
        merged = Merged(self._repo, number, pull, span)
        told = story(self._known, maker.history, merged)
        return LeftOut(told) if isinstance(told, Step) else maker.row(merged, told)

    def _take(self, number: int, outcome: Row | LeftOut) -> None:
        if isinstance(outcome, Row):
            self._sink.keep(outcome)
            return
        self._sink.leave_out(outcome.step)
        if outcome.step is Step.UNREADABLE:
            self._sink.put_aside(Aside(f"{self._repo}#{number}", outcome.step, printable(outcome.detail)))


def _groups(pulls: Iterator[tuple[int, PullFacts]]) -> Iterator[dict[int, PullFacts]]:
    while group := dict(islice(pulls, AT_ONCE)):
        yield group
