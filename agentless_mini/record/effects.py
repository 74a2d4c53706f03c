"""`Store`: the effects already paid for, looked up by what was asked. A failure has no method to record it."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from agentless_mini.domain import (
    Completion,
    EditTask,
    Finish,
    Job,
    JobResult,
    Message,
    ModelCard,
    SampleRequest,
    canonical_json,
    plain,
)
from agentless_mini.errors import UsageError
from agentless_mini.record.database import (
    Database,
    Json,
    Waiting,
    job_values,
    named,
    pack,
    read,
    text,
    unpack,
    usage_columns,
    usage_of,
    written,
)
from agentless_mini.record.evaluations import EvalLog
from agentless_mini.record.records import PromptRecord
from agentless_mini.record.runs import RunLog
from agentless_mini.record.schema import TABLES, VERSION

V = TypeVar("V")


class Store:
    """An open store, for one thread. Each `put_...` has reached the file when it returns. All raise `StoreError`."""

    def __init__(self, database: Database) -> None:
        """Use an open database; `open` and `open_readonly` make one."""
        self._database, self.runs, self.evals = database, RunLog(database), EvalLog(database)

    @classmethod
    def open(cls, path: Path, waiting: Waiting | None = None) -> Self:
        """Open the store for this process alone, and make it if it is missing; dead runs are marked as interrupted.

        While another process has it, `waiting` is told and its end waited for; without it that raises `StoreBusy`.
        """
        store = cls(Database.create(path, VERSION, TABLES, waiting))
        store.runs.close_abandoned()
        return store

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """Open the store to look at, also while a run is using it. Raises `StoreError` if there is none."""
        return cls(Database.view(path, VERSION))

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the file and let other runs use it."""
        self._database.close()

    # --- samples -----------------------------------------------------------------------------------------------------

    def recorded(self, key: str) -> frozenset[int]:
        """Return the indices of the samples that are there of a request."""
        return frozenset(index for (index,) in self._database.read("SELECT idx FROM samples WHERE key = ?", key))

    def get_sample(self, key: str, index: int) -> Completion | None:
        """Return a sample of the request with this key, or None where it is still owed."""
        rows = self._database.read(
            "SELECT text, finish, reasoning, prompt_tokens, cached_tokens, completion_tokens, untold"
            " FROM samples WHERE key = ? AND idx = ?",
            key,
            index,
        )
        for answer, finish, reasoning, *tokens in rows:
            return Completion(index, text(answer), Finish(finish), text(reasoning), usage_of(*tokens))
        return None

    def put_request(self, request: SampleRequest) -> str:
        """Record what is asked, if it is new, and return its key. To be called before its first `put_sample`."""
        prompt, key = request.prompt_digest(), request.key()
        params, decoding = canonical_json(asdict(request.params)), request.decoding.value
        with self._database.transaction():
            self._database.insert("prompts", digest=prompt, body=request.prompt_body())
            self._database.insert(
                "requests", key=key, model=request.model, prompt=prompt, params=params, decoding=decoding
            )
        return key

    def put_sample(self, key: str, request: SampleRequest, completion: Completion) -> None:
        """Record a sample of the request that `put_request` gave this key. A sample that is there stays as it is."""
        self._database.insert(
            "samples",
            key=key,
            idx=completion.index,
            stage=request.stage.value,
            instance=request.instance,
            text=completion.text,
            reasoning=completion.reasoning,
            finish=completion.finish.value,
            created=time.time(),
            **usage_columns(completion.usage),
        )

    def prompt(self, digest: str) -> PromptRecord:
        """Return the prompt with this digest. Raises `UsageError` if there is none."""
        for (body,) in self._database.read("SELECT body FROM prompts WHERE digest = ?", digest):
            asked = json.loads(body)
            messages, task = read(tuple[Message, ...], asked["messages"]), asked["task"]
            return PromptRecord(digest, messages, read(EditTask, task) if task else None)
        raise UsageError(
            f"There is no prompt {digest} in {named(self._database.path)}: amini show RUN names those of a run."
        )

    # --- sandbox runs ------------------------------------------------------------------------------------------------

    def get_box(self, key: str) -> JobResult | None:
        """Return what came of the job with this key, or None where it is still to be run."""
        rows = self._database.read("SELECT result FROM boxes WHERE key = ?", key)
        return next((read(JobResult, unpack(result)) for (result,) in rows), None)

    def put_box(self, key: str, job: Job, result: JobResult) -> None:
        """Record what came of a job. A result that is there stays as it is."""
        seconds, ran, came = sum(step.seconds for step in result.steps), job_values(job), written(result)
        self._database.insert("boxes", key=key, job=pack(ran), result=pack(came), seconds=seconds, created=time.time())

    # --- values by key -----------------------------------------------------------------------------------------------

    def value(self, kind: "Kind[V]", key: str) -> V | None:
        """Return the value of a key, or None where none is recorded."""
        rows = self._database.read("SELECT value FROM memo WHERE kind = ? AND key = ?", kind.name, key)
        return next((kind.load(unpack(value)) for (value,) in rows), None)

    def put_value(self, kind: "Kind[V]", key: str, value: V) -> None:
        """Record the value of a key, in place of one that is there; of a kind with a limit the oldest go."""
        packed = pack(kind.dump(value))
        with self._database.transaction():
            self._database.replace("memo", kind=kind.name, key=key, value=packed, created=time.time())
            if kind.most:
                self._database.write(
                    "DELETE FROM memo WHERE kind = ?1 AND rowid NOT IN"
                    " (SELECT rowid FROM memo WHERE kind = ?1 ORDER BY rowid DESC LIMIT ?2)",
                    kind.name,
                    kind.most,
                )

    def card(self, model: str) -> ModelCard | None:
        """Return the last card seen of the model that is asked for by this name, or None."""
        return self.value(_CARD, model)

    def put_card(self, model: str, card: ModelCard) -> None:
        """Record a model's card. Under another card tokens may count otherwise: counts made before are forgotten."""
        if self.card(model) == card:
            return
        self._database.write("DELETE FROM memo WHERE kind = ?", token_counts(model).name)
        self.put_value(_CARD, model, card)

    def endpoint_model(self, address: str) -> str | None:
        """Return the model that this address served when it was last asked, or None."""
        return self.value(_ENDPOINT, address)

    def put_endpoint_model(self, address: str, model: str) -> None:
        """Record which model an address serves."""
        self.put_value(_ENDPOINT, address, model)


