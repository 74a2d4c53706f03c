"""What is kept of events, each fact once however often the events repeat it. Plain values, and their JSON.

Nothing here is trusted: names and ids have passed the patterns below, texts are any Unicode without surrogates.
"""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

REPO_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}/[A-Za-z0-9_.-]{1,100}")
COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MOST_NUMBER = 2**53


@dataclass(frozen=True, slots=True)
class PullFacts:
    """What an event says of a pull request. `merged` is None, texts are "" and counts 0 where it does not say.

    `merged_at` is when it was merged if it was. `since` is when the first event tells of it, where several are joined.
    """

    merged: bool | None
    merged_at: str = ""
    title: str = ""
    body: str = ""
    login: str = ""
    bot: bool = False
    branch: str = ""
    head: str = ""
    base: str = ""
    merge: str = ""
    commits: int = 0
    changed_files: int = 0
    lines: int = 0
    since: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """An issue, or a pull request as issues show it: its words when the event happened."""

    title: str
    body: str
    login: str
    created_at: str
    is_pull: bool


@dataclass(frozen=True, slots=True)
class Comment:
    """One thing said of an issue or pull request. `place` is the path of the line that it stands at, or ""."""

    login: str
    body: str
    bot: bool
    place: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    """That a repository was forked from another: from which is "" where the event does not say."""

    origin: str


Facts = PullFacts | Text | Comment | Fork
KINDS: dict[str, type[PullFacts | Text | Comment | Fork]] = {
    "pull": PullFacts,
    "text": Text,
    "comment": Comment,
    "fork": Fork,
}


@dataclass(frozen=True, slots=True)
class Record:
    """A fact about one number of a repository (0: the repository itself), as of `at` (ISO 8601, UTC).

    Records of one repository, number, kind and `uid` say the same; the earliest is kept. `repo_id` is the number that
    GitHub gives a repository, which stays when its name changes; 0 where it is unknown.
    """

    repo: str
    number: int
    uid: str
    at: str
    facts: Facts
    repo_id: int = 0

    @property
    def kind(self) -> str:
        """Return the name of the kind of its facts."""
        return next(name for name, kind in KINDS.items() if type(self.facts) is kind)


def facts_json(facts: Facts) -> bytes:
    """Return the facts as JSON."""
    return json.dumps(asdict(facts), ensure_ascii=False).encode()


def read_facts(kind: str, data: bytes) -> Facts:
    """Return the facts of a kind that `facts_json` has written."""
    values: dict[str, Any] = json.loads(data)
    return KINDS[kind](**values)
