"""Foreign files in boxes: what is believed of what a box says, and what is done where one is lost."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from agentless_mini.domain import BoxLimits, Ending, Environment, Job, JobResult, PackedTree, Place
from agentless_mini.environments import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.learning.bugs.probing import BOX, Probe, Prober, Seen, Trial
from tests.fakes.sandbox import Answering, ScriptedSandbox, ended, exited, refusing

RESULT = f"{BOX}/result.json"
PLACE = Place(Environment("here"), PackedTree("0" * 64))
ONE = Probe("def f(a):\n    return a\n", ("f(1)",))
BAD = Probe("raise SystemExit\n", ("f(1)",))


def observed(answer: Answering, probes: Sequence[Probe], batch: int = 8) -> tuple[list[Seen], int]:
    sandbox = ScriptedSandbox(answer)
    prober = Prober(Opened(sandbox, PLACE, BoxLimits()), batch)
    return asyncio.run(prober.observe(probes, 1)), len(sandbox.jobs)


def plan(job: Job) -> dict[str, list[dict[str, object]]]:
    data = next(file.data for file in job.files if file.path == f"{BOX}/plan.json")
    found: dict[str, list[dict[str, object]]] = json.loads(data or b"")
    return found


def told(document: object) -> JobResult:
    return JobResult((exited(results={RESULT: json.dumps(document).encode()}),))


def honest(job: Job) -> JobResult:
    probes = plan(job)["probes"]
    if any(probe["source"] == BAD.source for probe in probes):
        return JobResult((ended(Ending.BOX_DIED),))
    return told({"seen": [[["returns", "1"]] for _ in probes], "passed": []})


def test_probes_go_in_batches_and_come_back_in_their_order() -> None:
    seen, jobs = observed(honest, [ONE] * 5, batch=2)
    assert seen == [(("returns", "1"),)] * 5
    assert jobs == 3


def test_a_file_that_ends_its_box_is_found_and_the_others_are_kept() -> None:
    seen, _ = observed(honest, [ONE, ONE, BAD, ONE, ONE])
    assert [one is None for one in seen] == [False, False, True, False, False]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"seen": 3},
        {"seen": []},
        {"seen": [[]]},
        {"seen": [[["returns"]]]},
        {"seen": [[["returns", 1]]]},
        {"seen": [[["says", "1"]]]},
        {"seen": [[[]]]},
        {"seen": ["returns"]},
    ],
)
def test_what_our_program_would_not_say_is_not_believed(document: object) -> None:
    assert observed(lambda job: told(document), [ONE])[0] == [None]


def test_a_result_that_is_no_json_is_nothing() -> None:
    answer = JobResult((exited(results={RESULT: b"{" * 100}),))
    assert observed(lambda job: answer, [ONE])[0] == [None]
    assert observed(lambda job: JobResult((exited(1),)), [ONE])[0] == [None]
    assert observed(lambda job: JobResult((ended(Ending.NOT_RUN),)), [ONE])[0] == [None]


def test_infrastructure_is_no_result() -> None:
    with pytest.raises(EnvironmentFailed):
        observed(lambda job: EnvironmentFailed("no daemon: start it."), [ONE])
    with pytest.raises(EnvironmentFailed, match="refuses"):
        observed(refusing("a folder"), [ONE])


def test_checks_are_told_by_their_status() -> None:
    sandbox = ScriptedSandbox(lambda job: told({"seen": [], "passed": [0, 1, -1, "0"][: len(plan(job)["trials"])]}))
    prober = Prober(Opened(sandbox, PLACE, BoxLimits()), 8)
    trials = [Trial("a.py", "", "")] * 4
    assert asyncio.run(prober.passed(trials)) == [True, False, None, None]
    lost = Prober(Opened(ScriptedSandbox(lambda job: told({})), PLACE, BoxLimits()), 8)
    assert asyncio.run(lost.passed(trials[:2])) == [None, None]


OUTCOMES = [
    ("return a + 1", "f(1)", ("returns", "2")),
    ("return a + 1", "f('')", ("raises", "TypeError", 'can only concatenate str (not "int") to str')),
    ("return {'b', 'a', 'c'}", "f(1)", ("returns", "{'a', 'b', 'c'}")),
    (
        "return [frozenset({2, 1}), (1,), {'a': {2, 1}}]",
        "f(1)",
        ("returns", "[frozenset({1, 2}), (1,), {'a': {1, 2}}]"),
    ),
    ("yield from (a, a)", "f(1)", ("returns", "[1, 1]")),
    ("while True: yield a", "f(1)", ("returns", str([1] * 40))),
    ("return object()", "f(1)", ("unfit",)),
    ("return 'a' * 10000", "f(1)", ("unfit",)),
    ("while True: pass", "f(1)", ("hangs",)),
    ("return a ** a ** a", "f(99)", ("hangs",)),
    ("raise SystemExit(0)", "f(1)", ("raises", "SystemExit", "0")),
    ("return [0] * 10 ** 10", "f(1)", ("hangs",)),
    ("return f(a)", "f(1)", ("raises", "RecursionError", "maximum recursion depth exceeded")),
    ("print(a); return a", "f(1)", ("returns", "1")),
]


def test_each_outcome_is_observed_in_a_box(boxes: Opened) -> None:
    probes = [Probe(f"def f(a):\n    {body}\n", (call,)) for body, call, _ in OUTCOMES]
    seen = asyncio.run(Prober(boxes, 8).observe(probes, 1))
    assert seen == [(outcome,) for *_, outcome in OUTCOMES]


HOSTILE = """
import os, signal, sys, time

def ends(a):
    os._exit(0)

def kills(a):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(9)

def forks(a):
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)

def deletes(a):
    for top, _, files in os.walk("."):
        for name in files:
            os.remove(os.path.join(top, name))
    return a

def floods(a):
    for number in range(3, 64):
        try:
            os.write(number, b"x" * 100 + b"\\n")
        except OSError:
            pass
    return a

def sleeps(a):
    time.sleep(99)

def fine(a):
    return a
"""


@pytest.mark.slow
def test_hostile_code_hurts_nothing_but_itself(boxes: Opened) -> None:
    names = ["fine", "ends", "deletes", "floods", "fine", "kills", "forks", "fine"]
    probes = [Probe(HOSTILE, (f"{name}(1)", "fine(2)")) for name in names]
    seen = asyncio.run(Prober(boxes, 8).observe(probes, 1))
    fine: Seen = (("returns", "1"), ("returns", "2"))
    assert [seen[number] for number in (0, 2, 4, 7)] == [fine] * 4
    assert seen[1] == (("dies",), ("dies",))
    assert seen[5] is None
    assert fine not in (seen[3], seen[6])


@pytest.mark.slow
def test_a_call_that_sleeps_is_not_waited_for(boxes: Opened) -> None:
    seen = asyncio.run(Prober(boxes, 8).observe([Probe(HOSTILE, ("fine(1)", "sleeps(1)", "fine(2)"))], 1))
    assert seen == [(("returns", "1"), ("hangs",), ("hangs",))]
