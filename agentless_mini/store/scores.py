"""`ScoreLog`: what reward models gave, looked up by what was scored. A failure has no method here."""

import time
from collections.abc import Iterable, Mapping

from agentless_mini.store.database import Database


class ScoreLog:
    """The scores of an open store. Every method raises `StoreError` if the file cannot be used."""

    def __init__(self, database: Database) -> None:
        """Use an open database; `Store.scores` is one."""
        self._database = database

    def recorded(self, keys: Iterable[str]) -> dict[str, float]:
        """Return those of the scores that are there, by key (`ScoreRequest.keys`)."""
        rows = (self._database.read("SELECT key, score FROM scores WHERE key = ?", (key,)) for key in set(keys))
        return {key: score for found in rows for key, score in found}

    def put(self, model: str, scores: Mapping[str, float]) -> None:
        """Record what the model of this name gave, by key. A score that is there stays as it is."""
        now = time.time()
        with self._database.transaction():
            for key, score in scores.items():
                self._database.write(
                    "INSERT INTO scores VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (key, model, score, now)
                )
