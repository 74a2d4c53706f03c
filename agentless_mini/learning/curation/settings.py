"""The section [curate] of the settings."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class Oracle(enum.StrEnum):
    """Which of the changed files become the oracle."""

    CODE = "code"  # what a repair is asked for: code, without tests, documents and lock files
    ALL = "all"  # every text file but lock files


class Relevant(enum.StrEnum):
    """How files are found that matter to an issue though the pull request leaves them as they are."""

    NONE = "none"
    LEXICAL = "lexical"  # the lexical ranking of localization
    MODEL = "model"  # localization itself


class CurateSettings(BaseModel):
    """How pull requests become rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    oracle: Oracle = Oracle.CODE
    """Which changed files a row is about: code or all."""
    relevant: Relevant = Relevant.NONE
    """How relevant but unmodified files are found: none, lexical or model."""
    most_relevant: int = Field(3, ge=1, le=20)
    """Most relevant but unmodified files in a row."""
    most_files: int = Field(10, ge=1, le=1000)
    """Most changed files; a pull request with more is huge."""
    most_lines: int = Field(1000, ge=1)
    """Most added and removed lines, lock files aside; a pull request with more is huge."""
    most_bytes: int = Field(400_000, ge=1, le=50_000_000)
    """Most bytes of the files of a row, before and after, and of one relevant file; more is huge."""
    similar: float = Field(0.8, gt=0, le=1)
    """Estimated Jaccard similarity from which on two rows are near-duplicates."""
    valid: float = Field(0.01, ge=0, lt=1)
    """Share of the families of repositories in the split "valid"."""
    test: float = Field(0.01, ge=0, lt=1)
    """Share of the families of repositories in the split "test"."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the splits."""
    partitions: int = Field(16, ge=1, le=65536)
    """Parts that the owners of repositories are dealt into: each is a task, and a resting place."""
    workers: int = Field(1, ge=1, le=1024)
    """Processes at work at once on this machine, or tasks on the cluster (there 1 is: as many as it has cores)."""
    rows_per_file: int = Field(10_000, ge=1)
    """Most rows of one parquet file."""
    clone_from: str = ""
    """Address before "/owner/name" from which a repository without a mirror is cloned; "" clones none."""
