"""Several servers of one model as a single sampler: prompts that begin alike meet on one server and share its cache.

It exists so that more servers need nothing of the stages: who asks sees a sampler. It sends nothing itself, repeats
nothing that a server has given, and leaves retries at one server to that server's own sampler.

* *Affinity.* Each prompt ranks the servers by rendezvous hashing of their names with what it begins with (`affinity`).
  All samples of a prompt go to one server. A server that comes or goes moves only the prompts that it wins or had.
* *Bounded load.* A server that has `SLACK` times its share of the samples in flight is passed over, so that one long
  issue does not wait for one server while others idle. Where all have, the least busy one is taken.
* *Failure.* A server that is given up by its sampler rests, ever longer, and what is still owed of the request goes to
  the next one. Once its rest is over a single request tries it.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from agentless_mini.domain import Completion, Message, ModelCard, Role, SampleRequest
from agentless_mini.domain.canonical import canonical_json
from agentless_mini.errors import AminiError, ServerFailed, ServerUnreachable, UsageError, printable
from agentless_mini.ports import Sampler
from agentless_mini.samplers.failures import can_pass

SLACK = 1.25  # as in "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam 2018), 1 + epsilon
OPENING = 1024  # characters: prompts that part earlier share too few tokens to care about
FIRST_REST = 30.0  # seconds that a server is left alone; doubled with each failure in a row
LONGEST_REST = 600.0


def affinity(instance: str, messages: tuple[Message, ...]) -> str:
    """Return what the prompts have in common that should meet on one server, as a digest in hex.

    It is the instance and the first `OPENING` characters after the system messages: our prompts open with the issue, so
    those of one issue agree in it, whatever stage asks. System messages are the same for all and say nothing.
    """
    said = "".join(message.content for message in messages if message.role is not Role.SYSTEM)
    return hashlib.sha256(canonical_json([instance, said[:OPENING]]).encode()).hexdigest()


@dataclass(slots=True)
class _Server:
    """One server: the samples that it owes, its failures in a row, and until when it is left alone.

    `fits` is set once its card has been seen to agree with that of the others.
    """

    name: str
    sampler: Sampler
    owed: int = 0
    failures: int = 0
    rests_until: float = float("-inf")
    fits: bool = False

    def rank(self, key: str) -> bytes:
        """Return its place in the order of a key: the largest is first."""
        return hashlib.sha256(f"{self.name}\n{key}".encode()).digest()

    def rest(self, failures: int, now: float) -> None:
        """Leave it alone after so many failures in a row."""
        self.failures = max(self.failures, failures)
        self.rests_until = now + min(LONGEST_REST, FIRST_REST * 2.0 ** (self.failures - 1))

    def works(self) -> None:
        """Take it back."""
        self.failures, self.rests_until = 0, float("-inf")


class BalancedSampler:
    """Asks the servers of one model, given as samplers by name. See `ports.Sampler` for the contract of its methods.

    The names are what prompts are dealt out by: use addresses, which are the same in the next run. `tell` is given a
    sentence when a server is left out. Who makes the samplers also closes them.
    """

    def __init__(
        self,
        servers: Mapping[str, Sampler],
        tell: Callable[[str], None] = lambda said: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Deal out requests over `servers`. Raises `UsageError` where there is none."""
        if not servers:
            raise UsageError("No model server is chosen: give --base-url.")
        self._servers = [_Server(name, sampler) for name, sampler in servers.items()]
        self._tell = tell
        self._clock = clock
        self._card: ModelCard | None = None
        self._meeting = asyncio.Lock()

    async def card(self) -> ModelCard:
        """Return the model as all servers that answer describe it, with the smallest of their windows.

        The servers are asked once. One that answers only later must agree, or it is left out.
        Raises `UsageError` where they serve different models or decode differently, `ServerUnreachable` where none
        answers, and what one that answers raises.
        """
        async with self._meeting:
            if self._card is None:
                self._card = await self._agreed()
            return self._card

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the count of the first server that answers, in the order of the prompt."""
        card = await self.card()
        tried: list[_Server] = []
        while True:
            server = self._next(affinity("", messages), 0, tried)
            with self._failing_over(server, tried):
                await _require_fit(server, card)
                count = await server.sampler.count_tokens(messages)
                server.works()
                return count

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample once. What a server leaves owing is asked of the next, each with its own seed."""
        card = await self.card()
        key = affinity(request.instance, request.messages)
        owed = dict.fromkeys(request.indices)
        tried: list[_Server] = []
        while owed:
            server = self._next(key, len(owed), tried)
            asked = replace(request, indices=tuple(owed))
            with self._failing_over(server, tried):
                async with aclosing(_draw(server, asked, card)) as completions:
                    async for completion in completions:
                        del owed[completion.index]
                        tried.clear()
                        yield completion

    async def _agreed(self) -> ModelCard:
        """Ask all servers for their cards and return what they have in common."""
        answers = await asyncio.gather(*(server.sampler.card() for server in self._servers), return_exceptions=True)
        cards: dict[str, ModelCard] = {}
        gone: list[_Server] = []
        for server, answer in zip(self._servers, answers, strict=True):
            with self._failing_over(server, gone):
                if isinstance(answer, BaseException):
                    raise answer
                cards[server.name] = answer
                server.fits = True
        return _common(cards)

    def _next(self, key: str, wanted: int, tried: list[_Server]) -> _Server:
        """Return the server for a prompt: the first in its order that is awake and has not more than its share."""
        now = self._clock()
        left = [server for server in self._servers if server not in tried]
        awake = sum(1 for server in self._servers if server.rests_until <= now) or 1
        share = SLACK * (sum(server.owed for server in self._servers) + wanted) / awake

        def place(server: _Server) -> tuple[bool, int]:
            is_over = server.owed > 0 and server.owed + wanted > share
            return server.rests_until > now, server.owed if is_over else 0

        return min(sorted(left, key=lambda server: server.rank(key), reverse=True), key=place)

    @contextmanager
    def _failing_over(self, server: _Server, tried: list[_Server]) -> Iterator[None]:
        """Let the block use a server. Where it is gone, the block ends without error and the server counts as tried.

        Raises `ServerUnreachable` once all have been tried, and at once what no other server would change.
        """
        failures = server.failures
        if failures:  # this is the one request that tries it again
            server.rest(failures, self._clock())
        try:
            yield
        except AminiError as error:
            if not _is_gone(error):
                raise
            tried.append(server)
            if failures == server.failures:  # else another request has met and told it
                server.rest(failures + 1, self._clock())
                self._tell(f"The model server {printable(server.name)} is left out for a while. {error}")
            if len(tried) == len(self._servers):
                raise self._nobody(error) from error

    def _nobody(self, last: AminiError) -> AminiError:
        if len(self._servers) == 1:
            return last
        return ServerUnreachable(f"None of the {len(self._servers)} model servers is left: see their logs. ({last})")


