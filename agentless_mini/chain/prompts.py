"""prompts/<name>.j2 -> messages; `templates` reads the files.

Every prompt of a run begins with the same system message and, save that of setup, the same issue. What varies comes as
late as it can, so that a server reuses one prefix: those of repair and of reproduction go on with the same files, one
of evolution begins with a whole repair prompt. A reward model has its own words. Issue, paths, code and patches are
values of variables; they are never part of a template.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import jinja2
import jinja2.meta

from agentless_mini.domain import Excerpt, Issue, Message, Role, Runner, ShownFile, canonical_json

VARIABLES: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "issue": frozenset({"issue", "mark"}),
    "asks": frozenset(),
    "localize": frozenset({"repository", "paths", "total", "complete", "most", "mark"}),
    "files": frozenset({"repository", "files", "partial", "mark"}),
    "repair": frozenset({"partial"}),
    "evolve": frozenset({"attempts", "rejected"}),
    "score": frozenset({"issue"}),
    "broken": frozenset({"repository", "tests", "mark"}),
    "reproduce": frozenset({"repository", "files", "runner", "folder", "example", "partial"}),
    "setup": frozenset({"repository", "files", "runner", "partial", "log"}),
    "synthesize": frozenset({"answer"}),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier sample that a prompt of evolution shows.

    `text` is its patch as a unified diff or, where it became none, the answer itself and in `problem` why: one line.
    """

    text: str
    problem: str = ""


class Prompts:
    """The prompts of a run, made from one set of templates, of which `digest` is the digest."""

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
            if unknown := jinja2.meta.find_undeclared_variables(environment.parse(templates[name])) - declared:
                raise jinja2.UndefinedError(f"{name}.j2 uses {sorted(unknown)[0]!r}, which it is not given")
        self._templates = {name: environment.from_string(templates[name]) for name in sorted(VARIABLES)}
        self.digest = hashlib.sha256(canonical_json(dict(templates)).encode()).hexdigest()

    def asks(self, issue: Issue) -> tuple[Message, ...]:
        """Ask whether an issue asks for a change of the code at all."""
        return self._messages(issue, self._templates["asks"].render())

    def localize(
        self, issue: Issue, repository: str, paths: tuple[str, ...], total: int, most: int
    ) -> tuple[Message, ...]:
        """Ask for at most `most` paths, given some or all of the repository's `total` candidate paths."""
        body = self._templates["localize"].render(
            repository=repository,
            paths=paths,
            total=total,
            complete=len(paths) == total,
            most=most,
            mark=_mark("files", "\n".join(paths)),
        )
        return self._messages(issue, body)

    def repair(self, issue: Issue, repository: str, files: tuple[ShownFile, ...]) -> tuple[Message, ...]:
        """Ask for reasoning, then edits in the SEARCH/REPLACE format, given the files as shown."""
        partial = not all(file.whole for file in files)
        return self._messages(issue, self._files(repository, files) + self._templates["repair"].render(partial=partial))

    def evolve(self, asked: tuple[Message, ...], attempts: tuple[Attempt, ...]) -> tuple[Message, ...]:
        """Show what was answered to a repair prompt and ask for a better answer (Satori-SWE, arXiv 2505.23604).

        `asked` is that prompt: it stays the beginning, byte for byte, so that a server reuses it. The attempts are
        shown in their order; either all have a problem or none.
        """
        fenced = tuple(_fenced(attempt.text, problem=attempt.problem) for attempt in attempts)
        rejected = any(attempt.problem for attempt in attempts)
        return _continued(asked, self._templates["evolve"].render(attempts=fenced, rejected=rejected))

    def score(self, issue: Issue) -> str:
        """Return what a reward model is told that a patch, as a unified diff, is the answer to."""
        return self._templates["score"].render(issue=issue.text.strip()).strip()

    def reproduce(
        self,
        issue: Issue,
        repository: str,
        files: tuple[ShownFile, ...],
        runner: Runner,
        folder: str,
        example: ShownFile | None = None,
    ) -> tuple[Message, ...]:
        """Ask for a test file that fails while the issue exists, given the files as a repair prompt shows them.

        It will lie in `folder` ("" is the top of the tree), beside the `example` of style where there is one. Where
        there are files, the prompt begins as the repair prompt that shows them does, up to the end of them.
        """
        body = self._files(repository, files) if files else ""
        body += self._templates["reproduce"].render(
            repository=repository,
            files=bool(files),
            runner=runner.value,
            folder=folder,
            example=_fenced_files([example])[0] if example else None,
            partial=example is not None and not example.whole,
        )
        return self._messages(issue, body)

    def broken(self, issue: Issue, repository: str, tests: tuple[str, ...]) -> tuple[Message, ...]:
        """Ask which of the repository's passing tests have to fail once the issue is resolved."""
        mark = _mark("tests", "\n".join(tests))
        return self._messages(issue, self._templates["broken"].render(repository=repository, tests=tests, mark=mark))

    def setup(self, repository: str, files: tuple[ShownFile, ...], runner: Runner, log: str) -> tuple[Message, ...]:
        """Ask for the commands that set the test environment up. Without the issue: another one has the same answer."""
        body = self._templates["setup"].render(
            repository=repository,
            files=_fenced_files(files),
            runner=runner.value,
            partial=not all(file.whole for file in files),
            log=_fenced(log),
        )
        return (Message(Role.SYSTEM, self._templates["system"].render().strip()), Message(Role.USER, body))

    def synthesize(self, asked: tuple[Message, ...], answer: str) -> tuple[Message, ...]:
        """Ask a teacher for the reasoning that leads to a known answer of a repair prompt."""
        return _continued(asked, self._templates["synthesize"].render(answer=answer.strip()))

    def _files(self, repository: str, files: tuple[ShownFile, ...]) -> str:
        fenced, partial = _fenced_files(files), not all(file.whole for file in files)
        mark = _gap_mark(files)
        return self._templates["files"].render(repository=repository, files=fenced, partial=partial, mark=mark)

    def _messages(self, issue: Issue, body: str) -> tuple[Message, ...]:
        text = issue.text.strip()
        opening = self._templates["issue"].render(issue=text, mark=_mark("issue", text))
        system = self._templates["system"].render().strip()
        return (Message(Role.SYSTEM, system), Message(Role.USER, opening + body))


