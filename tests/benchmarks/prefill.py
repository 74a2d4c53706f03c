"""How many prompt tokens a server computes for the samples of one issue: this project's way beside the reference's.

    python -m tests.benchmarks.prefill --model MODEL [--python PYTHON]   starts vLLM for it
    python -m tests.benchmarks.prefill --base-url URL                    asks a vLLM that runs
    python -m tests.benchmarks.prefill --rounds 4 --per-round 5 ...      counts the prompts of evolution instead

32 samples over 4 lists of files, taken from Python's standard library. This project's way is the repair stage itself:
one request for each distinct list, its files in an order that all lists share. The reference's way: one request for
each sample, the files of its list shuffled. What is counted are the prompt tokens that vLLM computed itself, by its own
metric, over the tokens of one prompt for each list. Exit code 1 if this project's ratio is over 1.15.

With rounds, 5 patches of the round before are shown behind the code, over the same 4 lists. The peer shows them before
it. What is counted is divided by the distinct text: the tokens of the trie of all prompts, by the server's tokenizer, a
token once for all prompts that are equal up to it. Exit code 1 if that ratio is 1.3 or more. The model's answers are
replaced by scripted patches (`prefill_rounds`).
"""

import argparse
import asyncio
import json
import os
import random
import re
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from agentless_mini.chain.lexical import survey
from agentless_mini.chain.repair import repair
from agentless_mini.chain.session import Session, Subject, together
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Excerpt, Issue, Localization, Message, SampleRequest, SamplingParams, ShownFile, Stage
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.model.process import Limits, running
from agentless_mini.model.vllm import find_gpus, plan_vllm
from agentless_mini.ports import Sampler
from agentless_mini.settings.model import EndpointSettings, VllmSettings
from agentless_mini.settings.run import RepairSettings
from tests.benchmarks import library
from tests.benchmarks.prefill_rounds import Meter, PatchesFirst, ScriptedAnswers, distinct_tokens, draw_rounds

