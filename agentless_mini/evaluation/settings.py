"""The settings of an evaluation, beside those of the chain."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class Grading(enum.StrEnum):
    """Which patches of an instance the official harness grades."""

    NONE = "none"
    CHOSEN = "chosen"  # the one that was chosen
    CURVE = "curve"  # whatever a smaller run, of fewer samples or tests, would have chosen as well
    ALL = "all"  # every distinct valid one: pass@k is exact then


class ImageSettings(BaseModel):
    """How images are pulled and kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_images: int | None = Field(None, ge=0)
    """The most pulled images that are kept; all of them where it is not set."""
    min_free_gib: float = Field(20.0, ge=0)
    """The room that has to be free on Docker's disk before an image is pulled."""
    pulls: int = Field(2, ge=1)
    """Images that are pulled at once."""


class EvaluationSettings(BaseModel):
    """How instances are attempted and graded. Nothing here changes an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(8, ge=1, le=1000)
    """Instances attempted at once: the sampling of some overlaps the tests of others. Each holds its tree in memory."""
    grade: Grading = Grading.CURVE
    """Which patches are graded: none, chosen, curve or all."""
    graders: int = Field(2, ge=1, le=100)
    """Patches graded at once."""
    grade_seconds: int = Field(1800, ge=1)
    """The longest that the tests of one grading may take; swebench's own limit is 1,800."""
    images: ImageSettings = ImageSettings()
    """[eval.images]: how images are pulled and kept."""
