"""Have a model write the commands of a test environment where what the tree declares makes none that serves.

The model is shown the files that declare, what the continuous integration does, and the end of the log. Each distinct
answer is built in a box as every environment is, and the test files nearest to the issue run there: kept is the answer
under which most tests pass, for this state of those files, whatever the issue. An environment can lie about its tests:
so its files cannot replace one of the tree or say how tests are run.
"""

import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentless_mini.chain.context import Gauge, Source, fit_files
from agentless_mini.chain.file_roles import runs_here
from agentless_mini.chain.lexical import Mentions
from agentless_mini.chain.related_tests import related_tests
from agentless_mini.chain.session import (
    Boxes,
    Build,
    Draft,
    NoBoxes,
    Opening,
    Session,
    Subject,
    answer_room,
    ask,
    fit_prompt,
    known_by,
    run_files,
)
from agentless_mini.domain import (
    Completion,
    FileKind,
    Finish,
    Issue,
    Note,
    Outcome,
    Phase,
    PhaseSaid,
    Reason,
    Rejected,
    ShownFile,
    Snapshot,
    SourceFile,
    Stage,
)
from agentless_mini.edits import Marks, answer_text
from agentless_mini.edits.sources import decode
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.settings.run import SetupSettings

# So many test files run in each environment, for so many seconds of their own together, and of the clock.
NEAREST, SECONDS, CLOCK = 8, 15.0, 120.0
# Of the files that the issue's words rank first: their tests are the nearest.
LIKELIEST = 5
# The end of the log may take this share of the window, at so many letters for a token.
LOG_SHARE, LETTERS = 8, 3
MOST_SHOWN, MOST_LETTERS = 16, 4000
# Files that say what a project needs and how its tests are started, the most telling first.
_DECLARING = (
    r"pyproject\.toml",
    r"setup\.(py|cfg)|tox\.ini|noxfile\.py",
    r"\.github/workflows/[^/]*test[^/]*\.ya?ml",
    r"\.github/workflows/[^/]*\.ya?ml|\.gitlab-ci\.yml|\.travis\.yml|\.circleci/config\.yml|azure-pipelines\.yml",
    r"(requirements/|tests?/)?[^/]*requirements[^/]*\.(txt|in)|requirements/[^/]*\.(txt|in)",
    r"Makefile|[^/]*Dockerfile|Pipfile|environment\.ya?ml",
    r"(\.github/|docs/)?CONTRIBUTING[^/]*",
)
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"""\A((?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\#]|\s(?!#)|(?<=\S)#)*)\s#.*""")
_COMPOUND = frozenset({"if", "for", "while", "until", "case", "function", "{", "}", "(", ")", "then", "do"})


@dataclass(frozen=True, order=True, slots=True)
class Collected:
    """What the nearest test files came to in an environment: the more passed, then the more were read, the better."""

    passed: int = 0
    read: int = 0


async def set_up(
    subject: Subject, session: Session, opening: Opening, build: Build, settings: SetupSettings
) -> Boxes | NoBoxes:
    """Open the boxes by what the tree declares or, where these serve too little, by commands of the model.

    Commands that served before are built at once, and nothing is asked. Raises what the sampler and the sandbox raise.
    """
    shown = declaring(subject.snapshot)
    state = (opening.harness.runner.value, settings.seed, [(file.path, file.data) for file in shown])
    of = hashlib.sha256(repr(state).encode()).hexdigest()
    trying = _Trying(subject, session, opening, build, settings, shown, of)
    command = await opening.kept(f"setup {of}", trying.chosen)
    if not command:
        return trying.opened[""]
    boxes = trying.opened.get(command) or await build(session.watch, command)
    if isinstance(boxes, NoBoxes):  # they served before, and what they need is gone
        return await opening.open(session.watch)
    keep = f"--setup {shlex.quote(command)}"
    session.watch(Note(f"The tests run in an environment that the model set up; to keep it: {keep}"))
    return boxes


