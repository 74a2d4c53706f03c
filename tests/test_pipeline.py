"""The chain of one issue, end to end over the scripted sampler."""

import pytest

from agentless_mini.domain import Issue, ModelCard, Note, Prediction, Snapshot
from agentless_mini.errors import RepositoryError, UsageError
from agentless_mini.pipeline import ChainSettings, resolve
from agentless_mini.samplers.scripted import Answer, Rule, Script, ScriptedSampler
from agentless_mini.stages.repair import RepairSettings
from tests.stages.workbench import FIX, ISSUE, NONSENSE, SAME_FIX, WRONG, Bench, run, shop

FILES = Rule(stage="localize", answers=(Answer(text="```\nshop/cart.py\n```"),))


def solve(*repairs: str, issue: Issue = ISSUE, settings: ChainSettings | None = None) -> tuple[Prediction, Bench]:
    script = Script(rules=(FILES, Rule(answers=tuple(Answer(text=text) for text in repairs))))
    bench = Bench(ScriptedSampler(script, ModelCard("scripted", 8192)))
    chain = settings or ChainSettings(repair=RepairSettings(samples=len(repairs)))
    return run(resolve(issue, shop(), bench.session, chain)), bench


def test_the_change_that_most_samples_agree_on_is_chosen() -> None:
    prediction, _ = solve(WRONG, FIX, NONSENSE, SAME_FIX)
    assert prediction.choice is not None
    assert (prediction.choice.votes, prediction.choice.valid) == (2, 3)
    assert b"+    for price in prices:\n" in prediction.choice.patch.diff
    assert len(prediction.candidates) == 4
    assert prediction.localization.lists == (("shop/cart.py",),)


def test_no_valid_sample_is_a_result_without_a_choice() -> None:
    prediction, _ = solve(NONSENSE, NONSENSE)
    assert prediction.choice is None
    assert len(prediction.candidates) == 2


def test_given_files_skip_localization() -> None:
    settings = ChainSettings(files=("shop/cart.py",), repair=RepairSettings(samples=1))
    prediction, _ = solve(FIX, settings=settings)
    assert prediction.localization.votes == (0,)
    with pytest.raises(UsageError, match="nowhere"):
        solve(FIX, settings=ChainSettings(files=("nowhere.py",)))


def test_an_issue_longer_than_its_share_loses_its_middle_and_says_so() -> None:
    prediction, bench = solve(FIX, issue=Issue(ISSUE.text + "log line\n" * 5000))
    assert "The middle of the issue was left out to fit the context." in prediction.notes
    assert not any(isinstance(event, Note) for event in bench.events)


def test_a_tree_without_text_files_is_an_error() -> None:
    bench = Bench(ScriptedSampler(Script.of(FIX)))
    with pytest.raises(RepositoryError, match="no text file"):
        run(resolve(ISSUE, Snapshot("empty", "c" * 40, "d" * 64, ()), bench.session, ChainSettings()))


def test_the_same_script_gives_the_same_prediction() -> None:
    assert solve(WRONG, FIX, SAME_FIX)[0] == solve(WRONG, FIX, SAME_FIX)[0]
