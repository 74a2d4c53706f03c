"""How much of their beginning the prompts of repair and of the test writer share, where files do not fit the window.

    python -m tests.benchmarks.prefill_stages

Needs no model: tokens are those of the scripted server. The prompts are the product's, for 4 lists of files of Python's
standard library. Distinct tokens are the nodes of the trie of the prompts: what a server computes that keeps all. The
peer fits each list by itself, so that a file is cut in another way in each prompt; and shows the test writer the same
files, but after what is asked.
"""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from agentless_mini.chain.lexical import survey
from agentless_mini.chain.repair import repair_requests
from agentless_mini.chain.reproduce import draft_cases
from agentless_mini.chain.session import Session, Subject
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Harness, Issue, Localization, Message, ModelCard, Runner, ShownFile
from agentless_mini.settings.run import RepairSettings, ReproduceSettings
from tests.benchmarks import library
from tests.benchmarks.prefill_rounds import distinct_tokens
from tests.fakes.model import Script, ScriptedSampler, pieces

LISTS = (
    ("argparse.py", "optparse.py", "getopt.py", "configparser.py"),
    ("argparse.py", "configparser.py", "shlex.py"),
    ("argparse.py", "optparse.py", "gettext.py", "textwrap.py"),
    ("optparse.py", "argparse.py", "getopt.py"),
)
VOTES = (4, 3, 2, 1)
ISSUE = Issue(
    "add_mutually_exclusive_group forgets its required flag in a parent parser\n\nA group that is made by a parser of "
    "`parents=[...]` is no longer required in the child: `_add_container_actions` copies its actions alone. The usage "
    "line of `format_usage` shows no brackets either.\n"
)
EXAMPLE = "import argparse\n\n\ndef test_usage():\n    assert argparse.ArgumentParser(prog='p').format_usage()\n" * 20


async def prompts(window: int, lists: Localization) -> tuple[list[tuple[Message, ...]], tuple[Message, ...]]:
    """Return the prompts of repair for some lists, and that of the test writer."""
    sampler, told = ScriptedSampler(Script.of("nothing"), ModelCard("scripted", window)), list[tuple[ShownFile, ...]]()
    session = Session(sampler, load_prompts(None), lambda patch: patch, lambda event: None, "prefill", told=told.append)
    snapshot = library(chain(*LISTS), **{"tests/test_argparse.py": EXAMPLE.encode()})
    subject = Subject(ISSUE, snapshot, survey(ISSUE, snapshot))
    requests = await repair_requests(subject, lists, session, RepairSettings())

    async def showing() -> tuple[ShownFile, ...]:
        return told[0]

    harness = Harness(Runner.PYTEST, ("python", "-m", "pytest"))
    await draft_cases(subject, session, harness, ReproduceSettings(), showing)
    return [request.messages for request in requests], sampler.requests[-1].messages


def tokens(prompts: Iterable[Sequence[Message]]) -> list[list[int]]:
    """Return prompts in the scripted server's tokens, by number."""
    numbers: dict[str, int] = {}
    texts = ["\n".join(message.content for message in messages) for messages in prompts]
    return [[numbers.setdefault(piece, len(numbers)) for piece in pieces(text)] for text in texts]


def code_last(messages: tuple[Message, ...], issue: str) -> tuple[Message, ...]:
    """Return the prompt of the test writer with its files after what is asked."""
    content = messages[-1].content
    start = content.index(issue) + len(issue)
    asked = content.index("This is an existing test file", start)
    return *messages[:-1], replace(messages[-1], content=content[:start] + content[asked:] + content[start:asked])


def main() -> None:
    """Print a line for each window."""
    sys.stdout.write("| window | repair: tokens | distinct | the peer's | test writer: tokens | new | the peer's |\n")
    sys.stdout.write("|" + "---|" * 7 + "\n")
    for window in (8, 16, 32, 64):
        repairs, test = asyncio.run(prompts(window * 1024, Localization(LISTS, VOTES)))
        alone = [asyncio.run(prompts(window * 1024, Localization((names,), (1,))))[0][0] for names in LISTS]
        last = code_last(test, "--- END ISSUE ---\n")
        counted = tokens([*repairs, test, last, *alone])
        ours, (one, other), peers = counted[: len(repairs)], counted[len(repairs) :][:2], counted[len(repairs) + 2 :]
        shared = distinct_tokens(ours)
        cells = [sum(map(len, ours)), shared, distinct_tokens(peers), len(one)]
        cells += [distinct_tokens([*ours, prompt]) - shared for prompt in (one, other)]
        sys.stdout.write(f"| {window}k | " + " | ".join(f"{cell:,}" for cell in cells) + " |\n")


if __name__ == "__main__":
    main()