SAMPLES = 32
ANSWER_TOKENS = 4
BAR = 1.15
ROUNDS_BAR = 1.3
LISTS = (
    ("bisect.py", "colorsys.py", "token.py"),
    ("bisect.py", "keyword.py", "colorsys.py"),
    ("token.py", "bisect.py", "genericpath.py"),
    ("colorsys.py", "bisect.py", "genericpath.py"),
)
COUNTER = re.compile(r'^vllm:prompt_tokens_by_source_total\{[^}]*source="local_compute"[^}]*\} (\S+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a way cost: the requests, and the prompt tokens that the server computed itself for them."""

    requests: tuple[SampleRequest, ...]
    computed: int
    seconds: float


def fresh_issue() -> Issue:
    """Return an issue whose prompts share nothing but the system message with any that the server has seen."""
    return Issue(f"{uuid.uuid4()}: inserting into a sorted list of colours puts equal ones in the wrong order.")


async def our_way(sampler: Sampler) -> None:
    """Draw the samples as the product does."""
    issue, snapshot = fresh_issue(), library(chain(*LISTS))
    session = Session(sampler, load_prompts(None), lambda patch: patch, lambda event: None, "prefill")
    settings = RepairSettings(samples=SAMPLES, max_tokens=ANSWER_TOKENS)
    localization = Localization(LISTS, (1,) * len(LISTS))
    await repair(Subject(issue, snapshot, survey(issue, snapshot)), localization, session, settings)


async def the_reference_way(sampler: Sampler) -> None:
    """Draw the samples one request each, the files of each in an order of its own."""
    issue, files, prompts, card = (
        fresh_issue(),
        library(chain(*LISTS)).by_path(),
        load_prompts(None),
        await sampler.card(),
    )

    async def draw(number: int) -> None:
        names = list(LISTS[number % len(LISTS)])
        random.Random(number).shuffle(names)  # noqa: S311 - an order, not a secret
        shown = tuple(ShownFile(name, (Excerpt(1, files[name].data.decode()),), whole=True) for name in names)
        messages = prompts.repair(issue, "library", shown)
        params = SamplingParams(ANSWER_TOKENS, seed=number)
        request = SampleRequest(card.name, messages, params, (0,), Stage.REPAIR, "prefill")
        async for _ in sampler.sample(request):
            pass

    await together([draw(number) for number in range(SAMPLES)])


async def measure(way: Callable[[Sampler], Awaitable[None]], base_url: str) -> Measured:
    """Draw the samples in a way, and return what the server counted meanwhile."""
    async with OpenAISampler(EndpointSettings(base_url=base_url)) as sampler:
        meter = Meter(sampler)
        before, begun = computed_tokens(base_url), time.monotonic()
        await way(meter)
        return Measured(tuple(meter.asked), computed_tokens(base_url) - before, time.monotonic() - begun)


async def measure_rounds(way: type[ScriptedAnswers], base_url: str, rounds: int, per_round: int) -> Measured:
    """Draw rounds of evolution in a way, and return what the server counted meanwhile."""
    issue, snapshot = fresh_issue(), library(chain(*LISTS))
    subject, localization = Subject(issue, snapshot, survey(issue, snapshot)), Localization(LISTS, (1,) * len(LISTS))
    async with OpenAISampler(EndpointSettings(base_url=base_url)) as sampler:
        scripted = way(sampler)
        before, begun = computed_tokens(base_url), time.monotonic()
        await draw_rounds(scripted, subject, localization, (rounds, per_round, ANSWER_TOKENS))
        return Measured(tuple(scripted.asked), computed_tokens(base_url) - before, time.monotonic() - begun)


def distinct_text(requests: tuple[SampleRequest, ...], base_url: str) -> int:
    """Return the tokens of the trie of the requests' prompts."""
    prompts = {asked.messages: asked.model for asked in requests}
    return distinct_tokens([tokens(model, messages, base_url) for messages, model in prompts.items()])


def tokens(model: str, messages: tuple[Message, ...], base_url: str) -> list[int]:
    """Return a prompt as the server's tokenizer and chat template make it."""
    chat = [{"role": message.role.value, "content": message.content} for message in messages]
    body = json.dumps({"model": model, "messages": chat, "add_generation_prompt": True})
    found = json.loads(asked_of(base_url, "POST", "/tokenize", body))["tokens"]
    return [int(token) for token in found]


async def prompt_tokens(requests: tuple[SampleRequest, ...], base_url: str) -> int:
    """Return the tokens of the distinct prompts of some requests, each counted once."""
    async with OpenAISampler(EndpointSettings(base_url=base_url)) as sampler:
        return sum([await sampler.count_tokens(messages) for messages in {asked.messages for asked in requests}])


def computed_tokens(base_url: str) -> int:
    """Return the prompt tokens that the server has computed itself since it started."""
    found = COUNTER.findall(asked_of(base_url, "GET", "/metrics"))
    if not found:
        raise SystemExit(f"The server at {base_url} does not count the prompt tokens that it computes: use vLLM.")
    return int(sum(map(float, found)))


def asked_of(base_url: str, method: str, path: str, body: str | None = None) -> str:
    """Return what the server answers outside of the API proper."""
    address = urlsplit(base_url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@asynccontextmanager
async def server(options: argparse.Namespace) -> AsyncIterator[str]:
    """Give the address of the server that runs, or of one that is started for the block."""
    if options.base_url:
        yield options.base_url
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    plan = plan_vllm(options.model, VllmSettings(python=options.python, extra=tuple(options.extra)), find_gpus(visible))
    log = Path(tempfile.mkdtemp()) / "vllm.log"
    async with running(plan, log, Limits(), lambda phase, elapsed: None) as started:
        yield started.base_url


async def main() -> int:
    parser = argparse.ArgumentParser(description="Prompt tokens computed for 32 samples over 4 file lists.")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--base-url", help="a vLLM that runs, such as http://127.0.0.1:8000/v1")
    chosen.add_argument("--model", help="model for a vLLM that is started here")
    parser.add_argument("--python", type=Path, help="interpreter that has vLLM")
    parser.add_argument("--rounds", type=int, default=1, help="count the prompts of so many rounds of evolution")
    parser.add_argument("--per-round", type=int, default=5, help="samples of each round (default: 5)")
    parser.add_argument("extra", nargs="*", help="more flags for vLLM, after --")
    options = parser.parse_args()
    async with server(options) as base_url:
        if options.rounds > 1:
            return await compare_rounds(base_url, options.rounds, options.per_round)
        return await compare(base_url)


async def compare(base_url: str) -> int:
    """Draw samples plainly, in both ways."""
    ours = await measure(our_way, base_url)
    needed = await prompt_tokens(ours.requests, base_url)
    report("agentless-mini", ours, needed)
    report("reference", await measure(the_reference_way, base_url), needed)
    return 0 if ours.computed <= BAR * needed else 1


async def compare_rounds(base_url: str, rounds: int, per_round: int) -> int:
    """Draw rounds of evolution, in both ways."""
    ours = await measure_rounds(ScriptedAnswers, base_url, rounds, per_round)
    needed = distinct_text(ours.requests, base_url)
    report("patches last", ours, needed)
    report("patches first", await measure_rounds(PatchesFirst, base_url, rounds, per_round), needed)
    return 0 if ours.computed < ROUNDS_BAR * needed else 1


def report(way: str, measured: Measured, needed: int) -> None:
    """Print a line of the result; `needed` are the tokens that any way must compute."""
    sys.stdout.write(
        f"{way:15}{len(measured.requests):3} requests {measured.computed:7} prompt tokens computed, {needed} needed: "
        f"ratio {measured.computed / needed:.2f} in {measured.seconds:.0f} s\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
