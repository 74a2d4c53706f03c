"""`amini repair --rounds`: the exact prompts of two rounds, and that a second run asks, scores and runs nothing."""

import json
import shutil
from pathlib import Path

import pytest

from agentless_mini.record import Store
from tests.chain.evolving import start, starts
from tests.chain.workbench import FIX, NONSENSE, SAME_FIX, WRONG
from tests.commands import test_execution as execution
from tests.commands.running import LOCALIZED, VOTE_ALONE, Home, one_sentence
from tests.fakes.model import Answer, Rule, ScoreRule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import make_repository

GOLDEN = Path(__file__).parent / "golden" / "rounds.txt"
SCORES = (
    ScoreRule(contains="in prices:", score=2.0),
    ScoreRule(contains="result = 7", score=1.0),
    ScoreRule(score=0.0),
)


def server(first: tuple[str, ...], later: tuple[str, ...]) -> ScriptedServer:
    said = (("repair", first), ("evolve", later), ("reproduce", execution.TESTS))
    rules = [Rule(stage=stage, answers=tuple(Answer(text=text) for text in texts)) for stage, texts in said]
    return ScriptedServer(ServedModel(script=Script(rules=(LOCALIZED, *rules), scores=SCORES)))


def arguments(url: str, *more: str) -> tuple[str, ...]:
    base = ("repair", ".", "../issue.md", "--base-url", url, "--model", "scripted", "--store", "../s.sqlite")
    return (*base, "--rounds", "2", *more)


def asked(endpoint: ScriptedServer, stage: str) -> list[list[dict[str, str]]]:
    chats = endpoint.log.chats()
    prompts = {chat.prompt: json.loads(chat.body)["messages"] for chat in chats if chat.stage == stage}
    return list(prompts.values())


def told(messages: list[dict[str, str]]) -> str:
    return "".join(f"=== {message['role']}\n{message['content']}\n" for message in messages)


def test_the_exact_prompts_of_two_rounds(home: Home) -> None:
    with server((WRONG, FIX, NONSENSE, SAME_FIX), (FIX,)) as endpoint:
        done = home.amini(*arguments(endpoint.url, "-n", "8", "--seed", "3"))
        assert done.returncode == 0, done.stderr
        (first,), (later,) = asked(endpoint, "repair"), asked(endpoint, "evolve")
        assert sorted(sample for chat in endpoint.log.chats() for sample in chat.samples if chat.stage == "evolve") == [
            3, 4, 5, 6,
        ]  # fmt: skip
    assert later[0] == first[0]
    assert later[1]["content"].startswith(first[1]["content"])
    assert f"##### round 0\n{told(first)}##### round 1\n{told(later)}" == GOLDEN.read_text()


def test_a_second_run_sends_nothing_and_more_rounds_pay_only_for_themselves(home: Home) -> None:
    with server((start(1), start(2)), (start(3), FIX)) as endpoint:
        first = home.amini(*arguments(endpoint.url, "-n", "4"))
        sent = len(endpoint.log.requests)
        again = home.amini(*arguments(endpoint.url, "-n", "4"))
        assert [seen.path for seen in endpoint.log.requests[sent:]] == []
        third = home.amini(*arguments(endpoint.url, "--rounds", "3", "--per-round", "2"))
        assert [chat.stage for chat in endpoint.log.chats()].count("evolve") == 2
    assert (first.returncode, again.returncode, third.returncode) == (0, 0, 0), third.stderr
    assert again.stdout == first.stdout
    assert "Nothing selects what the later rounds are shown" in " ".join(first.stderr.split())


def test_a_reward_model_selects_and_is_asked_once(home: Home) -> None:
    with server((start(1), start(7), start(2)), (NONSENSE, FIX, FIX)) as endpoint:
        judge = f'{VOTE_ALONE}[scorer]\nbase_url = "{endpoint.url}"\nmodel = "scripted"\n'
        (home.root / "config" / "amini" / "config.toml").write_text(judge)
        more = ("--rounds", "3", "--per-round", "3", "--parents", "1", "--select", "reward-model")
        line = arguments(endpoint.url, *more)
        first = home.amini(*line)
        assert first.returncode == 0, first.stderr
        pages = [json.loads(seen.body)["text_2"] for seen in endpoint.log.requests if seen.path == "/score"]
        assert [len(page) for page in pages] == [3, 1]
        shown = [messages[1]["content"] for messages in asked(endpoint, "evolve")]
        assert [starts(text) for text in shown] == [[7], []]
        assert "+    for price in prices:" in shown[1]
        sent = len(endpoint.log.requests)
        second = home.amini(*line)
        assert len(endpoint.log.requests) == sent
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "Nothing selects" not in first.stderr


def test_the_reward_models_key_is_read_from_the_environment_and_recorded_nowhere(home: Home) -> None:
    with server((start(1),), (FIX,)) as endpoint:
        judge = f'{VOTE_ALONE}[scorer]\nbase_url = "{endpoint.url}"\nmodel = "scripted"\n'
        (home.root / "config" / "amini" / "config.toml").write_text(judge)
        line = arguments(endpoint.url, "-n", "2", "--select", "reward-model")
        refused = home.amini(*line, env={"AMINI_SCORER_API_KEY": "schlüssel"})
        done = home.amini(*line, env={"AMINI_SCORER_API_KEY": "sk-secret-2"})
    assert refused.returncode == 2
    assert "AMINI_SCORER_API_KEY" in one_sentence(refused.stderr)
    assert done.returncode == 0
    assert not any(b"sk-secret-2" in path.read_bytes() for path in home.root.glob("s.sqlite*"))


def test_the_rounds_are_in_the_record(home: Home) -> None:
    with server((start(1), start(2)), (FIX, FIX)) as endpoint:
        home.amini(*arguments(endpoint.url, "-n", "4"))
    with Store.open_readonly(home.root / "s.sqlite") as store:
        samples = [one for one in store.runs.trace(store.runs.summaries()[0].run.id).samples if one.stage.repairs]
    assert [(one.order, one.round) for one in samples] == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_a_bound_saves_samples_and_says_how_many(home: Home) -> None:
    with server((FIX,), ()) as endpoint:
        line = arguments(endpoint.url, "-n", "40", "--stop-when", "0.95", "--rounds", "1")
        first = home.amini(*line)
        sent = len(endpoint.log.requests)
        second = home.amini(*line)
        assert len(endpoint.log.requests) == sent
    assert "saved): the winner of the vote stays" in " ".join(first.stderr.split())
    assert (second.returncode, second.stdout) == (0, first.stdout)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_tests_select_and_a_second_run_opens_no_box(home: Home) -> None:
    shutil.rmtree(home.repository)
    home.root.joinpath("config", "amini", "config.toml").unlink()
    home.root.joinpath("config", "amini").rmdir()
    make_repository(home.repository, execution.FILES)
    more = ("--per-round", "3", "--select", "execution", "--parents", "1", "--tests", "3", "--sandbox", "local")
    with server((WRONG, WRONG, FIX), (start(4), FIX, WRONG)) as endpoint:
        first = home.amini(*arguments(endpoint.url, *more))
        assert first.returncode == 0, first.stderr
        ((_, later),) = asked(endpoint, "evolve")
    assert "+    for price in prices:" in later["content"]
    assert "+    result = 1" not in later["content"]
    log = execution.counting_bubblewrap(home)
    second = home.amini(*arguments(endpoint.url, *more))  # the server is gone
    assert (second.returncode, second.stdout) == (0, first.stdout), second.stderr
    assert execution.boxes_started(log) == 0
