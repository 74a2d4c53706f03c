"""What `amini show` says of a run: all that was recorded, and nothing that could steer a terminal."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import RenderableType

from agentless_mini.domain import (
    UNTOLD,
    Choice,
    Completion,
    Environment,
    Finish,
    ImageTree,
    Issue,
    Localization,
    Message,
    Patch,
    Prediction,
    Reason,
    Regressions,
    Rejected,
    Role,
    Stage,
    Usage,
    canonical_json,
)
from agentless_mini.record import (
    PromptRecord,
    RunId,
    RunRecord,
    RunStart,
    RunStatus,
    RunSummary,
    RunTrace,
    SampleRecord,
)
from agentless_mini.record.records import BoxRecord
from agentless_mini.report import document as module
from agentless_mini.report.console import escaped
from agentless_mini.report.document import run_document
from agentless_mini.report.show import completion_view, prompt_view, run_view, runs_table
from tests.report.building import shown
from tests.report.test_verdicts import EXECUTION, HOSTILE, REPAIRS, decided

PATCH = Patch(b"diff --git a/a.py b/a.py\n-x = 1\n+x = 2\n", "abcdef0123456789", ("a.py",))
START = RunStart(
    "smol",
    "local",
    "project",
    "c0ffee" * 6,
    "t" * 64,
    Issue("\nIt fails.\nReally.", "issue.md"),
    ("amini", "repair", "."),
    '{"samples":10}',
    '{"amini":"0.1.0"}',
)
RUN = RunRecord(RunId(7), START, 1_700_000_000.0, RunStatus.DONE, 1_700_000_012.5, 0)
PROMPT = PromptRecord("d1gest" * 10, (Message(Role.SYSTEM, "You repair."), Message(Role.USER, "Fix it.")), None)
LOCATED = SampleRecord("l" * 64, 0, Stage.LOCALIZE, "l0cate" * 10, Finish.STOP, Usage(11, 0, 12), True, None, None)
SAMPLE = SampleRecord("k" * 64, 0, Stage.REPAIR, PROMPT.digest, Finish.STOP, Usage(21, 0, 22), False, 0, PATCH)
OTHER = replace(SAMPLE, index=1, order=1, outcome=replace(PATCH, normal="9876543210fedcba", diff=b"caf\xe9\n"))
REFUSED = replace(SAMPLE, index=2, order=2, outcome=Rejected(Reason.NOT_FOUND, "no line says x = 3"))
OPEN = replace(SAMPLE, index=3, order=None, outcome=None)
PREDICTION = Prediction(
    Localization((("a.py", "b.py"), ("c.py",)), (3, 1)), (), Choice(PATCH, 1, 2, "the earliest"), ("the tree was cut",)
)
TRACE = RunTrace(RUN, (LOCATED, SAMPLE, OTHER, REFUSED, OPEN), PREDICTION)
ANSWER = Completion(0, "The answer.", Finish.STOP, "The reasoning.")


def row(text: str, *cells: str) -> str:
    """Return the one line that holds all of these cells."""
    (line,) = [line for line in text.splitlines() if all(cell in line.split() for cell in cells)]
    return line


def test_the_list_says_what_each_run_was_and_how_it_ended() -> None:
    waiting = replace(RUN, id=RunId(8), status=RunStatus.INTERRUPTED, finished=None, exit_code=None)
    text = shown(runs_table([RunSummary(waiting, 3, 0, 0), RunSummary(RUN, 12, 4, 9)]))
    assert "2023-11-14 22:13" in text
    assert "It fails." in row(text, "7", "done", "c0ffeec0", "smol", "12", "4/9")
    assert text.index(row(text, "8", "interrupted", "3", "-")) < text.index(row(text, "7", "done"))


def test_a_run_is_shown_with_its_files_its_samples_and_its_choice() -> None:
    text = shown(run_view(TRACE, every=True))
    assert "files      a.py, b.py (3 votes)" in text
    assert row(text, "localize", "l0catel0", "11", "12", "record")
    assert "valid abcdef01, 1 of 2 votes" in row(text, "repair", "0", "d1gestd1", "21", "22", "model", "abcdef01,")
    assert "search-not-found: no line says x = 3" in row(text, "repair", "2", "search-not-found:")
    assert "not judged" in row(text, "repair", "3", "judged")
    assert row(text, "1", "*", "1/2", "a.py")
    assert row(text, "2", "1/2", "a.py")
    assert "patch      a.py: the earliest" in text
    assert "+x = 2" in text
    assert "the tree was cut" in text


def test_a_run_without_a_choice_or_without_an_end_says_so() -> None:
    assert "no sample became a valid patch" in shown(
        run_view(replace(TRACE, prediction=replace(PREDICTION, choice=None)))
    )
    begun = replace(RUN, status=RunStatus.RUNNING, finished=None, exit_code=None)
    text = shown(run_view(RunTrace(begun, (), None)))
    assert "running" in text
    assert "exit code" not in text
    assert "patch  " not in text
    assert "chosen patch" not in text


def test_a_prompt_and_an_answer_are_shown_as_they_were() -> None:
    text = shown(prompt_view(PROMPT))
    assert [line.strip() for line in text.splitlines()] == [
        "",
        "prompt d1gestd1",
        "",
        "system",
        "You repair.",
        "",
        "user",
        "Fix it.",
    ]
    assert [line.strip() for line in shown(completion_view(SAMPLE, ANSWER)).splitlines()] == [
        "",
        "repair sample 0 of prompt d1gestd1, ended by stop",
        "",
        "reasoning",
        "The reasoning.",
        "",
        "answer",
        "The answer.",
    ]
    assert "reasoning" not in shown(completion_view(SAMPLE, replace(ANSWER, reasoning="")))


# --- hostile text ----------------------------------------------------------------------------------------------------

hostile_start = replace(
    START, model=HOSTILE, instance=HOSTILE, repository=HOSTILE, issue=Issue(HOSTILE, HOSTILE), command=(HOSTILE,)
)
hostile_patch = Patch(HOSTILE.encode("utf-8", "surrogatepass"), HOSTILE, (HOSTILE,))
hostile_sample = replace(SAMPLE, outcome=Rejected(Reason.MALFORMED, HOSTILE))
HOSTILE_TRACE = RunTrace(
    replace(RUN, start=hostile_start),
    (hostile_sample, replace(SAMPLE, index=1, outcome=hostile_patch)),
    Prediction(Localization(((HOSTILE,),), (1,)), (), Choice(hostile_patch, 1, 1, HOSTILE), (HOSTILE,)),
)
VIEWS: dict[str, Callable[[], RenderableType]] = {
    "list": lambda: runs_table([RunSummary(HOSTILE_TRACE.run, 1, 1, 1)]),
    "run": lambda: run_view(HOSTILE_TRACE, every=True),
    "prompt": lambda: prompt_view(replace(PROMPT, messages=(Message(Role.USER, HOSTILE),))),
    "completion": lambda: completion_view(SAMPLE, replace(ANSWER, text=HOSTILE, reasoning=HOSTILE)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_no_recorded_text_reaches_the_terminal_as_a_control_sequence_or_as_markup(view: str) -> None:
    text = shown(VIEWS[view](), 2000).replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\x00", "\ud800"}
    assert "[bold red]" in text
    assert "\\x1b[2J" in text


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_can_be_encoded_and_holds_no_control_character(text: str) -> None:
    result = escaped(text)
    result.encode()
    assert all(character.isprintable() or character in "\n\t" for character in result)


def test_printable_text_keeps_what_people_write() -> None:
    assert escaped("def f():\n\treturn '中 é 😀 \\x1b'\n") == "def f():\n\treturn '中 é 😀 \\x1b'\n"


# --- for programs ----------------------------------------------------------------------------------------------------


def test_the_document_of_a_run_holds_all_that_is_recorded_as_json() -> None:
    document = json.loads(canonical_json(run_document(TRACE, [PROMPT], [(SAMPLE, ANSWER)])))
    assert document["run"]["id"] == 7
    assert document["run"]["status"] == "done"
    assert document["run"]["start"]["settings"] == {"samples": 10}
    assert document["run"]["start"]["issue"] == {"text": "\nIt fails.\nReally.", "source": "issue.md"}
    assert document["prompts"] == {
        PROMPT.digest: [{"role": "system", "content": "You repair."}, {"role": "user", "content": "Fix it."}]
    }
    located, sample, other, refused, undecided = document["samples"]
    assert (located["stage"], located["replayed"], located["outcome"]) == ("localize", True, None)
    assert (sample["text"], sample["reasoning"], sample["usage"]["completion_tokens"]) == (
        "The answer.",
        "The reasoning.",
        22,
    )
    assert sample["outcome"] == {
        "valid": True,
        "normal": PATCH.normal,
        "paths": ["a.py"],
        "diff": {"encoding": "utf-8", "text": PATCH.diff.decode()},
    }
    assert other["outcome"]["diff"]["encoding"] == "base64"
    assert base64.b64decode(other["outcome"]["diff"]["text"]) == b"caf\xe9\n"
    assert refused["outcome"] == {"valid": False, "reason": "search-not-found", "detail": "no line says x = 3"}
    assert undecided["outcome"] is None
    assert "text" not in other
    assert document["prediction"]["localization"]["lists"] == [["a.py", "b.py"], ["c.py"]]
    assert document["prediction"]["choice"]["votes"] == 1
    assert document["prediction"]["choice"]["patch"]["normal"] == PATCH.normal
    assert document["prediction"]["notes"] == ["the tree was cut"]
    assert document["prediction"]["regressions"] is None


def test_the_document_of_a_run_that_decided_nothing_says_null() -> None:
    assert run_document(replace(TRACE, prediction=None))["prediction"] is None
    undecided = run_document(replace(TRACE, prediction=replace(PREDICTION, choice=None)))
    assert undecided["prediction"]["choice"] is None


def test_the_document_of_hostile_texts_is_json_of_plain_ascii() -> None:
    text = canonical_json(run_document(HOSTILE_TRACE))
    assert text.isascii()
    assert json.loads(text)["run"]["start"]["issue"]["text"] == HOSTILE


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Return the keys that there must be, and those that may be, of each object that the manual names."""
    manual = Path(module.__file__).parents[1] / "docs" / "json.md"
    found = re.findall(r"^    ([\w.\[\]]+): (.+)$", manual.read_text().replace(",\n        ", ", "), re.MULTILINE)
    keys = {path.strip("."): names.split(", ") for path, names in found}
    return {
        path: ({name for name in names if "?" not in name}, {name.rstrip("?") for name in names})
        for path, names in keys.items()
    }