@dataclass(frozen=True, slots=True)
class _Trying:
    """The environments of one issue by commands, "" for what is declared; `of` is the digest of files `shown`."""

    subject: Subject
    session: Session
    opening: Opening
    build: Build
    settings: SetupSettings
    shown: Sequence[SourceFile]
    of: str
    opened: dict[str, Boxes | NoBoxes] = field(default_factory=dict)

    async def chosen(self) -> str:
        """Return the commands that serve best, "" where what the tree declares does, or nothing does."""
        watch = self.session.watch
        boxes = self.opened[""] = await self.opening.open(watch)
        nearest, rules, log = await self._nearest(), Collected(), ""
        if isinstance(boxes, NoBoxes):
            log = boxes.log
        else:
            rules, log = await self._tried(boxes, nearest)
            log = log if 2 * rules.read < len(nearest) else ""
        if not log:
            return ""
        what = "could not be built" if isinstance(boxes, NoBoxes) else "cannot read most tests"
        watch(Note(f"The environment that the tree declares {what}: the model is asked how to set it up."))

        async def same() -> str:
            return log

        # A log differs from one build to the next, and another prompt would be paid for again.
        votes = await self._asked(await self.opening.kept(f"log {self.of}", same))
        best, standing = "", rules
        for command in sorted(votes, key=lambda command: -votes[command]):
            if (found := await self._standing(command, nearest)) is not None and (
                found > standing or (not best and isinstance(boxes, NoBoxes))
            ):
                best, standing = command, found
        told = f"{standing.read} of the {len(nearest)} nearest test files can be read, and {standing.passed} tests pass"
        why = f"With the best of {len(votes)} setups of the model, {told}."
        watch(Note(why if best else f"None of {len(votes)} setups of the model serves more tests."))
        return best

    async def _nearest(self) -> tuple[str, ...]:
        issue, snapshot = self.subject.issue, self.subject.snapshot
        likely, runner = self.subject.survey.ranked[:LIKELIEST], self.opening.harness.runner
        of = (*known_by(issue, snapshot), "setup", runner.value, *likely)
        found = await self.session.derive("related tests", of, lambda: related_tests(snapshot, likely, issue, runner))
        return tuple(path for path in found if runs_here(path, runner))[:NEAREST]

    async def _standing(self, command: str, nearest: Sequence[str]) -> Collected | None:
        """Build an answer and run the nearest tests there; None where it cannot be built, which is recorded."""
        watch = self.session.watch

        async def failure() -> str:
            boxes = self.opened[command] = await self.build(watch, command)
            return (boxes.log and boxes.reason) if isinstance(boxes, NoBoxes) else ""

        if failed := await self.opening.kept(f"failed {command} {self.of}", failure):
            watch(Note(f"A setup of the model failed. {failed}"))
        boxes = self.opened.get(command)
        if not isinstance(boxes, Boxes):
            return None
        try:
            return (await self._tried(boxes, nearest))[0]
        except EnvironmentFailed as error:  # whoever builds can break what is built
            watch(Note(f"A setup of the model was left out: {error}"))
            return None

    async def _tried(self, boxes: Boxes, nearest: Sequence[str]) -> tuple[Collected, str]:
        """Return what the nearest tests came to, and why files cannot be read."""
        if not nearest:
            return Collected(), ""
        self.session.watch(PhaseSaid(Phase.ENVIRONMENT, "running the nearest tests"))
        results = (await run_files(boxes, nearest, SECONDS, CLOCK)).results
        broken = {one.id: one.fault for one in results if one.id in nearest and one.outcome is Outcome.ERROR}
        passed = sum(result.outcome is Outcome.PASS for result in results)
        lines = [f"{path}: {fault.kind}: {fault.message}" if fault else path for path, fault in broken.items()]
        silent = "" if results else "The test runner ended before it had read any file."
        return Collected(passed, len(nearest) - len(broken) if results else 0), silent or "\n".join(lines)

    async def _asked(self, log: str) -> Counter[str]:
        """Return how many answers say which commands."""
        session, snapshot = self.session, self.subject.snapshot
        card = await session.sampler.card()
        log = log[-max(1, card.context_window // LOG_SHARE * LETTERS) :]
        sources = [Source(file.path, decode(file).text) for file in self.shown]
        nothing, runner = Mentions((), (), frozenset()), self.opening.harness.runner

        def draft(budget: int, gauge: Gauge) -> Draft[tuple[ShownFile, ...]]:
            room = budget - gauge.of(session.prompts.setup(snapshot.name, (), runner, log))
            files = fit_files(sources, Issue(log), nothing, room, gauge, {}).files
            messages = session.prompts.setup(snapshot.name, files, runner, log)
            return Draft(messages, files, sum(file.whole for file in files) < len(sources))

        room = card.context_window - answer_room(self.settings.max_tokens, card.context_window)
        made = await fit_prompt(session.sampler, room, draft)
        _, answers = await ask(
            made.messages, Stage.SETUP, session, self.settings, lambda said: read_commands(said, session.marks)
        )
        return Counter(answer for answer in answers.values() if isinstance(answer, str))


def declaring(snapshot: Snapshot) -> tuple[SourceFile, ...]:
    """Return the files that say what the project needs and how it is tested, the most telling first."""
    found = [
        (place, file.path, file)
        for file in snapshot.files
        if file.kind is FileKind.TEXT
        for place, pattern in enumerate(_DECLARING)
        if re.fullmatch(pattern, file.path)
    ]
    first = {path: file for _, path, file in sorted(found, key=lambda one: one[:2], reverse=True)}
    return tuple(reversed(first.values()))[:MOST_SHOWN]


def read_commands(completion: Completion, marks: Marks) -> str | Rejected:
    """Return the commands of an answer's last fenced block as one line for a shell, or why it has none.

    They are plain: each is on one line, and none is a part of a loop, a condition or a document.
    """
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the commands were cut off by the token limit")
    said = answer_text(completion.text, marks)
    if isinstance(said, Rejected):
        return said
    if not (blocks := _BLOCK.findall(said)):
        return Rejected(Reason.MALFORMED, "no fenced block holds commands")
    lines = [_COMMENT.sub(r"\1", f" {line}").strip() for line in blocks[-1].replace("\\\n", " ").split("\n")]
    lines = [line.removeprefix("$ ").rstrip(";") for line in lines if line]
    command = "; ".join(lines)
    if not lines or len(command) > MOST_LETTERS or not command.isprintable():
        return Rejected(Reason.MALFORMED, f"there are no commands of at most {MOST_LETTERS} letters")
    for line in lines:
        try:
            words = shlex.split(line)
        except ValueError as error:
            return Rejected(Reason.SYNTAX, f"{error} in {printable(line[:80])}")
        if not words or words[0] in _COMPOUND or "<<" in line or line.endswith(("|", "&", "(", "{")):
            return Rejected(Reason.MALFORMED, f"not a plain command: {printable(line[:80])}")
    return command
