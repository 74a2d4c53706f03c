"""What a recipe says of a bug. The files are TOML, one for each bug, in recipes/; an unknown key is an error."""

import enum
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

RECIPES = Path(__file__).parent / "recipes"

Places = Mapping[str, tuple[int, ...]]
"""Path -> where the faulty release's file differs from another's: the first line of each place there, from 1."""


class WrongKind(enum.StrEnum):
    """Where a wrong patch comes from. All but MUTANT are of code that the project has released."""

    EARLIER = "earlier"  # what stood there in an older release
    PARTIAL = "partial"  # a part of the fix
    OTHER = "other"  # what a later release changed besides: fixes of other bugs and features
    MUTANT = "mutant"  # the fix with one small change


class Quality(enum.StrEnum):
    """What a generated test does without the fix, and with it."""

    REPRODUCES = "reproduces"  # fails, passes
    BROKEN = "broken"  # fails both times before it comes to the bug: an import or the syntax is wrong
    PASSES = "passes"  # passes both times
    MISTAKEN = "mistaken"  # fails both times: it expects what the fix does not do


class Told(BaseModel):
    """A part of a file that says what there is; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Wrong(Told):
    """One wrong patch, by one of the ways below; `release` is the fixed one unless it says otherwise.

    `places`: these differences from `release`. `without`: the fix less these of its new lines, counted from 1 through
    all of its places. `mutant`: the fix changed as `mutants.mutants` numbers it, from 0.
    """

    kind: WrongKind
    release: str = ""
    places: Places | None = None
    without: tuple[int, ...] = ()
    mutant: int | None = None


class GeneratedTest(Told):
    """The source of a test file as a model would write it, and what it is worth."""

    quality: Quality
    code: str


class Bug(Told):
    """A recipe. `spoilt` are further wrong patches, that break no more of the project's tests than the fix does.

    `before` is the faulty release and `after` the fixed one, `sha256` has the sdist of each release.

    `tests` are pytest's node ids, in files of the fixed release. `source` is the folder to import the project from, and
    `requires` what its tests need besides, as pip reads it.
    """

    name: str
    project: str
    what: str
    before: str
    after: str
    sha256: Mapping[str, str]
    source: str
    requires: tuple[str, ...]
    tests: tuple[str, ...]
    fix: Places
    issue: str
    wrongs: tuple[Wrong, ...]
    generated: tuple[GeneratedTest, ...]
    spoilt: tuple[Wrong, ...] = ()

    @property
    def test_folder(self) -> str:
        """Return where the project has the bug's tests."""
        return self.tests[0].partition("::")[0].rpartition("/")[0]

    def test_files(self) -> tuple[str, ...]:
        """Return the paths of the files that have the bug's tests."""
        return tuple(dict.fromkeys(test.partition("::")[0] for test in self.tests))

    def generated_answers(self) -> tuple[str, ...]:
        """Return the generated tests as answers of a model, each in a fenced block."""
        return tuple(f"This test shows the issue.\n\n```python\n{test.code.strip()}\n```\n" for test in self.generated)


def load_bugs() -> tuple[Bug, ...]:
    """Return all bugs, by name. Raises pydantic's `ValidationError` for a recipe that is not one."""
    return tuple(_load(path) for path in sorted(RECIPES.glob("*.toml")))


def _load(path: Path) -> Bug:
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    return Bug.model_validate({"name": path.stem, **told})
