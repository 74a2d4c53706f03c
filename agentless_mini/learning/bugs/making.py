"""From packages to tasks: functions harvested, calls observed, faults put in, observed again, judged, and proven.

Nothing is decided by chance alone: the same sources, settings and Python give the same tasks, in the same order. A
function that cannot be used is counted, and never ends the making of others.
"""

import ast
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agentless_mini.edits import Forms
from agentless_mini.learning.bugs.checking import check_program
from agentless_mini.learning.bugs.faults import Fault, Faulty, Kind, apart, combined
from agentless_mini.learning.bugs.funnel import Funnel
from agentless_mini.learning.bugs.harvest import Subject, find_function, harvest, own_functions
from agentless_mini.learning.bugs.injection import faults
from agentless_mini.learning.bugs.inputs import make_calls
from agentless_mini.learning.bugs.issues import Failure, Report, can_be_shown, write_issue
from agentless_mini.learning.bugs.modules import substance
from agentless_mini.learning.bugs.observations import Observation, Outcome, changed, worth_keeping
from agentless_mini.learning.bugs.packages import Package
from agentless_mini.learning.bugs.probing import Probe, Prober, Trial
from agentless_mini.learning.bugs.settings import BugsSettings
from agentless_mini.learning.bugs.splits import TRAIN, share, split_of
from agentless_mini.learning.rows import Row, RowFile

