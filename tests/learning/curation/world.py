"""A small GitHub: real git repositories, and the events that GH Archive would have recorded of them."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from agentless_mini.learning.curation.curation import Curation, Doing, curate, one_by_one
from agentless_mini.learning.curation.pulls import Finding, without_model
from agentless_mini.learning.rows import Row, read_rows
from agentless_mini.settings.learning import CurateSettings
from tests.gitrepo import commit_all, git, make_repository, write_files

MIT = b"MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof it\n"
CODE = b"def half(n):\n    return n / 2\n"
FIXED = b"def half(n):\n    return n // 2\n"
SETTINGS = CurateSettings(partitions=2)
BEFORE, AT, AFTER = "2023-01-01T00:00:00Z", "2024-01-02T03:04:05Z", "2025-01-01T00:00:00Z"
REPO = "ada/engine"

Values = dict[str, Any]


def event(kind: str, payload: Values, repo: str = REPO, at: str = AT) -> Values:
    return {
        "id": "1",
        "type": kind,
        "actor": {"login": "ada"},
        "repo": {"id": crc32(repo.lower().encode()), "name": repo},
        "payload": payload,
        "public": True,
        "created_at": at,
    }


def user(login: str = "ada", kind: str = "User") -> Values:
    return {"login": login, "type": kind}


def issue_event(number: int, title: str, body: str = "", repo: str = REPO, at: str = BEFORE) -> Values:
    issue = {"number": number, "title": title, "body": body, "user": user(), "created_at": at}
    return event("IssuesEvent", {"action": "opened", "issue": issue}, repo, at)


def comment_event(number: int, said: str, at: str, login: str = "bob", **more: object) -> Values:
    issue = {"number": number, "title": "words", "body": "", "user": user(), "created_at": BEFORE, **more}
    comment = {"id": crc32(said.encode("utf-8", "surrogatepass")), "body": said, "user": user(login), "created_at": at}
    return event("IssueCommentEvent", {"action": "created", "issue": issue, "comment": comment}, at=at)


def pull_event(number: int, merge: str, repo: str = REPO, **more: object) -> Values:
    pull = {
        "number": number,
        "title": "Halve whole numbers",
        "body": "Fixes #1",
        "user": user(),
        "merged": True,
        "merged_at": AT,
        "merge_commit_sha": merge,
        "commits": 1,
        "changed_files": 1,
        "head": {"ref": "topic", "sha": "a" * 40, "repo": None},
        "base": {"ref": "main", "sha": "b" * 40, "repo": {"id": 1, "name": repo, "fork": False}},
        **more,
    }
    return event("PullRequestEvent", {"action": "closed", "number": number, "pull_request": pull}, repo)


def trimmed_event(number: int, action: str, repo: str = REPO) -> Values:
    side = {"ref": "topic", "sha": "a" * 40, "repo": {"id": 1, "url": "u", "name": "engine"}}
    pull = {"url": "u", "id": 7, "number": number, "head": side, "base": side}
    return event("PullRequestEvent", {"action": action, "number": number, "pull_request": pull}, repo)


@dataclass
class World:
    """A folder with mirrors and events. Every number of a pull request is used once."""

    folder: Path
    events: list[Values | bytes] = field(default_factory=list)

    @property
    def mirrors(self) -> Path:
        return self.folder / "mirrors"

    def repository(self, repo: str = REPO, files: Mapping[str, bytes] | None = None) -> Path:
        """Make the mirror of a repository, whose first commit is like no other's."""
        path = self.mirrors / repo.replace("/", "+")
        return make_repository(path, {"name.txt": repo.encode(), "LICENSE": MIT, "half.py": CODE, **(files or {})})

    def change(self, files: Mapping[str, bytes], subject: str = "a change", repo: str = REPO) -> str:
        """Commit to a mirror, return the commit's id."""
        path = self.mirrors / repo.replace("/", "+")
        write_files(path, files)
        return commit_all(path, subject)

    def merge(self, number: int, files: Mapping[str, bytes], message: str, repo: str = REPO) -> str:
        """Merge a branch of one commit while the main branch goes on; return the merge commit's id."""
        path = self.mirrors / repo.replace("/", "+")
        git(path, "switch", "--quiet", "--create", f"topic-{number}")
        self.change(files, message, repo)
        git(path, "switch", "--quiet", "main")
        self.change({f"other-{number}.txt": b"meanwhile\n"}, "meanwhile", repo)
        git(
            path, "merge", "--quiet", "--no-ff", "-m", f"Merge pull request #{number} from x\n\nTold", f"topic-{number}"
        )
        return git(path, "rev-parse", "HEAD").decode().strip()

    def write(self, name: str = "2024-01-02-3.json.gz", events: list[Values | bytes] | None = None) -> Path:
        """Write the events as an hourly file."""
        folder = self.folder / "events"
        folder.mkdir(exist_ok=True)
        lines = (one if isinstance(one, bytes) else json.dumps(one).encode() for one in events or self.events)
        with gzip.open(folder / name, "wb") as file:
            file.writelines(line + b"\n" for line in lines)
        return folder

    def curation(
        self, out: str = "out", settings: CurateSettings = SETTINGS, finding: Finding | None = None
    ) -> Curation:
        events = (self.folder / "events",)
        return Curation(events, self.mirrors, self.folder / out, settings, finding or without_model)

    def curate(self, curation: Curation | None = None, doing: Doing = one_by_one) -> Values:
        return curate(curation or self.curation(), doing, untold)


def untold(step: str, done: int, total: int) -> None:
    pass


def rows_of(out: Path) -> list[Row]:
    return sorted(
        (row for split in ("train", "valid", "test") if any((out / split).iterdir()) for row in read_rows(out / split)),
        key=lambda row: row.id,
    )


def left_out(found: Values) -> dict[str, int]:
    return {one["step"]: one["left_out"] for one in found["steps"] if one["left_out"]}


def small_world(folder: Path) -> World:
    """Make a world of one repository with one pull request that becomes a row."""
    world = World(folder)
    world.repository()
    merge = world.change({"half.py": FIXED}, "Halve (#12)")
    world.events += [issue_event(1, "half(3) is 1.5", "It must be 1."), pull_event(12, merge)]
    world.write()
    return world
