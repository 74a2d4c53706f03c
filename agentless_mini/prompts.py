"""prompts/<name>.j2 -> messages.

Every prompt of a run begins with the same system message and the same issue, and what varies among the prompts of a
stage comes as late as it can: so a server reuses one prefix for all of them. Issue, paths and code are values of
variables; they are never part of a template.

The templates themselves are read by `templates`; this module does no I/O.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
import jinja2.meta

from agentless_mini.domain import Issue, Message, Role, Runner, ShownFile

VARIABLES: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "issue": frozenset({"issue"}),
    "localize": frozenset({"repository", "paths", "total", "complete", "most"}),
    "repair": frozenset({"repository", "files", "partial"}),
    "reproduce": frozenset({"repository", "runner", "folder", "example", "partial"}),
}


@dataclass(frozen=True, slots=True)
class Tree:
    """What a localization prompt shows of a repository: some or all of its `total` candidate paths."""

    repository: str
    paths: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class NewTest:
    """What a reproduction prompt says of the test that it asks for.

    It will lie in `folder` ("" is the top of the tree), beside the `example` of style where there is one.
    """

    repository: str
    runner: Runner
    folder: str
    example: ShownFile | None = None


@dataclass(frozen=True, slots=True)
class _Fenced:
    path: str
    fence: str
    text: str


class Prompts:
    """The prompts of a run, made from one set of templates."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        """Compile the templates, keyed by the names in `VARIABLES`.

        Raises `jinja2.TemplateError` for one that is no template or uses a variable that is not in `VARIABLES`, and
        `KeyError` for one that is missing.
        """
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - these are prompts for a model, not pages for a browser
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        for name, declared in sorted(VARIABLES.items()):
            unknown = jinja2.meta.find_undeclared_variables(environment.parse(templates[name])) - declared
            if unknown:
                message = f"{name}.j2 uses {sorted(unknown)[0]!r}, which it is not given"
                raise jinja2.UndefinedError(message)
        self._templates = {name: environment.from_string(templates[name]) for name in sorted(VARIABLES)}

    def localize(self, issue: Issue, tree: Tree, most: int) -> tuple[Message, ...]:
        """Ask for at most `most` paths of the tree (mission section 1.1)."""
        complete = len(tree.paths) == tree.total
        body = self._templates["localize"].render(
            repository=tree.repository, paths=tree.paths, total=tree.total, complete=complete, most=most
        )
        return self._messages(issue, body)

    def repair(self, issue: Issue, repository: str, files: tuple[ShownFile, ...]) -> tuple[Message, ...]:
        """Ask for reasoning, then edits in the format of mission section 2, given the files as shown."""
        fenced = tuple(_fenced(file) for file in files)
        partial = not all(file.whole for file in files)
        body = self._templates["repair"].render(repository=repository, files=fenced, partial=partial)
        return self._messages(issue, body)

    def reproduce(self, issue: Issue, wanted: NewTest) -> tuple[Message, ...]:
        """Ask for a test file that fails while the issue exists (mission section 1.3)."""
        body = self._templates["reproduce"].render(
            repository=wanted.repository,
            runner=wanted.runner.value,
            folder=wanted.folder,
            example=_fenced(wanted.example) if wanted.example else None,
            partial=wanted.example is not None and not wanted.example.whole,
        )
        return self._messages(issue, body)

    def _messages(self, issue: Issue, body: str) -> tuple[Message, ...]:
        opening = self._templates["issue"].render(issue=issue.text.strip())
        system = self._templates["system"].render().strip()
        return (Message(Role.SYSTEM, system), Message(Role.USER, opening + body))


def _fenced(file: ShownFile) -> _Fenced:
    """Put a file into a fence that is longer than any in it; its end-of-line carriage returns are not shown."""
    text = _shown_text(file).replace("\r\n", "\n").rstrip("\n")
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    return _Fenced(file.path, "`" * (longest + 1), text)


def _shown_text(file: ShownFile) -> str:
    """Join the excerpts of a file, each gap marked with the numbers of the lines that are left out."""
    if file.whole:
        return file.excerpts[0].text
    parts = []
    following = 1
    for excerpt in file.excerpts:
        if excerpt.first > following:
            parts.append(f"[... lines {following} to {excerpt.first - 1} are not shown ...]\n")
        parts.append(excerpt.text)
        following = excerpt.first + excerpt.text.count("\n")
    return "".join(parts)
