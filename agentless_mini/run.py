"""One recorded run of the chain, for `repair` and `eval` alike: begun, resolved, and ended whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from agentless_mini.chain.session import Boxes, NoBoxes, Opening
from agentless_mini.domain import Prediction
from agentless_mini.errors import EXIT_BUG, EXIT_INTERRUPTED, AminiError, ModelChanged, NodeLost
from agentless_mini.ports import Watch
from agentless_mini.record import RecordedSandbox, RunId, RunStart, RunStatus, Store


async def recorded_run(
    store: Store,
    start: RunStart,
    opening: Opening | NoBoxes,
    begun: Callable[[RunId], Awaitable[tuple[str, ...]]],
    chain: Callable[[RunId, Opening | NoBoxes], Awaitable[Prediction]],
    exit_code: Callable[[Prediction], int],
) -> tuple[RunId, Prediction]:
    """Run the chain as `start` says and record how it is decided and how it ends.

    `begun` is told the run before anything is paid for, and returns notes that the prediction's begin with. `chain`
    resolves the issue with effects that record what they are asked in `store`, and with boxes that do; it is called
    once more where the served model turns out to differ from the recorded one, for then the run is planned again.
    Raises what `chain` raises.
    """
    run = store.runs.begin(start)
    with _ended(store, run):
        notes = await begun(run)
        boxes = opening if isinstance(opening, NoBoxes) else _recorded(opening, store, run)
        try:
            prediction = await chain(run, boxes)
        except ModelChanged:
            store.runs.unlink(run)
            prediction = await chain(run, boxes)
        prediction = replace(prediction, notes=(*notes, *prediction.notes))
        store.runs.put_prediction(run, prediction)
        store.runs.finish(run, RunStatus.DONE, exit_code(prediction))
    return run, prediction


@contextmanager
def _ended(store: Store, run: RunId) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError | NodeLost)
        code = error.exit_code if isinstance(error, AminiError) else EXIT_INTERRUPTED if interrupted else EXIT_BUG
        store.runs.finish(run, RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED, code)
        raise


def _recorded(opening: Opening, store: Store, run: RunId) -> Opening:
    """Record what the boxes say; they are opened once, though the run be planned again."""
    found: list[Boxes | NoBoxes] = []
    lock = asyncio.Lock()

    async def opened(watch: Watch) -> Boxes | NoBoxes:
        async with lock:
            if not found:
                found.append(await opening.open(watch))
        (boxes,) = found
        if isinstance(boxes, NoBoxes):
            return boxes
        return replace(boxes, sandbox=RecordedSandbox(boxes.sandbox, store, run), watch=watch)

    return Opening(opening.harness, opened)
