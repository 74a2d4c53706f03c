"""The chain with rounds of evolution, end to end over the scripted sampler; and that without them nothing changed."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from agentless_mini.chain import session as benches
from agentless_mini.chain.evolve import scoring_of
from agentless_mini.chain.pipeline import resolve
from agentless_mini.chain.session import NoBoxes, Opening
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Decoding, Event, Job, JobResult, ModelCard, Prediction, RewardModel, SampleDone, Stage
from agentless_mini.errors import AminiError, UsageError
from agentless_mini.ports import Watch
from agentless_mini.settings import Config
from agentless_mini.settings.run import EvolveSettings, RepairSettings, ReproduceSettings, Selecting, Until
from tests.chain import boxes
from tests.chain.evolving import start, starts
from tests.chain.test_pipeline import FILES, OWN, PASSES, SHOWS_IT, fixed_by_the_fix
from tests.chain.workbench import FIX, ISSUE, NONSENSE, WRONG, Bench, run, shop, text_file
from tests.fakes.model import Answer, Rule, ScoreRule, Script, ScriptedSampler, ScriptedScorer
from tests.fakes.sandbox import ScriptedSandbox

TREE = shop(text_file(OWN, "from shop.cart import total\n\n\ndef test_own():\n    assert total([]) == 0\n"))
CARD = ModelCard("scripted", 8192)
EXECUTION = EvolveSettings(rounds=2, select=Selecting.EXECUTION, parents=1)
REWARD = EvolveSettings(rounds=2, select=Selecting.REWARD_MODEL, parents=1)
JUDGE = (ScoreRule(contains="result = 3", score=4.0), ScoreRule(contains="result = 1", score=3.0), ScoreRule(score=0.0))


class Chain:
    """One run of the chain; the generated test `SHOWS_IT` passes with FIX alone."""

    def __init__(
        self,
        repairs: Sequence[str],
        later: Sequence[str] = (),
        card: ModelCard = CARD,
        scores: Sequence[ScoreRule] = (),
    ) -> None:
        said = (("repair", repairs), ("evolve", later), ("reproduce", (SHOWS_IT, PASSES)))
        rules = [Rule(stage=Stage(stage), answers=tuple(Answer(text=text) for text in texts)) for stage, texts in said]
        self.sampler = ScriptedSampler(Script(rules=(FILES, *rules)), card)
        self.scorer = ScriptedScorer(*scores)
        self.sandbox = ScriptedSandbox(self._answer)
        self.met: list[tuple[bytes, tuple[str, ...]]] = []

    def resolve(
        self, settings: Config, opening: Opening | NoBoxes | None = None, until: Until = Until.TESTS
    ) -> Prediction:
        session = Bench(self.sampler).session
        if settings.evolve.scored:
            scoring = scoring_of(self.scorer, RewardModel("judge"), load_prompts(None))
            session = replace(session, scoring=scoring)
        return run(resolve(ISSUE, TREE, session, settings, opening or Opening(boxes.PYTEST, self.open), until=until))

    async def open(self, watch: Watch) -> benches.Boxes:
        return boxes.over(self.sandbox, TREE, [])

    def _answer(self, job: Job) -> JobResult | AminiError:
        files = {file.path: file.data or b"" for file in job.files}
        if "shop/cart.py" in files:
            self.met.append((files["shop/cart.py"], tuple(step.argv[-1] for step in job.steps)))
        return fixed_by_the_fix(job)

    def added(self) -> str:
        """Return what the one later prompt adds to the repair prompt."""
        first, later = (
            next(request for request in self.sampler.requests if request.stage is stage).messages[1].content
            for stage in (Stage.REPAIR, Stage.EVOLVE)
        )
        assert later.startswith(first)
        return later[len(first) :]


def chain(evolve: EvolveSettings, samples: int = 6, **more: object) -> Config:
    settings = Config(repair=RepairSettings(samples=samples), reproduce=ReproduceSettings(samples=2), evolve=evolve)
    return settings.model_copy(update=more)


# --- without rounds --------------------------------------------------------------------------------------------------


def test_without_rounds_the_requests_are_those_that_older_records_have() -> None:
    made = Chain([WRONG, FIX, NONSENSE])
    made.resolve(chain(EvolveSettings(), 5))
    asked = {(request.stage.value, request.indices, request.key()) for request in made.sampler.requests}
    assert len(made.sampler.requests) == len(asked)
    assert asked == {
        ("localize", (0, 1, 2, 3), "111ecf34dc293106aa635fdeb08d974f83b6b89a99b7305d723c97087d2cc762"),
        ("repair", (0, 1, 2, 3, 4), "dc84b56f3303c5da50de3b1c2b68cc4780f1ea0979c59c91f2412363e29bcf33"),
        ("reproduce", (0, 1), "011b4119be928fbf984f98db3c68789ca6d918f058795bc3e8a93ab83c1c3962"),
    }  # a change of the prompts changes these


def test_without_rounds_the_other_settings_of_them_do_not_count() -> None:
    one = Chain([WRONG, FIX]).resolve(chain(EvolveSettings()))
    other = EvolveSettings(parents=1, per_round=3, select=Selecting.EXECUTION, self_evolving=True, seed=5)
    assert Chain([WRONG, FIX]).resolve(chain(other)) == one


# --- selectors -------------------------------------------------------------------------------------------------------


def test_the_tests_select_what_the_next_round_is_shown_and_no_patch_meets_them_twice() -> None:
    made = Chain([start(1), start(1), FIX], [start(4), FIX, start(1)])
    prediction = made.resolve(chain(EXECUTION))
    assert "+    for price in prices:\n" in made.added()
    assert starts(made.added()) == []
    assert len(made.met) == len(set(made.met)) == 3
    assert prediction.choice is not None
    assert b"+    for price in prices:\n" in prediction.choice.patch.diff
    assert prediction.choice.votes == 2
    assert [one.round for one in prediction.candidates] == [0, 0, 0, 1, 1, 1]


def test_the_choice_is_that_of_all_samples_at_once() -> None:
    evolved = Chain([start(1), start(2), FIX], [start(4), FIX, NONSENSE])
    prediction = evolved.resolve(chain(EXECUTION))
    plain = Chain([start(1), start(2), FIX, start(4), FIX, NONSENSE]).resolve(chain(EvolveSettings()))
    assert (prediction.execution, prediction.choice) == (plain.execution, plain.choice)


def test_where_no_sandbox_can_be_had_after_all_chance_selects_and_says_so() -> None:
    async def broken(watch: Watch) -> NoBoxes:
        return NoBoxes("Nothing can be built.")

    made = Chain([start(1), start(2), start(3)], [FIX])
    prediction = made.resolve(chain(EXECUTION), Opening(boxes.PYTEST, broken))
    assert "Round 1 was shown patches at random: no test says which are better." in prediction.notes
    assert len(starts(made.added())) == 1


def test_a_run_cancelled_while_a_round_waits_for_the_tests_ends_so_though_these_are_proven_all_the_same() -> None:
    made = Chain((WRONG, FIX), (FIX, FIX))
    sampler, sampled = Unhurried(made.sampler), asyncio.Queue[Event]()

    def watch(event: Event) -> None:
        if isinstance(event, SampleDone) and event.stage is Stage.REPAIR:
            sampled.put_nowait(event)

    async def opens_after_the_first_round(watch: Watch) -> benches.Boxes:
        for _ in range(3):
            await sampled.get()
        sampler.waits = True
        return await made.open(watch)

    async def cancelled() -> None:
        session = replace(Bench(sampler).session, watch=watch)
        opening = Opening(boxes.PYTEST, opens_after_the_first_round)
        running = asyncio.create_task(resolve(ISSUE, TREE, session, chain(EXECUTION), opening))
        await sampler.asked.wait()
        for _ in range(50):  # until the second round waits for the tests that select its parents
            await asyncio.sleep(0.001)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        run(cancelled())


class Unhurried:
    """A sampler that answers what its model is, however late, in spite of being cancelled meanwhile."""

    def __init__(self, inner: ScriptedSampler) -> None:
        self._inner = inner
        self.waits = False
        self.asked = asyncio.Event()
        self.count_tokens, self.sample = inner.count_tokens, inner.sample

    async def card(self) -> ModelCard:
        if self.waits:
            self.asked.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return await self._inner.card()


def test_a_reward_model_selects_what_the_next_round_is_shown() -> None:
    made = Chain([start(2), start(1), NONSENSE], [start(3), start(1), FIX], scores=JUDGE)
    prediction = made.resolve(chain(REWARD.model_copy(update={"rounds": 3}), 9), NoBoxes("None."))
    shown = [request.messages[1].content for request in made.sampler.requests if request.stage is Stage.EVOLVE]
    assert [starts(text) for text in shown] == [[1], [3]]
    assert [len(request.answers) for request in made.scorer.requests] == [2, 2]  # each patch once
    assert not any(note.startswith("Nothing selects") for note in prediction.notes)


def test_the_warning_is_in_the_prediction() -> None:
    prediction = Chain([start(1)], [FIX]).resolve(chain(EvolveSettings(rounds=2)), NoBoxes("None."))
    assert sum(note.startswith("Nothing selects") for note in prediction.notes) == 1


# --- what does not go together ---------------------------------------------------------------------------------------

NONE = NoBoxes("None.")
BOUND = RepairSettings(stop_when=0.9)
LINES = replace(CARD, decoding=Decoding.LINES)


@pytest.mark.parametrize(
    ("card", "settings", "opening", "until", "words"),
    [
        (LINES, chain(EvolveSettings(rounds=2)), None, Until.TESTS, r"leave out --rounds \(evolve\.rounds\)"),
        (LINES, chain(EvolveSettings(), repair=BOUND), None, Until.TESTS, "--stop-when does not apply"),
        (CARD, chain(EXECUTION), NONE, Until.TESTS, "--select execution needs tests"),
        (CARD, chain(EXECUTION), None, Until.REPAIR, "--select execution needs tests"),
        (CARD, chain(EvolveSettings(rounds=2), repair=BOUND), None, Until.TESTS, "--stop-when cannot"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_asked(
    card: ModelCard, settings: Config, opening: NoBoxes | None, until: Until, words: str
) -> None:
    made = Chain([FIX], [FIX], card)
    with pytest.raises(UsageError, match=words):
        made.resolve(settings, opening, until)
    assert made.sampler.requests == []
    assert made.sandbox.jobs == []


def test_a_chain_that_ends_before_repair_has_no_rounds() -> None:
    made = Chain([FIX], [], LINES)
    prediction = made.resolve(chain(EvolveSettings(rounds=2)), until=Until.LOCALIZE)
    assert prediction.candidates == ()


def test_the_samples_that_a_bound_saved_are_told() -> None:
    prediction = Chain([FIX]).resolve(chain(EvolveSettings(), repair=RepairSettings(samples=40, stop_when=0.9)), NONE)
    drawn = len(prediction.candidates)
    assert drawn < 40
    assert any(
        note.startswith(f"Sampling ended after {drawn} of 40 samples ({40 - drawn} saved)") for note in prediction.notes
    )
