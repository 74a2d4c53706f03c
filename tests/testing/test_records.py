"""What is read of records, whatever they hold."""

import json
from base64 import b64encode
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import CaseResult, Ending, Fault, Outcome
from agentless_mini.testing.records import MOST_LINE, OTHERS, Record, covers, read_record, read_runs
from tests.fakes.records import sealed

A, B = "tests/test_a.py::test_a", "tests/test_a.py::test_b"


KEY = "secret"


def record(*events: Mapping[str, object], ending: Ending = Ending.TIMED_OUT) -> Record:
    """Read the record of a box that was killed, unless its ending is said."""
    return read_record(sealed(KEY, [json.dumps({"id": "", **event}) for event in events]), KEY, ending)


def start(name: str) -> dict[str, object]:
    return {"event": "start", "id": name}


def end(name: str, outcome: str = "pass", **more: object) -> dict[str, object]:
    return {"event": "end", "id": name, "outcome": outcome, "seconds": 0.5, **more}


def read(*lines: bytes) -> Record:
    told = [line.replace(b"\n", b" ").decode("utf-8", "surrogateescape") for line in lines]
    return read_record(sealed(KEY, told), KEY, Ending.TIMED_OUT)


BEGUN: dict[str, object] = {"event": "begun"}
DONE: dict[str, object] = {"event": "done"}


def result_for(record: Record, wanted: str) -> CaseResult | None:
    return record.results_for([wanted]).get(wanted)


def outcome(record: Record, wanted: str) -> Outcome | None:
    result = result_for(record, wanted)
    return None if result is None else result.outcome


def test_a_test_that_ended_has_its_result_and_others_are_not_there_or_not_reached() -> None:
    cut = record(BEGUN, start(A), end(A))
    assert result_for(cut, A) == CaseResult(A, Outcome.PASS, 0.5)
    assert result_for(cut, B) is None
    assert outcome(record(BEGUN, start(A), end(A), DONE), B) is Outcome.NOT_COLLECTED


def test_a_time_that_is_none_is_not_believed() -> None:
    for said in (10**400, -1, float("inf"), float("nan"), "1", None):
        assert result_for(record(start(A), {**end(A), "seconds": said}, DONE), A) == CaseResult(A, Outcome.PASS, 0.0)


def test_of_two_outcomes_of_one_test_the_worse_counts() -> None:
    for first, second in (("pass", "fail"), ("fail", "pass")):
        assert outcome(record(start(A), end(A, first), end(A, second), DONE), A) is Outcome.FAIL


def test_a_process_that_ends_under_a_test_is_its_error_and_one_that_hangs_its_time_out() -> None:
    for hung, late, expected in (
        (False, False, Outcome.ERROR),
        (True, False, Outcome.TIMEOUT),
        (False, True, Outcome.TIMEOUT),
    ):
        rang: list[dict[str, object]] = [{"event": "late", "id": A}] if late else []
        assert outcome(record(BEGUN, start(A), *rang, {"event": "ended", "hung": hung}), A) is expected


def test_a_step_that_is_killed_tells_of_the_test_that_was_running() -> None:
    cut = record(BEGUN, start(A), ending=Ending.OUT_OF_MEMORY)
    fault = Fault("", "It used more memory or disk than a box has.")
    assert result_for(cut, A) == CaseResult(A, Outcome.ERROR, fault=fault)
    ended = record(start(A), end(A), ending=Ending.OUT_OF_MEMORY)
    assert result_for(ended, A) == CaseResult(A, Outcome.PASS, 0.5)


PASSED = (BEGUN, start(A), end(A))
OVER: dict[str, object] = {"event": "over"}
ENDED: dict[str, object] = {"event": "ended", "status": 0, "hung": False}
CLOSED: dict[str, object] = {"event": "closed"}
NOT_BELIEVED = {
    "no end of its process": (PASSED, None),
    "an exit without a last word": ((*PASSED, ENDED, CLOSED), None),
    "an end without a beginning": ((BEGUN, end(A), OVER, ENDED, CLOSED), None),
    "fewer tests than were collected": ((BEGUN, {"event": "collected", "number": 2}, *PASSED[1:], DONE, ENDED), None),
    "an exit in the test": ((BEGUN, start(A), DONE, ENDED, CLOSED), None),
    "somebody else's word": ((*PASSED, {"event": "foreign"}, DONE, ENDED, CLOSED), OTHERS),
}


