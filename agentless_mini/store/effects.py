"""`Store`: the effects already paid for, looked up by what was asked.

Only effects are kept: a sample, a sandbox run, a token count, a model's card. A failure has no method here, so it is
never recorded.
"""

import functools
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentless_mini.domain import (
    Completion,
    Decoding,
    EditTask,
    Excerpt,
    Finish,
    Job,
    JobResult,
    Message,
    ModelCard,
    Role,
    SampleRequest,
    ShownFile,
    canonical_json,
)
from agentless_mini.errors import UsageError
from agentless_mini.ports import Find, derive_anew
from agentless_mini.store.database import Database, Waiting, text
from agentless_mini.store.evaluations import EvalLog
from agentless_mini.store.failures import named
from agentless_mini.store.packing import job_result, job_values, pack, result_values, unpack
from agentless_mini.store.records import PromptRecord
from agentless_mini.store.runs import RunLog
from agentless_mini.store.schema import MIGRATIONS
from agentless_mini.store.scores import ScoreLog
from agentless_mini.store.spending import read_usage, usage_values

# Of a tree of 7,000 files one is some 60 kB.
MOST_DERIVED = 100


@functools.cache
def _code() -> str:
    """Return what changes with the code of this package: what older code derived is not taken for the newer's."""
    package = Path(__file__).parent.parent
    files = sorted(path for path in package.rglob("*.py"))
    states = [(str(path.relative_to(package)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(canonical_json(states).encode()).hexdigest()


class Store:
    """An open store, to be used from one thread. Each `put_...` has reached the file when it returns.

    Every method raises `StoreError` if the file cannot be used.
    """

    def __init__(self, database: Database) -> None:
        """Use an open database; `open` and `open_readonly` make one."""
        self._database = database
        self.runs = RunLog(database)
        self.evals = EvalLog(database)
        self.scores = ScoreLog(database)

    @classmethod
    def open(cls, path: Path, waiting: Waiting | None = None) -> Self:
        """Open the store for a run, for this process alone, and make it if it is missing.

        Runs that a killed process left open are marked as interrupted. While another process has it, `waiting` is told
        so and its end is waited for; without `waiting` that raises `StoreBusy`. Raises `StoreError` if it cannot be
        used: no permission, full disk, damaged, another program's, a newer amini's.
        """
        store = cls(Database.create(path, MIGRATIONS, waiting))
        store.runs.close_abandoned()
        return store

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """Open the store to look at, also while a run is using it. Raises `StoreError` if there is none."""
        return cls(Database.view(path, MIGRATIONS))

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the file and let other runs use it."""
        self._database.close()

    # --- samples -----------------------------------------------------------------------------------------------------

    def recorded(self, key: str) -> frozenset[int]:
        """Return the indices of the samples that are there of a request."""
        rows = self._database.read("SELECT idx FROM samples WHERE key = ?", (key,))
        return frozenset(index for (index,) in rows)

    def get_sample(self, key: str, index: int) -> Completion | None:
        """Return a sample of the request with this key, or None where it is still owed."""
        return next(self.replay(key, (index,)), None)

    def replay(self, key: str, indices: Iterable[int]) -> Iterator[Completion]:
        """Yield those of the samples that are there, in the order given, each read when it is its turn."""
        for index in indices:
            rows = self._database.read(
                "SELECT text, finish, reasoning, prompt_tokens, cached_tokens, completion_tokens, untold"
                " FROM samples WHERE key = ? AND idx = ?",
                (key, index),
            )
            for answer, finish, reasoning, *tokens in rows:
                yield Completion(index, text(answer), Finish(finish), text(reasoning), read_usage(*tokens))

    # --- what was derived --------------------------------------------------------------------------------------------

    async def derive(self, rule: str, given: tuple[str, ...], find: Find) -> tuple[str, ...]:
        """Return what `find` finds, or what the same code found for the same before: a `Derive`."""
        key = hashlib.sha256(canonical_json([rule, _code(), given]).encode(errors="surrogatepass")).hexdigest()
        for (packed,) in self._database.read("SELECT paths FROM derived WHERE key = ?", (key,)):
            return tuple(unpack(packed))
        paths = await derive_anew(rule, given, find)
        with self._database.transaction():
            self._database.write("INSERT OR REPLACE INTO derived (key, paths) VALUES (?, ?)", (key, pack(paths)))
            self._database.write("DELETE FROM derived WHERE id <= (SELECT max(id) FROM derived) - ?", (MOST_DERIVED,))
        return paths

    def put_request(self, request: SampleRequest) -> str:
        """Record what is asked, if it is new, and return its key. To be called before its first `put_sample`."""
        prompt, key = request.prompt_digest(), request.key()
        params = canonical_json(asdict(request.params))
        with self._database.transaction():
            self._database.write(
                "INSERT INTO prompts VALUES (?, ?) ON CONFLICT DO NOTHING", (prompt, request.prompt_body())
            )
            self._database.write(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key, request.model, prompt, params, request.decoding.value),
            )
        return key

    def put_sample(self, key: str, request: SampleRequest, completion: Completion) -> None:
        """Record a sample of the request that `put_request` gave this key. A sample that is there stays as it is."""
        prompt_tokens, cached_tokens, completion_tokens, untold = usage_values(completion.usage)
        self._database.write(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                key,
                completion.index,
                request.stage.value,
                request.instance,
                completion.text,
                completion.reasoning,
                completion.finish.value,
                prompt_tokens,
                cached_tokens,
                completion_tokens,
                time.time(),
                untold,
            ),
        )

    def prompt(self, digest: str) -> PromptRecord:
        """Return the prompt with this digest. Raises `UsageError` if there is none."""
        for (body,) in self._database.read("SELECT body FROM prompts WHERE digest = ?", (digest,)):
            return _prompt(digest, body)
        raise UsageError(
            f"There is no prompt {digest} in {named(self._database.path)}: amini show RUN names those of a run."
        )

    # --- sandbox runs ------------------------------------------------------------------------------------------------

    def get_box(self, key: str) -> JobResult | None:
        """Return what came of the job with this key, or None where it is still to be run."""
        rows = self._database.read("SELECT result FROM boxes WHERE key = ?", (key,))
        return next((job_result(unpack(result)) for (result,) in rows), None)

    def put_box(self, key: str, job: Job, result: JobResult) -> None:
        """Record what came of a job. A result that is there stays as it is."""
        seconds = sum(step.seconds for step in result.steps)
        self._database.write(
            "INSERT INTO boxes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (key, pack(job_values(job)), pack(result_values(result)), seconds, time.time()),
        )

    # --- token counts ------------------------------------------------------------------------------------------------

    def get_count(self, model: str, messages: tuple[Message, ...]) -> int | None:
        """Return how many tokens the messages were counted to fill, or None where they were not counted."""
        rows = self._database.read("SELECT tokens FROM token_counts WHERE digest = ?", (_chat(model, messages),))
        return next((tokens for (tokens,) in rows), None)

    def put_count(self, model: str, messages: tuple[Message, ...], tokens: int) -> None:
        """Record how many tokens the messages fill."""
        self._database.write(
            "INSERT OR REPLACE INTO token_counts VALUES (?, ?, ?)", (_chat(model, messages), model, tokens)
        )

    # --- models ------------------------------------------------------------------------------------------------------

    def card(self, model: str) -> ModelCard | None:
        """Return the last card seen of the model that is asked for by this name, or None."""
        for (body,) in self._database.read("SELECT card FROM cards WHERE model = ?", (model,)):
            fields = json.loads(body)
            return ModelCard(**{**fields, "decoding": Decoding(fields["decoding"])})
        return None

    def put_card(self, model: str, card: ModelCard) -> None:
        """Record a model's card. If it differs from the one before, the token counts made under that one are forgotten.

        Another engine, revision or window may come with another tokenizer or chat template; counting is cheap.
        """
        if self.card(model) == card:
            return
        with self._database.transaction():
            self._database.write("DELETE FROM token_counts WHERE model = ?", (model,))
            self._database.write("INSERT OR REPLACE INTO cards VALUES (?, ?)", (model, canonical_json(asdict(card))))

    def endpoint_model(self, address: str) -> str | None:
        """Return the model that this address served when it was last asked, or None."""
        rows = self._database.read("SELECT model FROM endpoints WHERE address = ?", (address,))
        return next((text(model) for (model,) in rows), None)

    def put_endpoint_model(self, address: str, model: str) -> None:
        """Record which model an address serves."""
        self._database.write("INSERT OR REPLACE INTO endpoints VALUES (?, ?)", (address, model))


def _chat(model: str, messages: tuple[Message, ...]) -> str:
    """Return the identity of a token count."""
    return hashlib.sha256(canonical_json([model, [asdict(message) for message in messages]]).encode()).hexdigest()


def _prompt(digest: str, body: str) -> PromptRecord:
    fields = json.loads(body)
    messages = tuple(Message(Role(message["role"]), message["content"]) for message in fields["messages"])
    return PromptRecord(digest, messages, _task(fields["task"]) if fields["task"] else None)


def _task(fields: dict[str, Any]) -> EditTask:
    files = tuple(
        ShownFile(file["path"], tuple(Excerpt(**excerpt) for excerpt in file["excerpts"]), file["whole"])
        for file in fields["files"]
    )
    return EditTask(fields["issue"], files)
