"""The settings of an evaluation, beside those of the chain."""

import enum

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.evaluation.images import ImageSettings


class Grading(enum.StrEnum):
    """Which patches of an instance the official harness grades."""

    NONE = "none"
    CHOSEN = "chosen"  # the one that was chosen
    CURVE = "curve"  # whatever a smaller run, of fewer samples or tests, would have chosen as well
    ALL = "all"  # every distinct valid one: pass@k is exact then


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
