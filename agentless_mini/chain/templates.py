"""Reads the prompt templates: the packaged ones, each replaceable by a file of the same name in the user's folder."""

from collections.abc import Mapping
from pathlib import Path

import jinja2

from agentless_mini.chain.prompts import VARIABLES, Attempt, NewTest, Prompts, Tree
from agentless_mini.domain import Excerpt, Issue, Runner, ShownFile
from agentless_mini.errors import UsageError, boundary

_PACKAGED = Path(__file__).parent.parent / "_prompts"
_CHECKOUT = Path(__file__).parents[2] / "prompts"


def load_prompts(folder: Path | None) -> Prompts:
    """Return the prompts, those in `folder` taking the place of the packaged ones.

    Raises `UsageError` for a folder that is none or holds an unknown template, and for a template with an error in it.
    """
    replaced = _replacements(folder) if folder else {}
    sources = {name: replaced[name] if name in replaced else _packaged(name) for name in sorted(VARIABLES)}
    broken = f"A prompt template in {folder} is not valid Jinja"
    with boundary(
        dict.fromkeys(
            (jinja2.TemplateError, TypeError, ValueError, AttributeError),
            lambda error: UsageError(f"{broken} ({error}): correct it or remove it."),
        )
    ):
        prompts = Prompts(sources)
        prompts.localize(Issue("x"), Tree("x", ("x",), 1), 1)  # what only fails when it is rendered fails here
        shown = ShownFile("x", (Excerpt(1, "x\n"),), whole=False)
        prompts.score(Issue("x"))
        asked = prompts.repair(Issue("x"), "x", (shown,))
        for problem in ("", "x"):
            prompts.evolve(asked, (Attempt("x", problem),))
        prompts.synthesize(asked, "x")
        for runner in Runner:
            prompts.reproduce(Issue("x"), NewTest("x", runner, "x", shown))
        return prompts


def _packaged(name: str) -> str:
    """Read a template from the wheel, or from the checkout that an editable install points at."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return (folder / f"{name}.j2").read_text(encoding="utf-8")


def _replacements(folder: Path) -> Mapping[str, str]:
    unreadable = f"The prompts folder {folder} cannot be read"
    with boundary(
        dict.fromkeys((OSError, ValueError), lambda error: UsageError(f"{unreadable} ({error}): check --prompts."))
    ):
        found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.j2"))}
    if not folder.is_dir() or not found:
        message = f"The prompts folder {folder} holds no template (*.j2): check --prompts."
        raise UsageError(message)
    unknown = sorted(found.keys() - VARIABLES.keys())
    if unknown:
        message = f"There is no prompt called {unknown[0]!r}: {', '.join(sorted(VARIABLES))} can be replaced."
        raise UsageError(message)
    return found