@pytest.mark.parametrize("name", NOT_BELIEVED)
def test_a_pass_is_believed_where_its_process_came_to_its_end_alone(name: str) -> None:
    told, forged = NOT_BELIEVED[name]
    found = record(*told, ending=Ending.EXITED)
    assert found.forged == (forged or "")
    assert outcome(found, A) is not Outcome.PASS
    for last in (DONE, OVER):
        whole = record(*PASSED, last, ENDED, CLOSED, ending=Ending.EXITED)
        assert (outcome(whole, A), whole.forged) == (Outcome.PASS, "")
    later = record(*PASSED, start(B), ENDED, CLOSED, ending=Ending.EXITED)
    assert [outcome(later, one) for one in (A, B)] == [Outcome.PASS, Outcome.ERROR]


def test_the_number_of_tests_counts_those_of_one_name_and_no_files() -> None:
    told: list[dict[str, object]] = [
        start("tests/test_a.py"),
        {"event": "read", "id": "tests/test_a.py"},
        {"event": "collected", "number": 3},
    ]
    ran = [event for name in (A, A, "tests/test_a.py") for event in (start(name), end(name))]
    found = record(BEGUN, *told, *ran, DONE, ENDED, CLOSED, ending=Ending.EXITED)
    assert (outcome(found, A), found.done) == (Outcome.PASS, True)


def canaried(expected: str, said: str | None, last: dict[str, object] = DONE) -> Record:
    ours = "tests/test_a.py::test_a_7"
    ran = (start(ours), end(ours, said)) if said else ()
    canary = {"event": "canary", "id": ours, "expected": expected}
    return record(BEGUN, canary, *ran, start(A), end(A), last, ENDED, CLOSED, ending=Ending.EXITED)


@pytest.mark.parametrize(
    ("expected", "said", "forged"),
    [
        ("fail", "fail", False),
        ("pass", "pass", False),
        ("fail", "pass", True),
        ("pass", "fail", True),
        ("pass", "error", False),
        ("fail", "skip", False),
        ("fail", None, True),
        ("pass", None, True),
    ],
)
def test_a_test_of_ours_that_comes_out_otherwise_tells_of_a_forged_record(
    expected: str, said: str | None, forged: bool
) -> None:
    found = canaried(expected, said)
    assert bool(found.forged) is forged
    assert outcome(found, "tests/test_a.py") is (None if forged else Outcome.PASS)
    assert said or canaried(expected, said, OVER).forged == ""


def test_passes_without_a_test_of_ours_are_forged_where_there_should_be_some() -> None:
    for events, forged in (((*PASSED, DONE), True), ((*PASSED, OVER), True), ((*PASSED, start(B)), False)):
        told = [json.dumps({"id": "", **event}) for event in (*events, ENDED, CLOSED)]
        assert bool(read_record(sealed(KEY, told), KEY, canaries=3).forged) is forged


def test_no_test_passes_of_a_file_that_was_changed_before_it_was_read() -> None:
    file, other = A.partition("::")[0], "tests/test_c.py::test_c"
    told: list[dict[str, object]] = [
        start(file),
        {"event": "changed", "id": file},
        start(A),
        end(A),
        start(B),
        end(B, "fail"),
    ]
    found = record(*told, start(other), end(other))
    outcomes = {one.id: one.outcome for one in found.results}
    assert outcomes == {A: Outcome.ERROR, B: Outcome.FAIL, other: Outcome.PASS}


def test_a_line_that_the_driver_did_not_write_is_forged() -> None:
    told = [json.dumps(event) for event in ({**BEGUN, "id": ""}, start(A), end(A, "fail"))]
    lines, one = sealed(KEY, told).splitlines(keepends=True), json.dumps(end(A)).encode() + b"\n"
    for left in ([*lines[:2], one], [lines[0], lines[2]], [*lines, lines[0]], [b"x" * 64 + b" " + one]):
        assert read_record(b"".join(left), KEY) == Record((), left[0] == lines[0], forged=OTHERS)
    assert read_record(b"".join(lines)[:-3], KEY, Ending.TIMED_OUT).results[0].outcome is Outcome.TIMEOUT


