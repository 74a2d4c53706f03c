"""The simulated policy behind the port of a model, a judge behind that of a reward model, and trials of both.

A trial is the product's chain over a tree of one file: the prompt really shows patches, the policy reads their levels
out of it, its answers are edits, and the reward model's place is taken by the true level with noise of a known size.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Protocol

from agentless_mini.chain.pipeline import resolve
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.session import Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import (
    Completion,
    FileKind,
    Finish,
    Issue,
    Message,
    ModelCard,
    Patch,
    SampleRequest,
    Snapshot,
    SourceFile,
    Stage,
)
from agentless_mini.settings import Config
from agentless_mini.settings.run import EvolveSettings, RepairSettings, Selecting, Until

FILE = "answer.py"
LINE = "LEVEL, FORM = None, None\n"
ISSUE = Issue("The answer is not the right one: LEVEL and FORM are None.\n")
TREE = Snapshot("answers", "c" * 40, "d" * 64, (SourceFile(FILE, "100644", FileKind.TEXT, LINE.encode()),))
CARD = ModelCard("simulated", 65_536)
WRITTEN = re.compile(r"^\+LEVEL, FORM = (\d+), (\d+)$", re.MULTILINE)
EDIT = "```python\n### {}\n<<<<<<< SEARCH\n{}=======\nLEVEL, FORM = {}, {}\n>>>>>>> REPLACE\n```\n"
NO_PATCH = "I would rather not."


class Drawing(Protocol):
    """A policy: what a sample is, given the levels that are shown."""

    def draw(self, shown: Sequence[int], dice: Random) -> tuple[int, int] | None:
        """Return level and form of one sample, None for an answer that is no patch."""
        ...


class SimulatedSampler:
    """A model that answers by a policy: the same request is answered alike, and each seed is another model.

    An answer depends on the patches that the prompt shows, and on nothing else in it: its words may change.
    """

    def __init__(self, policy: Drawing, seed: int) -> None:
        """Draw from `policy`."""
        self._policy = policy
        self._seed = seed

    async def card(self) -> ModelCard:
        """Return a card with room for every prompt."""
        return CARD

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the characters: an upper estimate."""
        return sum(len(message.content) for message in messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Answer what the policy draws, given the patches that the prompt shows."""
        text = request.messages[-1].content
        shown = WRITTEN.findall(text) if request.stage is Stage.EVOLVE else []
        levels = [int(level) for level, _ in shown]
        for index in request.indices:
            dice = Random(f"{self._seed} {shown} {index}")  # noqa: S311 - drawn again alike, not for secrets
            drawn = self._policy.draw(levels, dice)
            answer = NO_PATCH if drawn is None else EDIT.format(FILE, LINE, *drawn)
            yield Completion(index, answer, Finish.STOP)


@dataclass(frozen=True, slots=True)
class Judge:
    """What takes the place of a reward model: the true level and noise, normal and of one patch always the same."""

    noise: float
    seed: int = 0

    async def __call__(self, issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        """Score the patches, by normal form."""
        return {patch.normal: self.score(patch) for patch in patches}

    def score(self, patch: Patch) -> float:
        """Return the level as this judge sees it."""
        dice = Random(f"{self.seed} {patch.normal}")  # noqa: S311 - drawn again alike, not for secrets
        return level_of(patch) + dice.gauss(0.0, self.noise)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a budget is spent: over how many rounds of how many samples, and what a round is shown.

    With the noise of a judge these are the patches that it scores highest, without one some at random. `stop_when` is
    the bound at which one round ends early.
    """

    policy: Drawing
    rounds: int
    per_round: int
    noise: float | None = None
    parents: int = 5
    stop_when: float | None = None

    @property
    def budget(self) -> int:
        """Return the samples in all."""
        return self.rounds * self.per_round


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one run: each sample in order, None where it is no patch, and what the chain chose by vote."""

    seed: int
    patches: tuple[Patch | None, ...]
    choice: Patch | None

    @property
    def levels(self) -> tuple[int | None, ...]:
        """Return the level of each sample."""
        return tuple(level_of(patch) if patch else None for patch in self.patches)

    def first(self, level: int) -> int | None:
        """Return how many samples there are up to the first of a level, that included, None without one."""
        return self.levels.index(level) + 1 if level in self.levels else None

    @property
    def voted(self) -> int | None:
        """Return the level of what the chain chose."""
        return level_of(self.choice) if self.choice else None

    def judged(self, noise: float, samples: int) -> int | None:
        """Return the level of the patch that the run's judge, of this noise, scores highest among so many samples."""
        judge = Judge(noise, self.seed)
        patches = [patch for patch in self.patches[:samples] if patch]
        return level_of(max(patches, key=judge.score)) if patches else None


def run_trials(plan: Plan, seeds: range) -> list[Trial]:
    """Run the chain once for each seed."""

    async def all_of_them() -> list[Trial]:
        return [await _run(plan, seed) for seed in seeds]

    return asyncio.run(all_of_them())


async def _run(plan: Plan, seed: int) -> Trial:
    judge = Judge(plan.noise or 0.0, seed)
    sampler = SimulatedSampler(plan.policy, seed)
    session = Session(sampler, _prompts(), lambda patch: patch, lambda event: None, "trial", judge)
    prediction = await resolve(ISSUE, TREE, session, settings_of(plan, seed), files=(FILE,), until=Until.REPAIR)
    patches = tuple(one.outcome if isinstance(one.outcome, Patch) else None for one in prediction.candidates)
    return Trial(seed, patches, prediction.choice.patch if prediction.choice else None)


def settings_of(plan: Plan, seed: int) -> Config:
    """Return the plan as settings of the chain."""
    return Config(
        repair=RepairSettings(samples=plan.budget, stop_when=plan.stop_when),
        evolve=EvolveSettings(
            rounds=plan.rounds,
            parents=plan.parents,
            per_round=plan.per_round,
            select=Selecting.RANDOM if plan.noise is None else Selecting.REWARD_MODEL,
            self_evolving=plan.noise is None,
            seed=seed,
        ),
    )


def level_of(patch: Patch) -> int:
    """Return the level that is written in a patch."""
    found = WRITTEN.search(patch.diff.decode())
    assert found is not None
    return int(found[1])


@cache
def _prompts() -> Prompts:
    return load_prompts(None)
