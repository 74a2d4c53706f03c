"""The instances of a benchmark, in two parts that never meet in the chain: what it may know, and the answer.

Nothing of the patch, the test patch, the lists of tests, the hints or the evaluation script reaches
a prompt or a stage that runs tests.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentless_mini.domain import Issue

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")
"""What an instance can be called: its name is one of folders, files and containers."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What the chain may know of an instance.

    `repo` is `owner/name`, `image` the name of the Docker image that has its tree at /testbed. `created` is the ISO
    time of the issue, "" where the dataset does not say.
    """

    id: str
    repo: str
    base_commit: str
    issue: Issue
    image: str
    version: str = ""
    created: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What only the official harness and the report may see.

    `row` is the dataset's whole row as JSON, `patch` the true fix, `files` the paths that exist before it and that it
    touches, sorted.
    """

    row: str = field(repr=False)
    patch: str = field(repr=False)
    files: tuple[str, ...] = field(repr=False)
    difficulty: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Instances in order of id, and the answers by id. `fingerprint` is the SHA-256 of all rows, in hex."""

    name: str
    fingerprint: str
    instances: tuple[Instance, ...]
    answers: Mapping[str, Answer] = field(repr=False)