def test_a_file_is_what_its_tests_are_together() -> None:
    path = "tests/test_a.py"
    for outcomes, expected in {
        ("pass", "skip"): Outcome.PASS,
        ("skip", "skip"): Outcome.SKIP,
        ("pass", "error", "fail"): Outcome.FAIL,
        ("pass", "timeout", "error"): Outcome.ERROR,
        ("timeout", "pass"): Outcome.TIMEOUT,
    }.items():
        ids = [f"{path}::test_{number}" for number in range(len(outcomes))]
        ran = [event for name, said in zip(ids, outcomes, strict=True) for event in (start(name), end(name, said))]
        assert outcome(record(*ran, DONE), path) is expected
    assert outcome(record(DONE), path) is Outcome.NOT_COLLECTED


def test_a_file_of_which_there_may_be_more_is_not_reached() -> None:
    assert outcome(record(start(A), end(A)), "tests/test_a.py") is None
    assert outcome(record(start(A), end(A), end("tests/test_b.py::x", "fail")), "tests/test_a.py") is Outcome.PASS
    failed = end(A, "fail", fault={"kind": "AssertionError"})
    assert outcome(record(start(A), failed), "tests/test_a.py") is Outcome.FAIL


def test_a_file_or_class_that_cannot_be_read_tells_of_all_its_tests() -> None:
    broken = record(end("tests/test_a.py", "error"), DONE)
    assert outcome(broken, "tests/test_a.py::K::test_a") is Outcome.ERROR
    assert outcome(broken, "tests/test_a.pyx") is Outcome.NOT_COLLECTED


def test_what_stopped_the_runner_is_told() -> None:
    assert record({"event": "stopped", "fault": {"kind": "ImportError", "line": 3}}).stopped == Fault(
        "ImportError", "", "", 3
    )
    assert record({"event": "stopped"}).stopped == Fault("", "")


def test_names_stand_for_what_lies_below_them_alone() -> None:
    assert covers("a.py", "a.py::t")
    assert covers("a.py::t", "a.py::t[1]")
    assert not covers("a.py::t", "a.py::test")
    assert not covers("a.py::t[1]", "a.py::t")


def test_lines_that_are_no_events_are_left_out() -> None:
    good = [json.dumps(event).encode() for event in (start(A), end(A))]
    junk = [
        b"",
        b"[1]",
        b"{}",
        b'{"event": "end"}',
        b'{"event": "end", "id": 3}',
        b"[" * 50_000,
        b'{"event": "end", "id": "%s"}' % (b"x" * MOST_LINE),
        b'{"event": "end", "id": "\\ud800", "outcome": "pass"}',
        b'{"event": "end", "id": "x", "outcome": "excellent"}',
        b'{"event": "end", "id": "x", "outcome": ["pass"]}',
        b'{"event": "end", "id": "", "outcome": "pass"}',
        b'\xff\xfe{"event"}',
    ]
    assert read(*junk, *good).results == (CaseResult(A, Outcome.PASS, 0.5),)