def _continued(asked: tuple[Message, ...], more: str) -> tuple[Message, ...]:
    return (*asked[:-1], Message(asked[-1].role, asked[-1].content + more))


def _mark(what: str, text: str) -> str:
    return _numbered(rf"--\s*(?:begin|end)\s+{what}", text)


def _numbered(mark: str, text: str) -> str:
    """Return "", or where a text holds what could be its own mark, the first number that the text does not hold."""
    if not re.search(mark, text, re.IGNORECASE | re.MULTILINE):
        return ""
    held = set(re.findall(r"\d+", text))
    return next(f" {number}" for number in count(2) if str(number) not in held)


def _gap_mark(files: Iterable[ShownFile]) -> str:
    """Return the number of the marks that stand where lines of these files are not shown."""
    parts = (part.text for file in files if not file.whole for part in (*file.excerpts, *file.outline))
    return _numbered(r"\[\.\.\.\s*lines\s|^\s*\.\.\.\]\s*$", "\n".join(parts)).strip()


def _fenced(text: str, **more: str) -> dict[str, str]:
    """Put a text into a fence that is longer than any in it; its end-of-line carriage returns are not shown."""
    plain = text.replace("\r\n", "\n").rstrip("\n")
    longest = max((len(run) for run in re.findall(r"`{3,}", plain)), default=2)
    return {"text": plain, "fence": "`" * (longest + 1), **more}


def _fenced_files(files: Sequence[ShownFile]) -> tuple[dict[str, str], ...]:
    mark = _gap_mark(files)
    return tuple(_fenced(_shown_text(file, mark), path=file.path) for file in files)


def _shown_text(file: ShownFile, mark: str) -> str:
    """Join the excerpts of a file, each gap marked with the numbers of the lines left out, and with their outline."""
    if file.whole:
        return file.excerpts[0].text
    parts, following, end = list[str](), 1, Excerpt(file.lines + 1, "")
    for excerpt in (*file.excerpts, end):
        if excerpt.first > following:
            within = [one.text for one in file.outline if following <= one.first < excerpt.first]
            end_mark = f"...{mark}]\n"
            more = f"; in outline:\n{''.join(within)}{end_mark}" if within else f" {end_mark}"
            parts.append(f"[...{mark} lines {following} to {excerpt.first - 1} are not shown{more}")
        parts.append(excerpt.text)
        following = excerpt.first + excerpt.text.count("\n")
    return "".join(parts)
