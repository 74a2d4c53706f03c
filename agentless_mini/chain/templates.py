"""Reads the prompt templates: the packaged ones, each replaceable by a file of the same name in the user's folder."""

from pathlib import Path

import jinja2

from agentless_mini.chain.prompts import VARIABLES, Attempt, Prompts
from agentless_mini.domain import Excerpt, Issue, Runner, ShownFile
from agentless_mini.errors import UsageError, boundary

_PACKAGED = Path(__file__).parent.parent / "_prompts"
_CHECKOUT = Path(__file__).parents[2] / "prompts"


def load_prompts(folder: Path | None) -> Prompts:
    """Return the prompts, those in `folder` taking the place of the packaged ones.

    Raises `UsageError` for a folder that is none or holds an unknown template, and for a template with an error in it.
    """
    packaged = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT  # an editable install points at a checkout
    replaced = _replacements(folder) if folder else {}
    others = {name for name in VARIABLES if name not in replaced}
    sources = replaced | {name: (packaged / f"{name}.j2").read_text(encoding="utf-8") for name in others}
    broken, advice = f"A prompt template in {folder or packaged} is not valid Jinja", "correct it or remove it"
    advice = advice if folder else "install amini again"
    with boundary(
        dict.fromkeys(
            (jinja2.TemplateError, TypeError, ValueError, AttributeError),
            lambda error: UsageError(f"{broken} ({error}): {advice}."),
        )
    ):
        prompts, issue = Prompts(sources), Issue("x")
        prompts.localize(issue, "x", ("x",), 1, 1)  # what only fails when it is rendered fails here
        shown = ShownFile("x", (Excerpt(1, "x\n"),), whole=False)
        prompts.score(issue)
        prompts.asks(issue)
        prompts.broken(issue, "x", ("x",))
        asked = prompts.repair(issue, "x", (shown,))
        for problem in ("", "x"):
            prompts.evolve(asked, (Attempt("x", problem),))
        prompts.synthesize(asked, "x")
        for runner in Runner:
            prompts.reproduce(issue, "x", (shown,), runner, "x", shown)
            prompts.setup("x", (shown,), runner, "x")
        return prompts


def _replacements(folder: Path) -> dict[str, str]:
    unreadable = f"The prompts folder {folder} cannot be read"
    with boundary(
        dict.fromkeys((OSError, ValueError), lambda error: UsageError(f"{unreadable} ({error}): check --prompts."))
    ):
        found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.j2"))}
    if not folder.is_dir() or not found:
        raise UsageError(f"The prompts folder {folder} holds no template (*.j2): check --prompts.")
    if unknown := sorted(found.keys() - VARIABLES.keys()):
        raise UsageError(f"There is no prompt called {unknown[0]!r}: {', '.join(sorted(VARIABLES))} can be replaced.")
    return found