def test_values_out_of_bounds_become_harmless() -> None:
    text = b'{"event": "end", "id": "a", "outcome": "fail", "seconds": %s, "fault": {"kind": 3, "message": "%s"}}'
    for seconds in (b"NaN", b"Infinity", b"-1", b"1e9", b'"x"', b"null", b"9" * 5000):
        for result in read(text % (seconds, b"\\ud800" + b"x" * 9000)).results:
            assert result.seconds == 0.0
            assert result.fault is not None
            assert result.fault.kind == ""
            assert len(result.fault.message.encode()) < 3000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([A, "pass", "fail"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
names = st.sampled_from(
    ["expected", "number", "event", "id", "outcome", "seconds", "fault", "status", "hung", "kind", "line"]
)
kinds = st.sampled_from(
    ["start", "read", "end", "late", "ended", "begun", "done", "over", "stopped", "canary", "collected", "foreign"]
)
events = st.builds(
    lambda kind, name, rest: {**rest, "event": kind, "id": name},
    kinds,
    st.sampled_from([A, B, ""]),
    st.dictionaries(names, json_values),
)


@given(st.lists(st.binary(max_size=80) | events.map(lambda event: json.dumps(event).encode()), max_size=20))
def test_any_record_can_be_read(lines: list[bytes]) -> None:
    found = read(*lines)
    assert len({result.id for result in found.results}) == len(found.results)
    for wanted in (A, B, "tests/test_a.py"):
        result = result_for(found, wanted)
        assert result is None or (result.id == wanted and result.seconds >= 0)
        assert result is None or result.fault is None or result.fault.message.encode() is not None


parts = st.sampled_from(["a.py", "::", "[", "]", "t", ":", "T", "\\", ";"])
ids = st.lists(parts, min_size=1, max_size=6).map("".join)


@given(st.lists(ids, max_size=12, unique=True), ids)
def test_a_case_has_the_results_of_what_it_stands_for_and_else_of_what_stands_for_it(
    names: list[str], wanted: str
) -> None:
    results = tuple(CaseResult(name, Outcome.PASS, 2.0**place) for place, name in enumerate(names))
    found = Record(results, done=True).results_for([wanted])[wanted]
    own = [result for result in results if covers(wanted, result.id)]
    expected = own or [result for result in results if covers(result.id, wanted)]
    assert found.seconds == sum(result.seconds for result in expected)
    assert (found.outcome is Outcome.NOT_COLLECTED) == (not expected)


XML = '<testsuite><testcase classname="b.lua" name="adds"/></testsuite>'
MISSING = "left no such file: give the path of its JUnit XML from the top, or - if it prints TAP"
UNREAD: dict[str, tuple[str, dict[str, str], dict[str, object], str]] = {
    "nothing printed": ("-", {}, {}, "the test command printed nothing: have it print TAP, "),
    "no TAP": ("-", {"out": "looks ok"}, {}, "the test command printed no TAP: choose its reporter for TAP, "),
    "TAP cut off": ("-", {"out": "1..2\nok 1"}, {}, "its TAP is not whole: the plan (1..N) has to count the tests"),
    "no test printed": ("-", {"out": "1..0"}, {}, "no test is in it: see whether the test command runs the file"),
    "no program": ("-", {"err": "gone: not found"}, {"status": 127}, "a program of the test command is not there"),
    "missing": ("out/*.xml", {}, {}, f"the test command {MISSING}"),
    "missing at an end": ("a.xml", {}, {"status": 2}, f"the test command ended with status 2 and {MISSING}"),
    "outside": ("../a.xml", {}, {}, "that is outside of the tree: have the test command write it there"),
    "empty": ("a.xml", {}, {"left": 1}, "it is empty: see whether the test command runs to its end"),
    "no XML": ("a.xml", {"report1": "1..0"}, {"left": 1}, "it is no whole JUnit XML: choose the reporter"),
    "no test": ("a.xml", {"report1": "<testsuites/>"}, {"left": 1}, "no test is in it: see whether the test command"),
    "tests of another file": ("a.xml", {"report1": XML}, {"left": 1}, "its tests are of other files: see whether"),
    "too large": ("a.xml", {}, {"left": 1, "cut": True}, "it is larger than what a box brings back: have the"),
    "it took too long": ("a.xml", {}, {"hung": True}, ""),
    "tests": ("a.xml", {"report1": XML.replace("b.lua", "a.lua")}, {"left": 1}, ""),
}


@pytest.mark.parametrize("name", UNREAD)
def test_why_a_report_tells_of_no_test_is_known(name: str) -> None:
    report, parts, more, why = UNREAD[name]
    usual: dict[str, object] = {"files": ["a.lua"], "names": {}, "canaries": [], "changed": [], "left": 0, "status": 0}
    ran = {"event": "ran", **usual, "hung": False, "cut": False, **more}
    told: list[dict[str, object]] = [
        {"event": "part", "id": part, "data": b64encode(text.encode()).decode()} for part, text in parts.items()
    ]
    lines = [json.dumps({"id": "", **event}) for event in [*told, ran]]
    format_name = "tap" if report == "-" else "junit"
    found = read_runs(sealed(KEY, lines), KEY, format_name, report).unread
    assert found.startswith(f"--test-report {report} tells of no test: {why}" if why else "")
    assert bool(found) is bool(why)
