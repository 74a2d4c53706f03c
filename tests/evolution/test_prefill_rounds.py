"""What the prefill benchmark measures with rounds: scripted patches, prompts that share their beginning, and a trie."""

from itertools import chain

from agentless_mini.chain.lexical import survey
from agentless_mini.chain.session import Subject
from agentless_mini.domain import Localization, ModelCard, Stage
from tests.benchmarks import library
from tests.benchmarks.prefill import LISTS, fresh_issue
from tests.benchmarks.prefill_rounds import PatchesFirst, ScriptedAnswers, distinct_tokens, draw_rounds
from tests.chain.workbench import run
from tests.fakes.model import Script, ScriptedSampler


def drawn(way: type[ScriptedAnswers]) -> ScriptedAnswers:
    issue, snapshot = fresh_issue(), library(chain(*LISTS))
    sampler = way(ScriptedSampler(Script.of("nothing"), ModelCard("scripted", 65_536)))
    localization = Localization(LISTS, (1,) * len(LISTS))
    run(draw_rounds(sampler, Subject(issue, snapshot, survey(issue, snapshot)), localization, (3, 5, 4)))
    return sampler


def test_every_round_asks_for_its_samples_and_shows_five_patches_behind_the_code() -> None:
    asked = drawn(ScriptedAnswers).asked
    assert [request.stage for request in asked] == [Stage.REPAIR] * 4 + [Stage.EVOLVE] * 8
    assert sum(len(request.indices) for request in asked) == 15
    codes = tuple(request.messages[-1].content for request in asked[:4])
    for request in asked[4:]:
        content = request.messages[-1].content
        assert content.startswith(codes)
        assert content.count("\n+++ b/bisect.py\n") == 5


def test_the_peer_shows_the_same_before_the_code() -> None:
    asked = drawn(PatchesFirst).asked
    codes = tuple(request.messages[-1].content for request in asked[:4])
    for request in asked[4:]:
        content = request.messages[-1].content
        assert content.endswith(codes)
        assert content.count("\n+++ b/bisect.py\n") == 5


def test_distinct_text_counts_a_token_once_for_all_prompts_that_are_equal_up_to_it() -> None:
    assert distinct_tokens([]) == 0
    assert distinct_tokens([[1, 2, 3], [1, 2, 3]]) == 3
    assert distinct_tokens([[1, 2, 3], [1, 2], [1, 2, 4, 5], [6, 2, 3]]) == 3 + 2 + 3
