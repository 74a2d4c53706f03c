"""Rounds of evolution on a model that cannot write edits: real prompts, whose answers are replaced by scripted patches.

What the model would have said is not needed to count what its prompts cost, but what the next round shows is: real
patches of real files, no two alike, of 10 to 25 lines each as diffs. Here are the ways to draw the rounds, and what
their prompts hold as text that is distinct; `prefill` measures them.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from random import Random

from agentless_mini.chain.evolve import evolve
from agentless_mini.chain.session import Session, Subject
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Completion, Finish, Localization, Message, ModelCard, Patch, SampleRequest, Stage
from agentless_mini.ports import Sampler
from agentless_mini.settings.run import EvolveSettings, RepairSettings

FILE = "bisect.py"
ANCHORS = (
    "        lo = bisect_right(a, key(x), lo, hi, key=key)\n",
    "        lo = bisect_left(a, key(x), lo, hi, key=key)\n",
)
"""Lines that stand in the file once, and what stands before them may be anything."""
EDIT = "### {}\n<<<<<<< SEARCH\n{}=======\n{}>>>>>>> REPLACE\n"
NAMES = ("lower", "upper", "first", "wanted", "middle", "place", "colour", "entry", "left", "right", "step", "size")


class Meter:
    """A sampler that has another one draw, and remembers what it was asked."""

    def __init__(self, sampler: Sampler) -> None:
        """Ask `sampler`, and keep the requests in `asked`."""
        self._sampler = sampler
        self.asked: list[SampleRequest] = []

    async def card(self) -> ModelCard:
        """Return the card of the sampler that is asked."""
        return await self._sampler.card()

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the count of the sampler that is asked."""
        return await self._sampler.count_tokens(messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield an answer whenever one is there."""
        self.asked.append(request)
        async for completion in self._sampler.sample(request):
            yield completion


class ScriptedAnswers(Meter):
    """The same, with a scripted answer in the place of each that is drawn."""

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield as `Meter`."""
        async for completion in super().sample(request):
            text = scripted_answer(f"{request.key()} {completion.index}")
            yield replace(completion, text=text, finish=Finish.STOP)


class PatchesFirst(ScriptedAnswers):
    """The peer: the same, but a prompt of evolution shows the patches before the code instead of after it."""

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield as `ScriptedAnswers`, for the rearranged prompt."""
        async for completion in super().sample(self._rearranged(request)):
            yield completion

    def _rearranged(self, request: SampleRequest) -> SampleRequest:
        if request.stage is not Stage.EVOLVE:
            return request
        content = request.messages[-1].content
        shown = [asked.messages[-1].content for asked in self.asked if asked.stage is Stage.REPAIR]
        (code,) = {text for text in shown if content.startswith(text)}
        last = replace(request.messages[-1], content=content.removeprefix(code).lstrip() + "\n" + code)
        return replace(request, messages=(*request.messages[:-1], last))


def scripted_answer(seed: str) -> str:
    """Return edits of two places, some lines each; another seed gives other lines."""
    dice = Random(seed)  # noqa: S311 - drawn again alike, not for secrets
    edits = [EDIT.format(FILE, anchor, _lines(dice) + anchor) for anchor in ANCHORS]
    return f"```python\n{''.join(edits)}```\n"


def _lines(dice: Random) -> str:
    return "".join(
        f"        {name} = {dice.choice(NAMES)!r} if {name!r} < {dice.choice(NAMES)!r} else {dice.randrange(100)}\n"
        for name in dice.sample(NAMES, dice.randint(1, 7))
    )


async def draw_rounds(
    sampler: Sampler, subject: Subject, localization: Localization, plan: tuple[int, int, int]
) -> None:
    """Draw samples as the product does; `plan` are the rounds, the samples of each, and the tokens of an answer.

    Raises `AssertionError` where a sample became no patch: then the prompts were not what they should be.
    """
    rounds, per_round, max_tokens = plan
    session = Session(sampler, load_prompts(None), lambda patch: patch, lambda event: None, "prefill")
    sampling = RepairSettings(samples=rounds * per_round, max_tokens=max_tokens)
    settings = EvolveSettings(rounds=rounds, per_round=per_round, self_evolving=True)
    candidates = await evolve(subject, localization, session, sampling, settings, None)
    normals = {one.outcome.normal for one in candidates if isinstance(one.outcome, Patch)}
    assert len(normals) == rounds * per_round


def distinct_tokens(prompts: Iterable[Sequence[int]]) -> int:
    """Return the nodes of the prompts' trie: a token counts once for all prompts that are equal up to it.

    That is what a server computes that keeps everything, token by token, and never computes it twice.
    """
    count = 0
    before: list[int] = []
    for prompt in sorted(map(list, prompts)):
        shared = next((at for at, pair in enumerate(zip(before, prompt, strict=False)) if pair[0] != pair[1]), None)
        count += len(prompt) - (min(len(before), len(prompt)) if shared is None else shared)
        before = prompt
    return count
