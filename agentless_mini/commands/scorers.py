"""Which reward model scores the patches of a run, and how it is reached.

Nothing is sent until a score is owed that is not recorded. Only the model's name is asked for at once, where the
settings do not say it.
"""

from typing import TYPE_CHECKING

from agentless_mini.chain.evolve import scoring_of
from agentless_mini.chain.session import Scoring
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.models import Surroundings
from agentless_mini.domain import Note, RewardModel
from agentless_mini.errors import ServerUnreachable, UsageError
from agentless_mini.record import Once, RecordedScorer
from agentless_mini.settings.model import ScorerSettings

if TYPE_CHECKING:
    from agentless_mini.model.scoring import HttpScorer


async def open_scorer(settings: ScorerSettings, around: Surroundings) -> tuple[Scoring, RewardModel]:
    """Return what scores the patches of a run, through the store, and by which model; `around.stack` closes it.

    Raises `UsageError` where no server is named; `ModelError` where it must be asked for its model's name and does not
    answer.
    """
    if settings.base_url is None:
        raise UsageError("No reward model is chosen: set scorer.base_url to the address of its server.")

    prompts = load_prompts(around.config.prompts)

    def tell(said: str) -> None:
        around.progress(Note(said))

    async def connect() -> "HttpScorer":
        from agentless_mini.model.scoring import HttpScorer

        made = HttpScorer(settings, tell=tell, environment=around.machine.environment)
        return await around.stack.enter_async_context(made)

    start = Once(connect)
    model = settings.reward_model(settings.model or await _served(await start(), settings.base_url, around))
    return scoring_of(RecordedScorer(start, around.store), model, prompts), model


async def _served(scorer: "HttpScorer", address: str, around: Surroundings) -> str:
    """Ask the server which model it serves, or recall what it served last."""
    recorded = f"scorer {address}"  # the same address may serve a model that repairs
    try:
        name = await scorer.served()
    except ServerUnreachable:
        recalled = around.store.endpoint_model(recorded)
        if recalled is None:
            raise
        around.progress(Note(f"{address} does not answer; it served {recalled} last, whose scores are in the record."))
        return recalled
    around.store.put_endpoint_model(recorded, name)
    return name
