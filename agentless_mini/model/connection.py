"""One model server over HTTP: JSON pages, a stream of events, and patience with both.

It exists so that the openai SDK and the rule for trying again stay in one place. What the pages and events mean is the
business of `endpoints` and `streams`. The SDK takes most of a second to import, so that happens on the first use.
"""

import asyncio
import json
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agentless_mini.errors import AminiError, ServerUnreachable, UsageError, boundary, printable
from agentless_mini.model.addresses import Address, is_loopback
from agentless_mini.model.failures import StreamEnded, can_pass, refused, status, translation, wait_asked_for
from agentless_mini.model.streams import Event, whole_events

Page = TypeVar("Page", bound=BaseModel)
Body = Mapping[str, object]

FIRST_WAIT = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST_BACKOFF = 60.0
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how to wait: `retries` attempts after a failure without progress; the clock is injected.

    The waits grow as 1, 2, 4 ... 60 seconds, each shortened at random by up to a quarter so that clients spread.
    """

    retries: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - it only spreads retries

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(LONGEST_BACKOFF, FIRST_WAIT * 2.0 ** (failures - 1)) * (1 - 0.25 * self.jitter.random())


class Connection:
    """A server at an address. Until it has answered once, a refused connection is final: nobody is there.

    Each wait before a further attempt is told when it first comes of its cause and when it lasts: one sentence for each
    cause and number of failures in a row, however many requests meet it.
    """

    def __init__(self, address: Address, patience: Patience, tell: Callable[[str], None]) -> None:
        """Connect to `address` when something is asked; `tell` people in a sentence of waits and smaller loads."""
        import openai

        self.address = address
        self._patience = patience
        self._tell = tell
        self._told: dict[str, int] = {}
        self._answered = False
        self._client = openai.AsyncOpenAI(
            base_url=address.api,
            api_key=address.key,
            default_headers=dict(address.headers),
            max_retries=0,
            timeout=openai.Timeout(address.timeout_s, connect=CONNECT_TIMEOUT),
            http_client=_http_client(address),
        )

    async def get(self, url: str, page: type[Page]) -> Page:
        """Return the page at `url`, trying again as patience allows."""
        return await self._patiently(lambda: self._client.get(url, cast_to=object), page)

    async def post(self, url: str, body: Body, page: type[Page]) -> Page:
        """Return the page that answers `body`, trying again as patience allows."""
        return await self._patiently(lambda: self._client.post(url, cast_to=object, body=body), page)

    async def events(self, body: Body, headers: Mapping[str, str]) -> AsyncGenerator[Event, None]:
        """Yield the events of a streamed chat; no second attempt. Closing the iterator closes the connection.

        A server that does not stream, and answers in one piece, is read too.
        """
        import openai

        with self.edge():
            stream = await self._client.post(
                f"{self.address.api}/chat/completions",
                cast_to=object,
                body=body,
                options={"headers": dict(headers)},
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
            self._answered = True
            try:
                kind = str(stream.response.headers.get("content-type", "")).partition(";")[0]
                if kind.strip().lower() == "application/json":
                    for event in whole_events(await _page(stream.response)):
                        yield event
                    return
                async for data in stream:
                    yield Event.model_validate(data)
            finally:
                await stream.close()

    async def recover(self, error: AminiError, failures: int) -> None:
        """Wait before the next attempt after so many failures in a row; raise `error` where none is worth making."""
        hopeless = isinstance(error, ServerUnreachable) and not self._answered
        if hopeless or refused(error) is not None or failures > self._patience.retries or not can_pass(error):
            raise error
        seconds = max(self._patience.wait(failures), wait_asked_for(error))
        cause = f"The model server at {self.address.api} {_cause(error, self.address)}"
        if failures > self._told.get(cause, 0):
            self._told[cause] = failures
            self._tell(f"{cause}; trying again in {seconds:.0f} s ({failures} of {self._patience.retries}).")
        await self._patience.sleep(seconds)

    def tell_fewer(self, most: int) -> None:
        """Tell that at most so many requests are sent at once from now on."""
        load = self.address.advice.load
        self._tell(f"At most {most} requests at a time are sent to {self.address.api} from now on ({load}).")

    def edge(self) -> AbstractContextManager[None]:
        """Return the boundary at which whatever goes wrong with this server becomes ours."""
        return boundary(translation(self.address))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _patiently(self, ask: Callable[[], Awaitable[object]], page: type[Page]) -> Page:
        failures = 0
        while True:
            try:
                with self.edge():
                    answer = await ask()
                    self._answered = True
                    return page.model_validate(answer)
            except AminiError as error:
                if isinstance(error.__cause__, ValidationError):  # another page lives there, and will next time
                    raise
                failures += 1
                await self.recover(error, failures)


def _http_client(address: Address) -> Any:  # noqa: ANN401 - openai 2 has httpx's, openai 3 httpx2's
    """Return a client that goes no further than the address: no redirects, no proxies to this machine, no other's keys.

    Raises `UsageError` for a proxy that the environment names and nobody can use.
    """
    import openai

    async def keep_own(request: Any) -> None:  # noqa: ANN401 - as above
        for name in foreign:
            request.headers.pop(name, None)
        if "authorization" in foreign:
            request.headers["Authorization"] = f"Bearer {address.key}"

    told = address.environment.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    ambient = {"openai-organization", "openai-project", *(line.partition(":")[0].strip().lower() for line in told)}
    foreign = set() if address.is_openai else ambient - {name.lower() for name in address.headers}
    direct: dict[str, Any] = {}
    if is_loopback(address.api):  # without the environment's proxies, yet with its certificates
        direct = {"trust_env": False, "verify": ssl.create_default_context()}
    try:
        return openai.DefaultAsyncHttpxClient(
            follow_redirects=False,  # headers would go wherever it leads
            event_hooks={"request": [keep_own]},
            **direct,
        )
    except Exception as error:
        if not isinstance(error, ValueError | ImportError) and type(error).__name__ != "InvalidURL":
            raise
        proxy = address.proxy
        name = f"{proxy.variable} ({printable(proxy.url)})" if proxy else "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
        raise UsageError(f"The proxy in {name} cannot be used: write it as http://HOST:PORT, or unset it.") from error


async def _page(response: Any) -> object:  # noqa: ANN401 - as above
    """Return an answer in one piece. Raises the SDK's errors for what goes wrong, as the SDK does for events."""
    import openai

    try:
        page = json.loads(await response.aread())
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):
            raise
        is_late = "Timeout" in type(error).__name__
        raise (openai.APITimeoutError if is_late else openai.APIConnectionError)(request=response.request) from error
    if isinstance(page, dict) and (wrong := page.get("error")):
        said = wrong.get("message") if isinstance(wrong, dict) else wrong
        raise openai.APIError(str(said), response.request, body=wrong)
    return page


def _cause(error: AminiError, address: Address) -> str:
    """Return what a server did that is worth another attempt, in words of ours alone: foreign ones would all differ."""
    import openai

    if (code := status(error)) is not None:
        return f"answered {code}"
    if isinstance(error, ServerUnreachable):
        return "does not answer"
    match error.__cause__:
        case openai.APITimeoutError():
            return f"was silent for longer than {address.timeout_s:g} s ({address.advice.timeout})"
        case openai.APIConnectionError():
            return "broke the connection"
        case StreamEnded():
            return "ended an answer early"
        case openai.OpenAIError():
            return "failed within an answer"
        case _:
            return "sent what cannot be read"
