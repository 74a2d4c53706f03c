"""The report of an evaluation that was recorded in a real store: results, cost, and one instance in depth."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.domain import (
    UNTOLD,
    Completion,
    Ending,
    Environment,
    Finish,
    Job,
    JobResult,
    Method,
    PackedTree,
    StepResult,
    Usage,
)
from agentless_mini.errors import UsageError
from agentless_mini.record import AttemptRecord, AttemptState, RunStatus, Store
from agentless_mini.report.evaluation_document import Prices, evaluation_document, one_instance
from agentless_mini.report.evaluation_tables import evaluation_tables
from tests.record.building import START, record, request
from tests.report.building import shown
from tests.report.evaluated import EVAL, Ran, draw, evaluate, grade, put_done, put_instance, put_run

RIGHT = Ran("one__one-1", "aab.", right="a")
WRONG = Ran("one__one-2", "abb.", right="a", lists=(("b.py",), ("a.py",)))
EMPTY = Ran("two__two-3", "....", right="", repo="two/two", difficulty="1-4 hours")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.sqlite") as opened:
        yield opened


def results(store: Store) -> dict[str, Any]:
    told: dict[str, Any] = evaluation_document(store)["results"]
    return told


def rates(points: list[dict[str, Any]], axis: str = "n", value: str = "rate") -> list[tuple[int, float | None]]:
    return [(point[axis], point[value]) for point in points]


# --- what is resolved ------------------------------------------------------------------------------------------------


def test_the_chosen_patches_decide_and_no_valid_patch_is_a_wrong_answer(store: Store) -> None:
    evaluate(store, [RIGHT, WRONG, EMPTY])
    told = results(store)
    assert (told["instances"], told["attempted"], told["done"], told["graded"]) == (3, 3, 3, 3)
    resolved = told["resolved"]
    assert (resolved["count"], resolved["of"], resolved["rate"]) == (1, 3, pytest.approx(1 / 3))
    assert 0 <= resolved["low"] <= resolved["rate"] <= resolved["high"] <= 1
    assert told["by_repo"] == [
        {"repo": "one/one", "instances": 2, "resolved": 1, "rate": 0.5},
        {"repo": "two/two", "instances": 1, "resolved": 0, "rate": 0.0},
    ]
    assert [one["difficulty"] for one in told["by_difficulty"]] == ["<15 min fix", "1-4 hours"]
    assert [one["resolved"] for one in told["per_instance"]] == [True, False, False]


def test_languages_are_told_by_the_files_of_the_fix(store: Store) -> None:
    gold = {"a": ("a.py",), "b": ("b.tsx", "b.ts", "b.go"), "c": ("c.vue",), "d": ()}
    evaluate(store, [Ran(name, gold=files) for name, files in gold.items()])
    assert [one["language"] for one in results(store)["by_language"]] == ["", "python", "typescript", "vue"]


def test_difficulties_stand_in_their_order_and_unknown_ones_last(store: Store) -> None:
    said = (">4 hours", "odd", "15 min - 1 hour", "<15 min fix", "", "1-4 hours")
    evaluate(store, [Ran(f"i{at}", difficulty=difficulty) for at, difficulty in enumerate(said)])
    shown = [one["difficulty"] for one in results(store)["by_difficulty"]]
    assert shown == ["<15 min fix", "15 min - 1 hour", "1-4 hours", ">4 hours", "", "odd"]


def test_a_failure_of_the_infrastructure_is_no_answer_and_one_of_the_chain_is_a_wrong_one(store: Store) -> None:
    evaluate(store, [RIGHT])
    for name, state, stage in (
        ("x-1", AttemptState.INFRASTRUCTURE, "image"),
        ("x-2", AttemptState.FAILED, "context"),
        ("x-3", None, ""),
    ):
        put_instance(store, Ran(name))
        if state:
            store.evals.put_attempt(AttemptRecord(name, None, state, stage, "It is so."))
    told = results(store)
    assert (told["instances"], told["attempted"], told["done"]) == (4, 3, 1)
    assert (told["resolved"]["count"], told["resolved"]["of"], told["resolved"]["rate"]) == (1, 2, 0.5)
    assert told["failures"] == [
        {"stage": "context", "state": "failed", "count": 1},
        {"stage": "image", "state": "infrastructure", "count": 1},
    ]
    rows = {one["id"]: one for one in told["per_instance"]}
    assert [rows[name]["resolved"] for name in ("x-1", "x-2", "x-3")] == [None, False, None]
    assert [rows[name]["state"] for name in ("x-1", "x-2", "x-3")] == ["infrastructure", "failed", ""]
    assert rows["x-1"]["failure"] == "It is so."
    assert rates(told["best_at_n"]) == [(1, 0.5), (2, 0.5), (4, 0.5)]
    assert rates(told["pass_at_k"], "k", "value")[-1] == (4, 0.5)


def test_an_instance_whose_grading_failed_is_left_out_though_it_has_a_run(store: Store) -> None:
    evaluate(store, [RIGHT])
    put_instance(store, WRONG)
    run = put_run(store, WRONG)
    store.evals.put_attempt(AttemptRecord(WRONG.name, run, AttemptState.INFRASTRUCTURE, "grading", "No disk."))
    told = results(store)
    assert (told["resolved"]["of"], told["localization"]["instances"], told["format"]["samples"]) == (1, 1, 4)
    assert told["per_instance"][1]["samples"] == 4


def test_what_is_not_graded_is_unknown_and_not_wrong(store: Store) -> None:
    evaluate(store, [RIGHT, replace(WRONG, graded="")])
    told = results(store)
    assert (told["graded"], told["resolved"]["count"], told["resolved"]["of"]) == (1, 1, 2)
    assert (told["resolved"]["rate"], told["resolved"]["low"]) == (None, None)
    assert [one["resolved"] for one in told["per_instance"]] == [True, None]
    assert told["best_at_n"][-1] == {"n": 4, "rate": None, "low": None, "high": None, "graded": 0.5}
    assert told["pass_at_k"][-1] == {"k": 4, "value": None, "exact": False}
    assert sum(part["instances"] for part in told["calibration"]) == 1


def test_an_instance_whose_patches_are_still_being_graded_does_not_count_yet(store: Store) -> None:
    evaluate(store, [RIGHT])
    put_instance(store, WRONG)
    store.evals.put_attempt(AttemptRecord(WRONG.name, put_run(store, WRONG), AttemptState.PREDICTED))
    told = results(store)
    assert (told["attempted"], told["done"], told["resolved"]["of"], told["resolved"]["rate"]) == (2, 1, 1, 1.0)
    assert told["best_at_n"][-1]["rate"] == 1.0
    assert told["failures"] == []


def test_a_run_that_drew_no_repair_answers_nothing(store: Store) -> None:
    evaluate(store, [Ran("i", normals="", lists=(("b.py",), ("a.py",)))])
    told = results(store)
    assert (told["resolved"]["rate"], told["best_at_n"], told["pass_at_k"]) == (None, [], [])
    assert told["format"] == {"samples": 0, "valid": 0, "rate": None, "rejected": []}
    assert told["localization"] == {
        "instances": 1,
        "recall": 0.0,
        "recall_any": 1.0,
        "all_found": 0.0,
        "all_found_any": 1.0,
    }


def test_an_evaluation_that_has_just_begun_has_a_report(store: Store) -> None:
    store.evals.begin(EVAL)
    told = results(store)
    assert (told["instances"], told["resolved"]["rate"], told["best_at_n"], told["best_at_tests"]) == (0, None, [], [])
    put_instance(store, RIGHT)
    assert results(store)["per_instance"][0]["chosen"] is None


# --- stages ----------------------------------------------------------------------------------------------------------


def test_the_files_of_the_fix_are_looked_for_in_the_first_list_and_in_all(store: Store) -> None:
    both = Ran("i", lists=(("a.py", "x.py"), ("b.py",)), gold=("a.py", "b.py"))
    evaluate(store, [both, replace(RIGHT, gold=()), WRONG])
    told = results(store)["localization"]
    assert (told["instances"], told["recall"], told["recall_any"]) == (2, 0.25, 1.0)
    assert (told["all_found"], told["all_found_any"]) == (0.0, 1.0)


def test_rejected_samples_are_counted_by_reason(store: Store) -> None:
    evaluate(store, [RIGHT, EMPTY])
    assert results(store)["format"] == {
        "samples": 8,
        "valid": 3,
        "rate": 0.375,
        "rejected": [{"reason": "search-not-found", "count": 5}],
    }


def test_confidence_is_compared_with_what_is_right(store: Store) -> None:
    evaluate(store, [RIGHT, WRONG, Ran("x", "abcd", right="b"), EMPTY])
    told = [(part["instances"], part["resolved"], part["rate"]) for part in results(store)["calibration"]]
    assert told == [(0, 0, None), (1, 0, 0.0), (0, 0, None), (2, 1, 0.5), (0, 0, None)]  # four equals share theirs


# --- curves ----------------------------------------------------------------------------------------------------------


def test_the_curves_are_those_of_ranking_the_first_samples_and_tests(store: Store) -> None:
    run = Ran("i", "abbbb", right="a", tests=".tu", passing=(("a", "tu"), ("b", "t")))
    evaluate(store, [run])
    told = results(store)
    assert rates(told["best_at_n"]) == [(1, 1.0), (2, 1.0), (5, 1.0)]
    assert rates(told["vote_at_n"]) == [(1, 1.0), (2, 1.0), (5, 0.0)]
    assert rates(told["best_at_tests"], "tests") == [(0, 0.0), (1, 0.0), (3, 1.0)]
    assert rates(told["pass_at_k"], "k", "value") == [(1, 0.2), (2, 0.4), (5, 1.0)]


def test_the_curve_is_that_of_the_method_the_run_chose_by(store: Store) -> None:
    run = Ran("i", "abbbb", right="a", tests="tu", passing=(("a", "tu"), ("b", "t")), method=Method.VOTE)
    evaluate(store, [run])
    told = results(store)
    assert rates(told["best_at_n"]) == rates(told["vote_at_n"])
    assert told["per_instance"][0]["resolved"] is False


def test_instances_with_fewer_samples_keep_their_choice_on_a_longer_curve(store: Store) -> None:
    evaluate(store, [Ran("i", "a", right="a"), Ran("j", "b" * 12, right="")])
    told = results(store)
    assert rates(told["best_at_n"]) == [(1, 0.5), (2, 0.5), (5, 0.5), (10, 0.5), (12, 0.5)]
    assert rates(told["pass_at_k"], "k", "value")[-1] == (12, 0.5)


def test_the_grade_of_the_earliest_sample_counts_before_that_of_another_spelling(store: Store) -> None:
    evaluate(store, [replace(RIGHT, graded="")])
    other = replace(grade(RIGHT, "a"), key="0" * 64, diff="0" * 64, resolved=False)
    store.evals.put_grade(other)
    assert results(store)["per_instance"][0]["resolved"] is False
    store.evals.put_grade(grade(RIGHT, "a"))
    assert results(store)["per_instance"][0]["resolved"] is True


# --- killed and resumed ----------------------------------------------------------------------------------------------


def test_the_results_are_the_same_to_the_byte_after_a_kill(tmp_path: Path) -> None:
    whole = [RIGHT, WRONG, EMPTY, Ran("z", "abbbb", tests="t.u", passing=(("a", "tu"), ("b", "t")))]
    with Store.open(tmp_path / "whole.sqlite") as store:
        evaluate(store, whole)
        expected = evaluation_document(store)
    with Store.open(tmp_path / "resumed.sqlite") as store:
        store.evals.begin(EVAL)
        for ran in reversed(whole):
            put_instance(store, ran)
        store.evals.put_attempt(AttemptRecord("z", None, AttemptState.INFRASTRUCTURE, "image", "No image."))
        killed = store.runs.begin(replace(START, instance="z"))
        late = Completion(1, "x", Finish.STOP, usage=Usage(100, 100, 7))  # the prompt is booked on another sample
        store.runs.link(killed, record(store, request("z", 0, 1), late), 1)
        for ran in reversed(whole):
            put_done(store, ran)
        resumed = evaluation_document(store)
    assert json.dumps(resumed["results"]) == json.dumps(expected["results"])
    assert resumed["cost"]["prompt_tokens"] == expected["cost"]["prompt_tokens"] + 100


def test_the_report_can_be_read_while_the_evaluation_goes_on(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        evaluate(store, [RIGHT])
        with Store.open_readonly(tmp_path / "s.sqlite") as reader:
            assert evaluation_document(reader) == evaluation_document(store)


def test_a_store_without_an_evaluation_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="no evaluation"):
        evaluation_document(store)


def test_the_document_is_json_and_says_what_was_run(store: Store) -> None:
    evaluate(store, [RIGHT])
    document = json.loads(json.dumps(evaluation_document(store), allow_nan=False))
    assert document["schema"] == 2
    assert document["run"] == {
        "name": "small",
        "dataset": "SWE-bench/Some",
        "fingerprint": "f" * 64,
        "model": "model",
        "versions": {"amini": "0.1.0", "swebench": "5.0.2"},
        "settings": {"grade": "all"},
        "started": "2023-11-14T22:13:20+00:00",
    }


# --- cost ------------------------------------------------------------------------------------------------------------


def test_what_was_paid_for_is_summed_up_once(store: Store) -> None:
    store.evals.begin(EVAL)
    for ran in (RIGHT, Ran("i", tests="tu")):
        put_instance(store, ran)
        put_done(store, ran)
    put_run(store, RIGHT)  # a second run replays all of it
    job = Job(Environment("sha256:1"), PackedTree("d"), (), ())
    store.put_box(job.key(), job, JobResult((StepResult(Ending.EXITED, 0, seconds=1800.0),)))
    told = evaluation_document(store)["cost"]
    assert (told["prompt_tokens"], told["cached_tokens"], told["distinct_prompt_tokens"]) == (300, 90, 300)
    assert told["completion_tokens"] == 70
    assert told["prefill_ratio"] == 0.7
    assert (told["sandbox_seconds"], told["grading_seconds"], told["price"]) == (1800.0, 8.0, None)
    priced = evaluation_document(store, Prices(prompt=2.0, completion=10.0, box_hour=0.5))["cost"]["price"]
    assert priced == {
        "prompt": pytest.approx(420e-6),
        "cached": pytest.approx(180e-6),
        "completion": pytest.approx(700e-6),
        "boxes": 0.25,
        "total": pytest.approx(0.2513),
    }
    half = evaluation_document(store, Prices(cached=1.0))["cost"]["price"]
    assert (half["prompt"], half["cached"], half["total"]) == (None, pytest.approx(90e-6), pytest.approx(90e-6))


def test_a_prompt_that_is_asked_for_twice_is_distinct_once(store: Store) -> None:
    store.evals.begin(EVAL)
    run = store.runs.begin(START)
    asked = request("Fix it.")
    draw(store, run, asked, "aa")
    draw(store, run, replace(asked, params=replace(asked.params, seed=9)), "aa")
    told = evaluation_document(store)["cost"]
    assert (told["prompt_tokens"], told["distinct_prompt_tokens"], told["prefill_ratio"]) == (200, 100, 1.4)


def test_an_evaluation_that_asked_nothing_has_no_ratio(store: Store) -> None:
    store.evals.begin(EVAL)
    told = evaluation_document(store)["cost"]
    assert (told["prefill_ratio"], told["wall_seconds"], told["model_seconds"]) == (None, 0.0, 0.0)


# --- one instance ----------------------------------------------------------------------------------------------------


def test_one_instance_is_shown_in_depth(store: Store) -> None:
    evaluate(store, [Ran("i", "ba.bb", right="a", graded="b", tests="t.", passing=(("a", "t"),)), WRONG])
    told = json.loads(json.dumps(one_instance(store, "i")))
    assert (told["schema"], told["id"], told["state"], told["issue"]) == (2, "i", "done", "i fails.")
    assert told["files"] == [{"paths": ["a.py", "b.py"], "votes": 1}]
    assert told["tests"] == [{"id": "test_t.py", "origin": "generated", "votes": 1, "before": "fail"}]
    rare, common = told["patches"]
    assert (common["normal"], common["votes"], common["orders"], common["resolved"]) == ("b", 3, [0, 3, 4], False)
    assert common["diff"] == "diff --git a/a.py b/a.py\n+b  # 0\n"
    assert (rare["normal"], rare["resolved"], rare["verdicts"], common["verdicts"]) == ("a", None, ["pass"], ["fail"])
    assert told["rejected"] == [{"order": 2, "reason": "search-not-found", "detail": "no line says x = 3"}]
    assert told["choice"]["normal"] == "a"
    assert (told["choice"]["votes"], told["choice"]["valid"], told["choice"]["resolved"]) == (1, 4, None)
    assert [(point["n"], point["normal"], point["resolved"]) for point in told["best_at_n"]] == [
        (1, "b", False),
        (2, "a", None),
        (5, "a", None),
    ]
    assert told["notes"] == ["a note"]


def test_an_instance_without_a_run_and_one_without_a_valid_patch_are_shown(store: Store) -> None:
    evaluate(store, [EMPTY])
    put_instance(store, RIGHT)
    told = one_instance(store, RIGHT.name)
    assert (told["state"], told["patches"], told["choice"], told["gold_files"]) == ("", [], None, ["a.py"])
    told = one_instance(store, EMPTY.name)
    assert (told["patches"], told["choice"], len(told["rejected"])) == ([], None, 4)
    assert told["best_at_n"][-1] == {"n": 4, "normal": None, "resolved": False}


def test_a_run_that_ended_before_its_decision_shows_what_it_has(store: Store) -> None:
    store.evals.begin(EVAL)
    put_instance(store, RIGHT)
    run = store.runs.begin(replace(START, instance=RIGHT.name))
    draw(store, run, request("Fix it."), "aa")
    store.runs.finish(run, RunStatus.FAILED, 2)
    store.evals.put_attempt(AttemptRecord(RIGHT.name, run, AttemptState.FAILED, "repair", "No file fits."))
    told = one_instance(store, RIGHT.name)
    assert (told["failure"], told["files"], told["patches"], told["best_at_n"]) == ("No file fits.", [], [], [])
    assert results(store)["per_instance"][0]["resolved"] is False


def test_an_instance_that_is_not_there_is_refused(store: Store) -> None:
    evaluate(store, [RIGHT])
    with pytest.raises(UsageError, match=r"no instance x\?\[2J"):
        one_instance(store, "x\x1b[2J")


def test_tokens_that_a_server_does_not_tell_are_null_and_their_samples_counted(store: Store) -> None:
    store.evals.begin(EVAL)
    one = Completion(0, "", Finish.STOP, usage=UNTOLD)
    record(store, request("Fix it."), one)
    prices = Prices(prompt=2.0, completion=10.0, box_hour=0.5)
    none = evaluation_document(store, prices)["cost"]
    assert none["untold"] == {"prompt_tokens": 1, "cached_tokens": 1, "completion_tokens": 1}
    assert {none[name] for name in (*none["untold"], "distinct_prompt_tokens", "prefill_ratio")} == {None}
    assert none["price"] == {"prompt": None, "cached": None, "completion": None, "boxes": 0.0, "total": 0.0}
    record(store, request("Mend it."), replace(one, usage=Usage(100, None, 7)))
    some = evaluation_document(store, prices)["cost"]
    assert (some["prompt_tokens"], some["cached_tokens"], some["completion_tokens"]) == (100, None, 7)
    assert (some["prefill_ratio"], some["price"]["prompt"]) == (None, None)
    text = shown(evaluation_tables([evaluation_document(store, prices)]), 120)
    assert "at least 100 (unknown for 1 sample)" in text
    assert "at least 0.00" in text


def test_what_is_not_told_to_be_cached_is_priced_as_computed(store: Store) -> None:
    store.evals.begin(EVAL)
    record(store, request("Fix it."), Completion(0, "", Finish.STOP, usage=Usage(100, None, 7)))
    price = evaluation_document(store, Prices(prompt=1.0, cached=0.1))["cost"]["price"]
    assert (price["prompt"], price["cached"]) == (pytest.approx(1e-4), 0.0)
