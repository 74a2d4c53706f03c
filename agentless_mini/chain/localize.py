"""Find the files to edit, on file level only (SWE-RL, arXiv 2502.18449, "Agentless Mini").

The reference draws each sample over a tree in another order; here all samples share one prompt with one order, so that
a server computes it once, and sampling at a temperature gives the variety. The paths that the issue names join every
list, and a lexical ranking decides what is shown of a tree that does not fit.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from agentless_mini.chain.answers import named_in, read_paths
from agentless_mini.chain.context import Gauge, fit_tree
from agentless_mini.chain.lexical import PathIndex, Survey, is_sayable
from agentless_mini.chain.prompts import Tree
from agentless_mini.chain.session import Draft, Session, Subject, answer_room, fit_prompt
from agentless_mini.domain import (
    Decoding,
    FileKind,
    Localization,
    Message,
    Note,
    Rejected,
    SampleDone,
    SampleRequest,
    SamplingParams,
    Snapshot,
    Stage,
    StageStarted,
)
from agentless_mini.edits import answer_text
from agentless_mini.errors import ContextTooSmall, UsageError, printable
from agentless_mini.settings.run import LocalizeSettings


async def localize(subject: Subject, session: Session, settings: LocalizeSettings) -> Localization:
    """Return the distinct lists of files to edit, most votes first.

    A model that rewrites lines is not asked: one list, the first of the lexical ranking, is all that it can use.
    Raises `ContextTooSmall` and what the sampler raises.
    """
    card = await session.sampler.card()
    if settings.samples == 0 or card.decoding is Decoding.LINES:
        return _merge([], subject.survey, most=1, shown=0)
    answer = answer_room(settings.max_tokens, card.context_window)
    draft = await _prompt(subject, session, settings, card.context_window - answer)
    if draft.cut:
        total = len(subject.survey.ranked)
        session.watch(
            Note(f"The tree was cut to the likeliest {len(draft.shown)} of {total} files to fit the context.")
        )
    request = SampleRequest(
        card.name,
        draft.messages,
        SamplingParams(answer, settings.temperature, seed=settings.seed),
        tuple(range(settings.samples)),
        Stage.LOCALIZE,
        session.instance,
    )
    answers = await _ask(request, subject, session, settings.most_files)
    return _merge(answers, subject.survey, settings.most_files, len(draft.shown))


def given(paths: Sequence[str], snapshot: Snapshot) -> Localization:
    """Return the localization that the user gave instead, `src\\app.py` and `./src/app.py` read as `src/app.py`.

    Raises `UsageError` for a path that is no text file, or whose name no prompt can carry.
    """
    texts = frozenset(file.path for file in snapshot.files if file.kind is FileKind.TEXT)
    files = tuple(dict.fromkeys(_in_tree(path, texts) for path in paths))
    return Localization((files,), (0,), files, 0, len(texts))


def _in_tree(said: str, texts: frozenset[str]) -> str:
    meant = PurePosixPath(said.replace("\\", "/")).as_posix()
    if is_sayable(meant) and meant in texts:
        return meant
    if said in texts:
        raise UsageError(f"The name {printable(said)!r} cannot stand in a prompt: rename the file for the repair.")
    message = (
        f"No text file of the repository is called {printable(said)!r}: give --files paths as `git ls-files` does."
    )
    raise UsageError(message)


async def _prompt(subject: Subject, session: Session, settings: LocalizeSettings, room: int) -> Draft[tuple[str, ...]]:
    ranked = subject.survey.ranked

    def messages(paths: tuple[str, ...]) -> tuple[Message, ...]:
        tree = Tree(subject.snapshot.name, paths, len(ranked))
        return session.prompts.localize(subject.issue, tree, settings.most_files)

    def draft(budget: int, gauge: Gauge) -> Draft[tuple[str, ...]]:
        fixed = sum(gauge.tokens(message.content) for message in messages(()))
        paths = fit_tree(ranked, budget - fixed, gauge)
        if not paths:
            text = (
                f"The issue leaves no room for a tree in {budget} tokens: name the files with --files, or shorten it."
            )
            raise ContextTooSmall(text)
        return Draft(messages(paths), paths, cut=len(paths) < len(ranked))

    return await fit_prompt(session.sampler, room, draft)


async def _ask(
    request: SampleRequest, subject: Subject, session: Session, most: int
) -> list[tuple[str, ...] | Rejected]:
    """Draw the samples; return what each says, in the order of their indices."""
    session.watch(StageStarted(Stage.LOCALIZE, len(request.indices)))
    index = PathIndex(subject.survey.ranked)
    files, ignored = subject.snapshot.files, subject.snapshot.ignored
    submodules = {f"{file.path}/" for file in files if file.kind is FileKind.SUBMODULE}
    trees = submodules.union(name for name in ignored if name.endswith("/"))
    answers: dict[int, tuple[str, ...] | Rejected] = {}
    skipped: dict[int, tuple[str, ...]] = {}
    async for completion in session.sampler.sample(request):
        answer = read_paths(completion, index, most, session.marks)
        answers[completion.index] = answer
        said = answer_text(completion.text, session.marks)
        if isinstance(said, str) and (outside := named_in(said, trees)):
            skipped[completion.index] = outside
        session.watch(SampleDone(Stage.LOCALIZE, completion, answer if isinstance(answer, Rejected) else None))
    if skipped:
        first = skipped[min(skipped)][0]
        session.watch(
            Note(
                f"{len(skipped)} of {len(answers)} answers name files that are not looked into (of a submodule, or "
                f"ignored by git): {printable(first)}."
            )
        )
    return [answers[number] for number in sorted(answers)]


def _merge(answers: Sequence[tuple[str, ...] | Rejected], found: Survey, most: int, shown: int) -> Localization:
    """Join the named paths to each answer and count the distinct lists; lists that hold the same files are one list.

    Without a single usable answer the lexical ranking stands in, with no votes.
    """
    lists: dict[frozenset[str], tuple[str, ...]] = {}
    votes: Counter[frozenset[str]] = Counter()
    for answer in answers:
        if not isinstance(answer, Rejected):
            files = tuple(dict.fromkeys([*answer, *found.named.paths]))[: max(most, len(answer))]
            lists.setdefault(frozenset(files), files)
            votes[frozenset(files)] += 1
    ordered = sorted(lists, key=lambda files: -votes[files])  # sorted() keeps the earliest of equals first
    if not ordered:
        fallback = found.ranked[:most]
        return Localization((fallback,), (0,), found.named.paths, shown, len(found.ranked))
    return Localization(
        tuple(lists[files] for files in ordered),
        tuple(votes[files] for files in ordered),
        found.named.paths,
        shown,
        len(found.ranked),
    )