def objects(document: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """Return all that stands at a path of the manual."""
    found: list[Any] = [document]
    for part in path.split(".") if path else []:
        name = part.removesuffix("[]")
        found = [value for one in found for value in (one.values() if name == "DIGEST" else [one[name]])]
        if part.endswith("[]"):
            found = [value for one in found for value in one]
        found = [value for value in found if value is not None]
    return found


def test_the_keys_that_are_documented_are_the_ones_there_are(tmp_path: Path) -> None:
    box = BoxRecord("k", Environment("sha256:1"), ImageTree("/r"), (), (("pytest",),), 2.0, replayed=True)
    tested = replace(decided(tmp_path, EXECUTION, *REPAIRS), boxes=(box,))
    assert tested.prediction is not None
    tested = replace(tested, prediction=replace(tested.prediction, regressions=Regressions(1, 1)))
    documents = [run_document(TRACE, [PROMPT], [(SAMPLE, ANSWER)]), run_document(tested)]
    assert len(documented()) == 15
    for path, (always, known) in documented().items():
        there = [one.keys() for document in documents for one in objects(document, path)]
        assert there, path
        assert all(always <= keys <= known for keys in there), path


def test_tokens_that_the_server_did_not_tell_are_not_shown_as_none_at_all() -> None:
    told = replace(TRACE, samples=(replace(SAMPLE, usage=UNTOLD),))
    assert "unknown unknown" in " ".join(shown(run_view(told, every=True)).split())
    usage = run_document(told)["samples"][0]["usage"]
    assert usage == {"prompt_tokens": None, "cached_tokens": None, "completion_tokens": None}
