"""Evaluations that were recorded: what a report reads."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentless_mini.chain.rank import rank
from agentless_mini.domain import (
    Candidate,
    Case,
    CaseResult,
    Completion,
    Execution,
    Finish,
    GeneratedCase,
    Issue,
    Localization,
    Method,
    Origin,
    Outcome,
    Patch,
    Prediction,
    Reason,
    Regressions,
    Rejected,
    SampleRequest,
    Stage,
    Usage,
    Verdict,
)
from agentless_mini.record import (
    AttemptRecord,
    AttemptState,
    EvalStart,
    GradeRecord,
    InstanceRecord,
    RunId,
    RunStatus,
    Store,
)
from tests.record.building import START, patch, record, request

EVAL = EvalStart("small", "SWE-bench/Some", "f" * 64, "model", '{"grade":"all"}', '{"amini":"0.1.0"}', 1_700_000_000.0)
BAD = Rejected(Reason.NOT_FOUND, "no line says x = 3")


@dataclass(frozen=True)
class Ran:
    """One instance. `normals` has the normal form of each sample as a letter, a dot for one that was rejected.

    `tests` has the test that each test sample wrote as a letter, or a dot. `passing` says which of the tests pass with
    a patch, `right` which patches resolve the issue, `graded` which were graded (all, where it is None). With
    `per_round` the samples are of rounds of that size, and `scores` are what a reward model gave patches. `stop_when`
    is the bound of a run that was to stop early, and of which `wanted` samples were wanted. `regressions` tells what
    became of the repository's own tests.
    """

    name: str
    normals: str = "aab."
    right: str = "a"
    graded: str | None = None
    tests: str = ""
    passing: tuple[tuple[str, str], ...] = ()
    lists: tuple[tuple[str, ...], ...] = (("a.py", "b.py"),)
    gold: tuple[str, ...] = ("a.py",)
    repo: str = "one/one"
    difficulty: str = "<15 min fix"
    method: Method = Method.AGREEMENT
    prompt: str = ""
    per_round: int | None = None
    scores: tuple[tuple[str, float], ...] = ()
    stop_when: float | None = None
    wanted: int = 10
    regressions: Regressions | None = None

    def round(self, order: int) -> int:
        return order // self.per_round if self.per_round else 0


def evaluate(store: Store, instances: Sequence[Ran]) -> None:
    """Record an evaluation in which all of these are done."""
    store.evals.begin(EVAL)
    for ran in instances:
        put_instance(store, ran)
    for ran in instances:
        put_done(store, ran)


def put_instance(store: Store, ran: Ran) -> None:
    store.evals.put_instance(InstanceRecord(ran.name, ran.repo, ran.difficulty, "", ran.gold, "image"))


def put_done(store: Store, ran: Ran) -> RunId:
    run = put_run(store, ran)
    for normal in sorted(set(ran.normals) - {"."}):
        if ran.graded is None or normal in ran.graded:
            store.evals.put_grade(grade(ran, normal))
    store.evals.put_attempt(AttemptRecord(ran.name, run, AttemptState.DONE, seconds=1.5))
    return run


def grade(ran: Ran, normal: str) -> GradeRecord:
    """Return the grade of the earliest sample with this normal form."""
    diff = hashlib.sha256(diff_of(normal, ran.normals.index(normal))).hexdigest()
    key = hashlib.sha256(f"{ran.name} {diff}".encode()).hexdigest()
    return GradeRecord(key, ran.name, normal, diff, normal in ran.right, True, "{}", "5.0.2", 2.0)


def diff_of(normal: str, order: int) -> bytes:
    return f"diff --git a/a.py b/a.py\n+{normal}  # {order}\n".encode()


def put_run(store: Store, ran: Ran) -> RunId:
    """Record a run that came to its decision."""
    settings = settings_of(ran)
    run = store.runs.begin(replace(START, instance=ran.name, issue=Issue(f"{ran.name} fails."), settings=settings))
    prompt = ran.prompt or ran.name
    keys, other = [draw(store, run, asked, letters) for asked, letters in rounds(ran, prompt)], ""
    if ran.tests:
        other = draw(store, run, replace(request(f"test {prompt}"), stage=Stage.REPRODUCE), ran.tests)
    store.runs.put_scores(run, dict(ran.scores))
    store.runs.put_prediction(run, predicted(ran, keys, other))
    store.runs.finish(run, RunStatus.DONE, 0)
    return run


def settings_of(ran: Ran) -> str:
    told: dict[str, object] = {"rank": ran.method}
    if ran.stop_when is not None:
        told["repair"] = {"samples": ran.wanted, "stop_when": ran.stop_when}
    return json.dumps(told, separators=(",", ":"))


def rounds(ran: Ran, prompt: str) -> list[tuple[SampleRequest, str]]:
    """Return what is asked in each round, and the letters of its samples."""
    size = ran.per_round or max(1, len(ran.normals))
    parts = [ran.normals[at : at + size] for at in range(0, len(ran.normals), size)] or [""]
    later = [replace(request(f"{prompt} {at}"), stage=Stage.EVOLVE) for at in range(1, len(parts))]
    return list(zip([request(prompt), *later], parts, strict=True))


def draw(store: Store, run: RunId, asked: SampleRequest, letters: str) -> str:
    """Record samples, the prompt of 100 tokens, 30 of them cached, booked on the first."""
    usages = [Usage(100 if at == 0 else 0, 30 if at == 0 else 0, 7) for at in range(len(letters))]
    key = record(store, asked, *(Completion(at, "x", Finish.STOP, usage=usage) for at, usage in enumerate(usages)))
    for at in range(len(letters)):
        store.runs.link(run, key, at)
    return key


def predicted(ran: Ran, keys: Sequence[str], other: str) -> Prediction:
    outcomes: list[Patch | Rejected] = [
        BAD if normal == "." else patch(diff_of(normal, at), normal) for at, normal in enumerate(ran.normals)
    ]
    size = ran.per_round or max(1, len(outcomes))
    candidates = tuple(
        Candidate(keys[at // size], at % size, at, one, ran.round(at)) for at, one in enumerate(outcomes)
    )
    drafts = [BAD if one == "." else Case(f"test_{one}.py", Origin.GENERATED, data=b"x") for one in ran.tests]
    generated = tuple(GeneratedCase(other, at, at, one) for at, one in enumerate(drafts))
    execution = executed(ran, tuple(dict.fromkeys(one for one in drafts if isinstance(one, Case))))
    choice = rank(candidates, execution, ran.method)
    located = Localization(ran.lists, tuple(range(len(ran.lists), 0, -1)))
    return Prediction(located, candidates, choice, ("a note",), generated, execution, ran.regressions)


def executed(ran: Ran, cases: tuple[Case, ...]) -> Execution | None:
    if not cases:
        return None
    passing = dict(ran.passing)
    verdicts = tuple(
        Verdict(normal, tuple(_result(case, passing.get(normal, "")) for case in cases))
        for normal in dict.fromkeys(ran.normals.replace(".", ""))
    )
    return Execution(cases, tuple(CaseResult(case.id, Outcome.FAIL) for case in cases), verdicts)


def _result(case: Case, passing: str) -> CaseResult:
    return CaseResult(case.id, Outcome.PASS if case.id[5] in passing else Outcome.FAIL)
