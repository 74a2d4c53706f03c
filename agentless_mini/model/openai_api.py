"""The sampler for every OpenAI-compatible endpoint: vLLM, llama.cpp, gateways, hosted models.

It turns the samples that are wanted of a prompt into as few streamed requests as possible, so that the server prefills
once. What differs between servers is in `endpoints` and `streams`, drawing in `draws`, what goes wrong in `failures`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

from pydantic import SecretStr

from agentless_mini.domain import Completion, Decoding, EditTask, Finish, Message, ModelCard, SampleRequest
from agentless_mini.errors import UsageError
from agentless_mini.model.addresses import belongs_to_openai
from agentless_mini.model.connection import Address, Connection, Patience
from agentless_mini.model.cut_prompts import PromptCheck
from agentless_mini.model.draws import Ask, Draws, Limits, Slots
from agentless_mini.model.endpoints import Endpoint, Engine, Wanted, count, discover, grammar_body, wire_messages
from agentless_mini.model.failures import SAMPLER_ADVICE
from agentless_mini.model.grammar import edit_grammar
from agentless_mini.model.refusals import Habits
from agentless_mini.settings.model import EndpointSettings, checked_key

_PRINTABLE = " !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"
_LONGEST_HEADER = 512
OPENAI_KEY = "OPENAI_API_KEY"
_ALL_REASONING = (
    "The model server at {} gave all of an answer as reasoning and left the answer itself empty, so there is none to "
    "read: start it with the reasoning parser of this model, or with none (--reasoning-parser of vLLM and SGLang, "
    "--reasoning-format of llama.cpp), and do not turn thinking off in its chat template (enable_thinking) beside one."
)


class OpenAISampler:
    """Asks one model of one server. See `ports.Sampler` for the contract of its methods.

    Sample i is drawn with the seed `params.seed + i`: samples with consecutive indices share a request of `n` choices,
    whose seeds vLLM and llama.cpp count up from the request's, so that what is owed later is drawn with its own seed.
    The sampling settings that a request does not name (top_k, penalties) stay as the server has them.

    `on_tokens` is told of each number of new tokens as they stream in (events, where the server does not count),
    `tell` in a sentence of what people should know of the server: each wait before another attempt, once for each cause
    and number of failures in a row, and, once, each part of a request that it does not take (`refusals`), a prompt that
    it cut (`cut_prompts`), and an answer that it took for reasoning.
    `environment` is that of the process: where the settings have no key, that of OPENAI_API_KEY is sent to the address
    that it is meant for (`addresses.belongs_to_openai`) and to no other; a proxy that it names is told in errors.
    Use it as an async context manager, or call `aclose`.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        on_tokens: Callable[[int], None] = lambda tokens: None,
        patience: Patience | None = None,
        tell: Callable[[str], None] = lambda said: None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Prepare to ask the server of `settings`; `patience` replaces its retries and waits (for tests).

        Raises `UsageError` where no `base_url` is set, or a key or proxy of the environment cannot be used.
        """
        self._settings = settings
        self._on_tokens = on_tokens
        self._tell = tell
        self._connection = Connection(_address(settings, environment), patience or Patience(settings.retries), tell)
        self._limits = Limits(Slots(settings.max_in_flight), settings.max_samples_per_request)
        self._discovery = asyncio.Lock()
        self._found: Endpoint | None = None
        self._habits: dict[str, Habits] = {}
        self._told_reasoning = False
        self._prompts = PromptCheck(tell, self._connection.address.api, settings.cut_prompts)

    async def card(self) -> ModelCard:
        """Return the model as the server describes it. The server is asked once.

        Raises `ServerUnreachable` at once where nothing answers, `ServerFailed`, `ModelUnknown`, and `ModelError` where
        nobody says how long the context is.
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
        messages, seed = wire_messages(request.messages), request.params.seed
        ask = Ask(_body(request, endpoint.engine), _headers(request), seed, messages)
        draws = Draws(self._connection, self._limits, self._habits_of(request.model), ask, self._on_tokens)
        async with aclosing(draws.of(request.indices)) as completions:
            async for completion in completions:
                self._look_at(completion)
                self._prompts.read(request.messages, completion.usage)
                yield completion

    async def aclose(self) -> None:
        """Close the connections to the server."""
        await self._connection.aclose()

    async def __aenter__(self) -> Self:
        """Return the sampler, which is closed when the block ends."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections to the server."""
        await self.aclose()

    def _look_at(self, completion: Completion) -> None:
        """Tell once of an answer that the server took for reasoning, whole."""
        if completion.finish is Finish.STOP and completion.reasoning.strip() and not completion.text.strip():
            if not self._told_reasoning:
                self._tell(_ALL_REASONING.format(self._connection.address.api))
            self._told_reasoning = True

    def _habits_of(self, model: str) -> Habits:
        return self._habits.setdefault(model, Habits(self._tell, self._connection.address.api))

    async def _endpoint(self) -> Endpoint:
        async with self._discovery:
            if self._found is None:
                wanted = Wanted(self._settings.model, self._settings.context_window, self._settings.decoding)
                self._found = await discover(self._connection, wanted)
                self._limits.at_most(self._found.max_choices or self._limits.choices)
            return self._found


def _address(settings: EndpointSettings, environment: Mapping[str, str]) -> Address:
    if settings.base_url is None:
        raise UsageError("No model server is chosen: give --base-url.")
    key, is_openai = settings.api_key, belongs_to_openai(settings.base_url, environment)
    found = "" if "api_key" in settings.model_fields_set else environment.get(OPENAI_KEY, "")
    if found and is_openai:
        try:
            key = checked_key(SecretStr(found), OPENAI_KEY)
        except ValueError as error:
            raise UsageError(f"The key in {OPENAI_KEY} is not valid: {error}.") from None
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    advice = replace(SAMPLER_ADVICE, withheld=OPENAI_KEY if found and not is_openai else "")
    secret = key.get_secret_value()
    return Address(settings.base_url, secret, headers, settings.timeout_s, advice, environment, is_openai)


def _body(request: SampleRequest, engine: Engine) -> dict[str, object]:
    params = request.params
    continuous = {"continuous_usage_stats": True} if engine is Engine.VLLM else {}
    return {
        "model": request.model,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stream": True,
        "stream_options": {"include_usage": True, **continuous},
        **({"stop": params.stop} if params.stop else {}),
        **_constraint(request.decoding, request.task, engine),
    }


def _constraint(decoding: Decoding, task: EditTask | None, engine: Engine) -> dict[str, object]:
    if decoding is Decoding.LINES:
        raise UsageError("Line rewriting needs the embedded model: choose free decoding for a model server.")
    if decoding is Decoding.FREE or task is None:
        return {}
    return grammar_body(engine, edit_grammar(task))


def _headers(request: SampleRequest) -> dict[str, str]:
    """Return the headers that account for a request. What a header cannot carry is percent-encoded."""
    instance = quote(request.instance.encode("utf-8", "surrogatepass"), safe=_PRINTABLE).strip()
    return {"X-Amini-Stage": request.stage.value, "X-Amini-Instance": instance[:_LONGEST_HEADER]}
