"""[bugs]: which functions tasks are made of, and how many."""

from pydantic import BaseModel, ConfigDict, Field


class BugsSettings(BaseModel):
    """How tasks are made. The same settings make the same tasks of the same sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    """Seed of the calls, the faults, the wording and the splits."""
    max_bytes: int = Field(3200, ge=200)
    """The largest file of a task; a larger module is cut down to what a function needs."""
    min_lines: int = Field(2, ge=1)
    """The fewest lines of a function, its docstring left out."""
    max_lines: int = Field(60, ge=1)
    """The most lines of a function, its docstring included."""
    calls: int = Field(96, ge=8)
    """Calls tried on each function."""
    observations: int = Field(24, ge=4)
    """Calls kept of those, for the issue and the check together."""
    candidates: int = Field(12, ge=1)
    """Faults tried in each function."""
    per_function: int = Field(4, ge=1)
    """Tasks kept of each function, of different kinds where there are some."""
    total: float = Field(0.3, ge=0, le=1)
    """The share kept of the faults that change all calls."""
    double: float = Field(0.1, ge=0, le=1)
    """The share of the faults tried that are two at once."""
    valid: float = Field(0.1, ge=0, le=1)
    """The share of the families of packages that are for validation, by hash."""
    test: float = Field(0.1, ge=0, le=1)
    """The share of the families of packages that are held out, by hash, where none is named."""
    held_out: tuple[str, ...] = ()
    """Packages that are held out, with all of their families."""
    batch: int = Field(48, ge=1)
    """Files observed in one box."""