# Kinds that few functions have room for come first.
_RARE_FIRST = (
    Kind.EXCEPTION, Kind.DEFAULT, Kind.GUARD, Kind.ARGUMENT, Kind.BOUND, Kind.OPERATOR, Kind.CONDITION, Kind.CALL,
    Kind.RETURN, Kind.NAME,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """One row, and the kinds of what is wrong in it."""

    row: Row
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A subject, and what its right file does."""

    subject: Subject
    kept: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class _Broken:
    """A subject with a fault, and the calls of which something else comes now."""

    known: _Known
    faulty: Faulty
    differing: tuple[Observation, ...]


class Maker:
    """Makes the tasks of packages, one package after the other."""

    def __init__(self, settings: BugsSettings, prober: Prober, funnel: Funnel) -> None:
        """Probe by `prober`, and count in `funnel`."""
        self._settings = settings
        self._prober = prober
        self._funnel = funnel
        self._forms = Forms()
        self._seen: set[str] = set()

    async def tasks(self, package: Package) -> tuple[Task, ...]:
        """Return the tasks of a package. Functions and faulty files that an earlier one had are left out.

        So what is held out comes first: see `splits.held_out_first`.
        """
        counts = self._funnel.of(package.name)
        known = await self._known(tuple(self._new_subjects(package)))
        broken = await self._broken(known)
        counts.update({"functions observed": len(known)})
        tasks = await self._proven(broken)
        counts["kept"] += len(tasks)
        return tasks

    def _new_subjects(self, package: Package) -> Iterator[Subject]:
        steps, reasons = self._funnel.steps, self._funnel.reasons
        for subject in harvest(package, self._settings, steps):
            function, _ = find_function(ast.parse(subject.text), subject)
            if self._is_new(substance(function)):
                yield subject
            else:
                steps["duplicate functions"] += 1
        for name in [name for name in steps if name.startswith("not harvested: ")]:
            reasons[name.partition(": ")[2]] += steps.pop(name)
        if split_of(package.name, self._settings) != TRAIN:
            for function in own_functions(package):  # a copy elsewhere must not be trained on either
                self._is_new(substance(function))

    def _is_new(self, said: str) -> bool:
        digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
        is_new = digest not in self._seen
        self._seen.add(digest)
        return is_new

    async def _known(self, subjects: Sequence[Subject]) -> list[_Known]:
        """Observe the right files, twice, with sets in different orders."""
        settings, steps = self._settings, self._funnel.steps
        probes = [Probe(subject.text, make_calls(subject, settings.calls, settings.seed)) for subject in subjects]
        first = await self._prober.observe(probes, 1)
        second = await self._prober.observe(probes, 2)
        known = []
        for subject, probe, *runs in zip(subjects, probes, first, second, strict=True):
            whole = [run for run in runs if run is not None]
            if len(whole) < len(runs):
                steps["lost"] += 1
                continue
            steps["callable"] += any(outcome[0] == "returns" for outcome in whole[0])
            kept = worth_keeping(subject.text, probe.calls, whole, settings.observations)
            if kept:
                steps["observed"] += 1
                known.append(_Known(subject, kept))
        return known

    async def _broken(self, known: Sequence[_Known]) -> list[_Broken]:
        """Put faults in, observe again, and keep of each function a few that can be seen."""
        pairs = [(one, faulty) for one in known for faulty in self._candidates(one)]
        probes = [Probe(faulty.text, tuple(seen.call for seen in one.kept)) for one, faulty in pairs]
        found: dict[str, list[_Broken]] = {}
        for (one, faulty), outcomes in zip(pairs, await self._prober.observe(probes, 1), strict=True):
            broken = self._judged(one, faulty, outcomes)
            if broken is not None:
                found.setdefault(one.subject.id, []).append(broken)
        return [broken for several in found.values() for broken in self._chosen(several)]

    def _candidates(self, known: _Known) -> Iterator[Faulty]:
        """Yield faulty files, each kind in turn."""
        subject, settings = known.subject, self._settings
        rng = random.Random(f"{settings.seed} faults {subject.id}")  # noqa: S311 - no secrets
        every = list(_in_turn(faults(subject), rng))
        for fault in every[: settings.candidates]:
            chosen = [fault]
            if rng.random() < settings.double:
                chosen += [other for other in rng.sample(every, len(every)) if apart(fault, other)][:1]
            faulty = combined(subject.text, chosen)
            self._funnel.note("mutated", faulty.kinds)
            path = f"{subject.path} {subject.called}.py"
            if self._is_new(f"{path} {self._forms.of('file.py', faulty.text.encode()).digest}"):
                yield faulty
            else:
                self._funnel.note("duplicate faults", faulty.kinds)

    def _judged(self, known: _Known, faulty: Faulty, outcomes: tuple[Outcome, ...] | None) -> _Broken | None:
        """Return what a fault does, None where it makes no task; either way it is counted."""
        differing = changed(known.kept, outcomes) if outcomes is not None else ()
        verdict = "found"
        if outcomes is None:
            verdict = "faults lost"
        elif any(outcome[0] == "unloadable" for outcome in outcomes):
            verdict = "unloadable"
        elif not differing:
            verdict = "equivalent"
        elif not any(can_be_shown(seen.outcome) for seen in differing):
            verdict = "cannot be shown"
        elif len(differing) == len(known.kept):
            self._funnel.note("total", faulty.kinds)
            if share(f"{self._settings.seed} {faulty.text}") >= self._settings.total:
                verdict = "total dropped"
        self._funnel.note(verdict, faulty.kinds)
        return _Broken(known, faulty, differing) if verdict == "found" else None

    def _chosen(self, several: Sequence[_Broken]) -> Iterator[_Broken]:
        """Yield the tasks of a function: as many kinds as there are, before any kind again."""
        times: dict[tuple[Kind, ...], int] = {}
        ranked = []
        for number, broken in enumerate(several):
            times[broken.faulty.kinds] = times.get(broken.faulty.kinds, 0) + 1
            ranked.append((times[broken.faulty.kinds], number))
        for rank, (_, number) in enumerate(sorted(ranked)):
            if rank < self._settings.per_function:
                yield several[number]
            else:
                self._funnel.note("surplus", several[number].faulty.kinds)

    async def _proven(self, broken: Sequence[_Broken]) -> tuple[Task, ...]:
        """Return the tasks whose check fails on the faulty file and passes on the right one."""
        tasks = [Task(self._row(one), one.faulty.kinds) for one in broken]
        wrong = await self._prober.passed([_trial(task.row, "before") for task in tasks])
        right = await self._prober.passed([_trial(task.row, "after") for task in tasks])
        proven = []
        for task, is_passed, is_kept in zip(tasks, wrong, right, strict=True):
            is_proven = is_passed is False and is_kept is True
            self._funnel.note("kept" if is_proven else "not proven", task.kinds)
            proven += [task] if is_proven else []
        return tuple(proven)

    def _row(self, broken: _Broken) -> Row:
        subject, text = broken.known.subject, broken.faulty.text
        identity = f"{subject.id}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        rng = random.Random(f"{self._settings.seed} issue {identity}")  # noqa: S311 - no secrets
        title, issue = write_issue(_report(broken), rng)
        return Row(
            id=identity,
            repo=subject.package,
            title=title,
            issue=issue,
            conversation="",
            files=(RowFile(subject.path, text, subject.text),),
            base=subject.version,
            merged_at="",
            licence=subject.licence,
            split=split_of(subject.package, self._settings),
            check=check_program(subject.path, broken.known.kept),
        )


def _trial(row: Row, side: str) -> Trial:
    (file,) = row.files
    return Trial(file.path, (file.before if side == "before" else file.after) or "", row.check)


def _report(broken: _Broken) -> Report:
    subject = broken.known.subject
    wanted = {seen.call: seen.outcome for seen in broken.known.kept}
    differing = {seen.call for seen in broken.differing}
    failures = (
        Failure(seen.call, seen.outcome, wanted[seen.call]) for seen in broken.differing if can_be_shown(seen.outcome)
    )
    passing = (seen for seen in broken.known.kept if seen.call not in differing)
    module = subject.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return Report(subject.called, module, tuple(failures), tuple(passing))


def _in_turn(found: Iterable[Fault], rng: random.Random) -> Iterator[Fault]:
    """Yield the faults in an order drawn, one of each kind after the other."""
    by_kind: dict[Kind, list[Fault]] = {}
    for fault in found:
        by_kind.setdefault(fault.kind, []).append(fault)
    waiting = [rng.sample(by_kind[kind], len(by_kind[kind])) for kind in _RARE_FIRST if kind in by_kind]
    while waiting:
        for several in waiting:
            yield several.pop()
        waiting = [several for several in waiting if several]
