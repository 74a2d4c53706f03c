"""Evolutions over the scripted sampler, whose patches are told apart by a number."""

from collections.abc import Sequence

from agentless_mini.chain.evolve import BestFirst, evolve
from agentless_mini.domain import Candidate, Localization, ModelCard, Note, Patch, SampleRequest, Stage
from agentless_mini.settings.run import EvolveSettings, RepairSettings
from tests.chain.workbench import Bench, edit, run, shop, subject
from tests.fakes.model import Answer, Rule, Script, ScriptedSampler

CARD = ModelCard("scripted", 8192)
ONE = Localization((("shop/cart.py",),), (4,))
TWO = Localization((("shop/cart.py",), ("shop/tax.py", "shop/cart.py")), (3, 1))


def start(value: int) -> str:
    """Answer with a patch of its own for each value."""
    return edit("    result = 0\n", f"    result = {value}\n")


def script(first: Sequence[str], later: Sequence[str]) -> Script:
    rules = (("repair", first), ("evolve", later))
    return Script(
        rules=tuple(Rule(stage=Stage(stage), answers=tuple(Answer(text=one) for one in said)) for stage, said in rules)
    )


class Evolving:
    """One evolution over the scripted sampler: what was asked, what came of it, and what people were told."""

    def __init__(
        self,
        sampler: ScriptedSampler,
        settings: EvolveSettings,
        samples: int,
        best_first: BestFirst | None = None,
        localization: Localization = ONE,
    ) -> None:
        self.bench = Bench(sampler)
        job = evolve(
            subject(shop()), localization, self.bench.session, RepairSettings(samples=samples), settings, best_first
        )
        self.candidates: tuple[Candidate, ...] = run(job)
        self.first = [request for request in sampler.requests if request.stage is Stage.REPAIR]
        self.later = [request for request in sampler.requests if request.stage is Stage.EVOLVE]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.bench.events if isinstance(event, Note)]

    def shown(self, number: int = 0) -> str:
        """Return what a later prompt adds to the repair prompt."""
        return added(self.later[number], self.first[0])


def added(later: SampleRequest, first: SampleRequest) -> str:
    whole, beginning = later.messages[1].content, first.messages[1].content
    assert whole.startswith(beginning)
    return whole[len(beginning) :]


def evolved(
    first: Sequence[str], later: Sequence[str], best_first: BestFirst | None = None, card: ModelCard = CARD, **more: int
) -> Evolving:
    settings = EvolveSettings.model_validate({"rounds": 2, "self_evolving": True, "per_round": len(first), **more})
    return Evolving(ScriptedSampler(script(first, later), card), settings, 1, best_first)


def starts(text: str) -> list[int]:
    """Return the values of the patches that a text shows, in order."""
    return [int(line.rpartition("=")[2]) for line in text.splitlines() if line.startswith("+    result = ")]


def best(*values: int) -> BestFirst:
    """Select the patches that set these values, in this order."""

    async def best_first(candidates: Sequence[Candidate]) -> Sequence[str]:
        by_value = {
            starts(one.outcome.diff.decode())[0]: one.outcome.normal
            for one in candidates
            if isinstance(one.outcome, Patch)
        }
        return [by_value[value] for value in values if value in by_value]

    return best_first
