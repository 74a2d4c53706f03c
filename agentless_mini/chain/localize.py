"""Find the files to edit, on file level only (SWE-RL, arXiv 2502.18449, "Agentless Mini").

Unlike in the reference all samples share one prompt with one order of the tree, so that a server computes it once. A
ranking without a model decides what is shown of a tree that does not fit; of the files that the issue names, those that
it puts first join every list.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from agentless_mini.chain.context import Gauge, fit_tree
from agentless_mini.chain.file_lists import read_paths
from agentless_mini.chain.file_roles import is_sayable
from agentless_mini.chain.lexical import PathIndex, Survey
from agentless_mini.chain.session import Draft, Session, Subject, answer_room, ask, fit_prompt
from agentless_mini.domain import Completion, Decoding, FileKind, Localization, Message, Note, Rejected, Snapshot, Stage
from agentless_mini.edits import answer_text
from agentless_mini.errors import ContextTooSmall, UsageError, printable
from agentless_mini.settings.run import LocalizeSettings

# Of the files that issues name few are changed by the fix, of those so high in the ranking most: see experiments.
JOINING = 2
_PATH = re.compile(r"(?<![\w.\-])[\w.\-]++(?:/[\w.\-]++){1,30}+")


async def localize(
    subject: Subject, session: Session, settings: LocalizeSettings, files: Sequence[str] = ()
) -> Localization:
    """Return the distinct lists of files to edit, most votes first; where the user gave `files`, these.

    A model that rewrites lines is not asked: one list, the first of the lexical ranking, is all that it can use.
    Raises `ContextTooSmall` and what the sampler raises.
    """
    if files:
        return given(files, subject.snapshot)
    card, ranked = await session.sampler.card(), subject.survey.ranked
    if settings.samples == 0 or card.decoding is Decoding.LINES:
        return _merge([], subject.survey, most=1, shown=0)

    def messages(paths: tuple[str, ...]) -> tuple[Message, ...]:
        name = subject.snapshot.name
        return session.prompts.localize(subject.issue, name, paths, len(ranked), settings.most_files)

    def draft(budget: int, gauge: Gauge) -> Draft[tuple[str, ...]]:
        paths = fit_tree(ranked, budget - gauge.of(messages(())), gauge)
        if not paths:
            raise ContextTooSmall(
                f"The issue leaves no room for a tree in {budget} tokens: name the files with --files, or shorten it."
            )
        return Draft(messages(paths), paths, cut=len(paths) < len(ranked))

    room = card.context_window - answer_room(settings.max_tokens, card.context_window)
    made = await fit_prompt(session.sampler, room, draft)
    if made.cut:
        told = f"The tree was cut to the likeliest {len(made.shown)} of {len(ranked)} files to fit the context."
        session.watch(Note(told))
    index, skipped = PathIndex(ranked), dict[int, str]()
    unseen = {name for name in subject.snapshot.ignored if name.endswith("/")}
    unseen |= {f"{file.path}/" for file in subject.snapshot.files if file.kind is FileKind.SUBMODULE}

    def read(completion: Completion) -> tuple[str, ...] | Rejected:
        said = answer_text(completion.text, session.marks)
        if isinstance(said, str) and (outside := named_in(said, unseen)):
            skipped[completion.index] = outside[0]
        return read_paths(completion, index, settings.most_files, session.marks)

    _, answers = await ask(made.messages, Stage.LOCALIZE, session, settings, read)
    if skipped:
        session.watch(
            Note(
                f"{len(skipped)} of {len(answers)} answers name files that are not looked into (of a submodule, or "
                f"ignored by git): {printable(skipped[min(skipped)])}."
            )
        )
    return _merge(answers.values(), subject.survey, settings.most_files, len(made.shown))


def given(paths: Sequence[str], snapshot: Snapshot) -> Localization:
    """Return the localization that the user gave instead, `src\\app.py` and `./src/app.py` read as `src/app.py`.

    Raises `UsageError` for a path that is no text file, or whose name no prompt can carry.
    """
    texts = frozenset(file.path for file in snapshot.files if file.kind is FileKind.TEXT)

    def in_tree(said: str) -> str:
        meant = PurePosixPath(said.replace("\\", "/")).as_posix()
        if is_sayable(meant) and meant in texts:
            return meant
        name = printable(said)
        if said in texts:
            raise UsageError(f"The name {name!r} cannot stand in a prompt: rename the file for the repair.")
        raise UsageError(
            f"No text file of the repository is called {name!r}: give --files paths as `git ls-files` does."
        )

    files = tuple(dict.fromkeys(in_tree(path) for path in paths))
    return Localization((files,), (0,), files, 0, len(texts))


def named_in(text: str, trees: Collection[str]) -> tuple[str, ...]:
    """Return the distinct paths in a text that lie in one of the folders, which end in "/", in order."""
    found = (path.removeprefix("./").rstrip(".") for path in _PATH.findall(text))
    return tuple(dict.fromkeys(path for path in found if any(path[: m.end()] in trees for m in re.finditer("/", path))))


def _merge(answers: Iterable[tuple[str, ...] | Rejected], found: Survey, most: int, shown: int) -> Localization:
    """Join the likeliest named paths to each answer and count the lists; those that hold the same files are one.

    Without a single usable answer the lexical ranking stands in, with no votes.
    """
    joining = [path for path in found.ranked[:JOINING] if path in found.named.paths]
    lists: dict[frozenset[str], tuple[str, ...]] = {}
    votes: Counter[frozenset[str]] = Counter()
    for answer in answers:
        if not isinstance(answer, Rejected):
            files = tuple(dict.fromkeys([*answer, *joining]))[: max(most, len(answer))]
            lists.setdefault(frozenset(files), files)
            votes[frozenset(files)] += 1
    ordered = sorted(lists, key=lambda files: -votes[files])  # sorted() keeps the earliest of equals first
    chosen = {lists[files]: votes[files] for files in ordered} or {found.ranked[:most]: 0}
    return Localization(tuple(chosen), tuple(chosen.values()), found.named.paths, shown, len(found.ranked))
