"""The sampler for every OpenAI-compatible endpoint: vLLM, llama.cpp, gateways, hosted models.

It turns the samples that are wanted of a prompt into as few streamed requests as possible, so that the server prefills
once, streams them side by side, and asks again for what is owed. What differs between servers is in `endpoints` and
`streams`, what goes wrong in `failures`. It records nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import quote

from pydantic import SecretStr

from agentless_mini.domain import Completion, Decoding, Finish, Message, ModelCard, SampleRequest, Stage
from agentless_mini.errors import AminiError, UsageError, boundary
from agentless_mini.model.connection import Address, Advice, Body, Client, Connection, Patience, belongs_to_openai
from agentless_mini.model.endpoints import Endpoint, Engine, PromptCheck, count, discover, grammar_body, wire_messages
from agentless_mini.model.failures import (
    REFUSED,
    SILENT,
    Habits,
    Part,
    StreamEnded,
    folded,
    refused,
    trouble_of,
    without,
)
from agentless_mini.model.streams import Assembly
from agentless_mini.settings.model import EndpointSettings, checked_key

_PRINTABLE = " !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"
_LONGEST_HEADER = 512
_LAST_LOOK = 0.05  # seconds in which a cancelled draw reads what has arrived
OPENAI_KEY = "OPENAI_API_KEY"
_ALL_REASONING = (
    "The model server at {} gave all of an answer as reasoning and left the answer itself empty, so there is none to "
    "read: start it with the reasoning parser of this model, or with none (--reasoning-parser of vLLM and SGLang, "
    "--reasoning-format of llama.cpp), and do not turn thinking off in its chat template (enable_thinking) beside one."
)


class OpenAISampler(Client):
    """Asks one model of one server. See `ports.Sampler` for the contract of its methods.

    Samples with consecutive indices share a request of `n` choices, whose seeds vLLM and llama.cpp count up from the
    request's: sample i is drawn with `params.seed + i`, also where it is owed later. What a request does not name
    (top_k, penalties) stays as the server has it.

    `on_tokens` is told of new tokens as they stream in (events, where the server does not count) and of their stage,
    `tell` what people should know of the server, once. Where the settings have no key, the OPENAI_API_KEY of the
    process's `environment` is sent to the address that it is meant for, and to no other.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        on_tokens: Callable[[int, Stage], None] = lambda tokens, stage: None,
        patience: Patience | None = None,
        tell: Callable[[str], None] = lambda said: None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Prepare to ask; `patience` is for tests. Raises `UsageError` without `base_url`, for a bad key or proxy."""
        super().__init__(Connection(_address(settings, environment), patience or Patience(settings.retries), tell))
        self._settings, self._on_tokens, self._tell = settings, on_tokens, tell
        self._slots = Slots(settings.max_in_flight, settings.max_samples_per_request)
        self._discovery = asyncio.Lock()
        self._found: Endpoint | None = None
        self._habits: dict[str, Habits] = {}
        self._told_reasoning = False
        self._prompts = PromptCheck(tell, self._connection.address.api, settings.cut_prompts)

    async def card(self) -> ModelCard:
        """Return the model as the server, asked once, describes it.

        Raises `ServerUnreachable`, `ServerFailed`, `ModelUnknown`; `ModelError` where the context's length is unknown.
        """
        return (await self._endpoint()).card

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of the chat by the server's tokenizer, else the upper estimate of `endpoints.estimate`."""
        endpoint = await self._endpoint()
        tokens = await count(self._connection, endpoint, self._habits_of(endpoint.card.name), messages)
        if endpoint.card.exact_counts:
            self._prompts.counted(messages, tokens)
        return tokens

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample when it is finished. A broken stream is asked again for what it still owes.

        Raises `UsageError` for a decoding that the server does not offer, `ServerFailed` where it cuts one prompt after
        another, and what `ports.Sampler` says.
        """
        endpoint = await self._endpoint()
        habits, body = self._habits_of(request.model), _body(request, endpoint.engine)
        draws = _Draws(self._connection, self._slots, habits, self._on_tokens, request, body)
        async with aclosing(draws.completions()) as completions:
            async for completion in completions:
                if completion.finish is Finish.STOP and completion.reasoning.strip() and not completion.text.strip():
                    if not self._told_reasoning:
                        self._tell(_ALL_REASONING.format(self._connection.address.api))
                    self._told_reasoning = True
                self._prompts.read(request.messages, completion.usage)
                yield completion

    def _habits_of(self, model: str) -> Habits:
        return self._habits.setdefault(model, Habits(self._tell, self._connection.address.api))

    async def _endpoint(self) -> Endpoint:
        async with self._discovery:
            if self._found is None:
                chosen = self._settings
                found = await discover(self._connection, chosen.model, chosen.context_window, chosen.decoding)
                self._slots.choices = min(self._slots.choices, found.max_choices or self._slots.choices)
                self._found = found
            return self._found


class Slots:
    """What one server bears, shared by all draws, as an asynchronous context manager: one request in flight.

    `most` may be in flight at once, fewer once a server under load falls silent; a request may ask for `choices`;
    `tells_usage` is whether the last request that ended well told its tokens, None before the first.
    """

    def __init__(self, most: int, choices: int = 1) -> None:
        """Allow `most` requests of `choices` at first."""
        self.most, self.choices = most, choices
        self.tells_usage: bool | None = None
        self._used = 0
        self._freed = asyncio.Condition()

    async def __aenter__(self) -> int:
        """Wait for a free slot; return how many there are."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._used < self.most)
            self._used += 1
        return self.most

    async def __aexit__(self, *_: object) -> None:
        """Free the slot."""
        async with self._freed:
            self._used -= 1
            self._freed.notify()

    def halve(self, allowed: int) -> bool:
        """Allow half of what was in flight, once for all requests that began while `allowed` were; return whether."""
        if allowed != self.most or not self._used:
            return False
        self.most = max(1, (self._used + 1) // 2)
        return True


def runs(indices: tuple[int, ...], longest: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices, which ascend, as runs of consecutive ones, none longer than `longest`."""
    start = 0
    for end in range(1, len(indices) + 1):
        is_last = end == len(indices) or indices[end] != indices[end - 1] + 1
        if is_last or end - start == longest:
            yield indices[start:end]
            start = end


@dataclass
class _Draws:
    """The draws of one prompt, so that a retry never draws a sample twice nor changes its seed.

    Each run of samples is a task of its own; what they finish goes through one queue. `body` lacks messages and share.
    """

    connection: Connection
    slots: Slots
    habits: Habits
    on_tokens: Callable[[int, Stage], None]
    request: SampleRequest
    body: Body
    _done: asyncio.Queue[Completion | BaseException] = field(default_factory=asyncio.Queue)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def completions(self) -> AsyncGenerator[Completion, None]:
        """Yield each sample once when it is finished. Closing the iterator ends all requests; so does cancelling what
        waits for the next sample, once those that have arrived are yielded too. Raises `ModelError` after all of them.
        """
        try:
            self._start(self.request.indices, 0)
            for _ in self.request.indices:
                item = await self._done.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        except asyncio.CancelledError:  # what has arrived is paid for: it is still read and handed on
            for last in asyncio.sleep(_LAST_LOOK), self._end():
                with suppress(asyncio.CancelledError):  # a second one does not change that
                    await last
            while not self._done.empty():
                if isinstance(item := self._done.get_nowait(), Completion):
                    yield item
            raise
        finally:
            await self._end()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, indices: tuple[int, ...], failures: int) -> None:
        for run in runs(indices, self.slots.choices):
            task = asyncio.create_task(self._draw(run, failures))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._done.put_nowait(error)

    async def _draw(self, run: tuple[int, ...], failures: int) -> None:
        """Ask for a run; start again for what is still owed of it after a failure."""
        assembly = Assembly(run, self.request.params.max_tokens, self.slots.tells_usage)
        gone, allowed = self.habits.gone, 0
        try:
            async with self.slots as allowed:
                gone = self.habits.gone
                if len(run) <= self.slots.choices:  # else less was learned while this run waited: it is split
                    await self._stream(run, gone, assembly)
        except AminiError as error:
            trouble = trouble_of(error.__cause__)
            if len(run) > 1 and trouble is REFUSED and refused(error) in {Part.N, None}:
                self.slots.choices = 1
            elif len(assembly.given) < len(run) and not self.habits.learn(error, gone):
                failures = 1 if assembly.given else failures + 1
                if trouble is SILENT and self.slots.halve(allowed):
                    self.connection.tell_fewer(self.slots.most)
                await self.connection.recover(error, failures)
        owed = tuple(index for index in run if index not in assembly.given)
        self._start(owed, failures)

    async def _stream(self, run: tuple[int, ...], gone: frozenset[Part], assembly: Assembly) -> None:
        """Ask for a run without the parts that are gone; hand on what is finished, also where the stream breaks."""
        messages = folded(wire_messages(self.request.messages), gone)
        share = {"messages": messages, "n": len(run), "seed": self.request.params.seed + run[0]}
        try:
            body = without({**self.body, **share}, gone)
            tokens = len(run) * self.request.params.max_tokens
            async with aclosing(self.connection.events(body, _headers(self.request), tokens)) as events:
                async for event in events:
                    before = assembly.streamed
                    with self.connection.edge():
                        for completion in assembly.feed(event):
                            self._done.put_nowait(completion)
                    if assembly.streamed > before:
                        self.on_tokens(assembly.streamed - before, self.request.stage)
        finally:
            for completion in assembly.rest():
                self._done.put_nowait(completion)
        if assembly.ignored() and assembly.given:
            self.slots.choices = 1
        if assembly.unfinished() or not assembly.given:
            with self.connection.edge():
                raise StreamEnded("the stream ended before the answer did")
        self.slots.tells_usage = assembly.told


def _address(settings: EndpointSettings, environment: Mapping[str, str]) -> Address:
    if settings.base_url is None:
        raise UsageError("No model server is chosen: give --base-url.")
    is_openai = belongs_to_openai(settings.base_url, environment)
    found = "" if "api_key" in settings.model_fields_set else environment.get(OPENAI_KEY, "")
    advice = Advice(withheld=OPENAI_KEY if found and not is_openai else "")
    address = replace(Address.of(settings.base_url, settings, advice, environment), is_openai=is_openai)
    if not found or not is_openai:
        return address
    with boundary({ValueError: lambda error: UsageError(f"The key in {OPENAI_KEY} is not valid: {error}.")}):
        return replace(address, key=checked_key(SecretStr(found), OPENAI_KEY).get_secret_value())


def _body(request: SampleRequest, engine: Engine) -> dict[str, object]:
    params, task = request.params, request.task
    if request.decoding is Decoding.LINES:
        raise UsageError("Line rewriting needs the embedded model: choose free decoding for a model server.")
    continuous = {"continuous_usage_stats": True} if engine is Engine.VLLM else {}
    constraint: dict[str, object] = {}
    if request.decoding is Decoding.GRAMMAR and task:
        from agentless_mini.model.grammar import edit_grammar

        constraint = grammar_body(engine, edit_grammar(task))
    return {
        "model": request.model,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stream": True,
        "stream_options": {"include_usage": True, **continuous},
        **({"stop": params.stop} if params.stop else {}),
        **constraint,
    }


def _headers(request: SampleRequest) -> dict[str, str]:
    """Return the headers that account for a request. What a header cannot carry is percent-encoded."""
    instance = quote(request.instance.encode("utf-8", "surrogatepass"), safe=_PRINTABLE).strip()
    return {"X-Amini-Stage": request.stage.value, "X-Amini-Instance": instance[:_LONGEST_HEADER]}