@dataclass(frozen=True)
class Kind(Generic[V]):
    """A kind of value that is remembered by key, as JSON by `dump` and `load`: the `most` newest, or (0) all."""

    name: str
    dump: Callable[[V], Json] = lambda value: value
    load: Callable[[Json], V] = lambda value: value
    most: int = 0


SCORE = Kind[float]("score")
"""What a reward model gave an answer, by `ScoreRequest.keys`."""
SETUP = Kind[str]("setup")
"""How a model's setups fared: the one that serves, why one failed, and the log that the model was shown."""
PATHS = Kind[tuple[str, ...]]("paths", list, tuple, most=100)
"""Paths of a tree that a rule found, by the rule, its code, and what it was given; of a large tree some 60 kB each."""
_CARD = Kind[ModelCard]("card", plain, lambda card: read(ModelCard, card))
_ENDPOINT = Kind[str]("endpoint")


def token_counts(model: str) -> Kind[int]:
    """Return the kind of the token counts of a model, by `chat_key`."""
    return Kind(f"tokens {model}")


def stable_key(*what: Json) -> str:
    """Return the identity of what a value hangs on: the SHA-256 of its canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()


def chat_key(model: str, messages: tuple[Message, ...]) -> str:
    """Return the identity of a token count."""
    return stable_key(model, plain(messages))