async def _draw(server: _Server, request: SampleRequest, card: ModelCard) -> AsyncGenerator[Completion, None]:
    """Ask a server for samples and keep account of what it owes."""
    left = len(request.indices)
    server.owed += left
    try:
        await _require_fit(server, card)
        stream = server.sampler.sample(request)
        try:
            async for completion in stream:
                server.works()
                server.owed -= 1
                left -= 1
                yield completion
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
    finally:
        server.owed -= left


async def _require_fit(server: _Server, card: ModelCard) -> None:
    """Ask a server that did not answer before whether it serves what the others do. Raises `ServerFailed`."""
    if server.fits:
        return
    own = await server.sampler.card()
    if (own.name, own.decoding) != (card.name, card.decoding) or own.context_window < card.context_window:
        raise ServerFailed(
            f"It answers now, with another model, decoding or a smaller context than the others: serve {card.name!r} "
            f"with at least {card.context_window} tokens there."
        ) from ServerUnreachable("It came late.")
    server.fits = True


def _is_gone(error: AminiError) -> bool:
    """Tell whether another server may do what this one did not."""
    return isinstance(error, ServerUnreachable) or can_pass(error)


def _common(cards: Mapping[str, ModelCard]) -> ModelCard:
    (one, first), *others = cards.items()
    for other, card in others:
        if (card.name, card.decoding) != (first.name, first.decoding):
            raise UsageError(
                f"The model servers differ: {printable(one)} serves {printable(first.name)!r} ({first.decoding}), "
                f"{printable(other)} {printable(card.name)!r} ({card.decoding}). Name one model with --model, or leave "
                "one of them out."
            )
    return ModelCard(
        first.name,
        min(card.context_window for card in cards.values()),
        first.decoding,
        ", ".join(sorted({card.engine for card in cards.values()})),
        ", ".join(sorted({card.revision for card in cards.values()})),
        all(card.exact_counts for card in cards.values()),
    )
