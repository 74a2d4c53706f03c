"""The first line of a run: who answers and where, how much is asked for, and what runs the tests."""

from agentless_mini.commands.chain import REWRITES, identity
from agentless_mini.commands.models import ChosenModel
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings import Config
from agentless_mini.settings.run import UNTESTED


async def answerer(chosen: ChosenModel, config: Config, store: Store) -> str:
    """Return the model, where it runs, and its window.

    A server that is there is asked for its window where that is not in the record; none is started for it. Raises what
    the server raises.
    """
    name = identity(chosen, config)
    card = store.card(name)
    if card is None and not chosen.window:
        card = await RecordedSampler(chosen.start, store, name).card()
    return f"{chosen.name} ({chosen.source}; {f'window of {card.context_window} tokens' if card else chosen.window})"


def amount(config: Config, chosen: ChosenModel, tests_run: str, given: int = 0) -> str:
    """Return how many samples and tests are asked for, `given` of these the user's own; `tests_run` is as `foresee`."""
    rounds, each = config.evolve.rounds, config.evolve.per_round
    repairs = f"{'at most ' if config.repair.stop_when else ''}{config.repair.samples} repairs"
    if not chosen.writes and config.repair.samples == REWRITES:
        repairs += " (the embedded model's default)"
    if rounds > 1:
        repairs = f"{rounds} rounds of {each or -(-config.repair.samples // rounds)} repairs"
    written = config.reproduce.samples if chosen.writes and not tests_run.startswith(UNTESTED) else 0
    own = f", {given} of yours" if given else ""
    return f"{repairs}, {written} new tests{own}; {tests_run}"
