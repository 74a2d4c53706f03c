"""Ask the model which regression tests a right fix must break: they pin the fault, so they are not counted as broken.

After Agentless (arXiv 2407.01489), which has a model leave out such tests of those that pass before any patch. Here it
is asked once, at temperature 0, when they are known.
"""

import re
from collections.abc import Sequence

from agentless_mini.chain.context import Gauge, fit_tree
from agentless_mini.chain.session import Draft, Session, Subject, answer_room, ask, fit_prompt
from agentless_mini.domain import Case, Completion, Decoding, Note, Reason, Rejected, Stage
from agentless_mini.edits import answer_text
from agentless_mini.errors import printable
from agentless_mini.settings.run import ReproduceSettings

_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


async def without_expected(
    cases: tuple[Case, ...], subject: Subject, session: Session, settings: ReproduceSettings
) -> tuple[Case, ...]:
    """Return the regression tests without those that the model says a right fix must break; a note names them.

    All of them where the model rewrites lines and can say nothing. What does not fit the window is not asked about.
    Raises `ContextTooSmall` and what the sampler raises.
    """
    card = await session.sampler.card()
    if not cases or card.decoding is Decoding.LINES:
        return cases
    ids, repository = [case.id for case in cases], subject.snapshot.name

    def draft(budget: int, gauge: Gauge) -> Draft[Sequence[str]]:
        bare = session.prompts.broken(subject.issue, repository, ())
        shown = fit_tree(ids, budget - gauge.of(bare), gauge)
        return Draft(session.prompts.broken(subject.issue, repository, shown), shown, cut=len(shown) < len(ids))

    def read(completion: Completion) -> frozenset[str] | Rejected:
        said = answer_text(completion.text, session.marks)
        blocks = [] if isinstance(said, Rejected) else _BLOCK.findall(said)
        if not blocks:
            return Rejected(Reason.MALFORMED, "no fenced block names tests")
        return frozenset(line.strip() for line in blocks[-1].split("\n")).intersection(ids)

    made = await fit_prompt(
        session.sampler, card.context_window - answer_room(settings.max_tokens, card.context_window), draft
    )
    once = settings.model_copy(update={"samples": 1, "temperature": 0.0})
    _, answers = await ask(made.messages, Stage.REGRESS, session, once, read)
    named = next((one for one in answers.values() if not isinstance(one, Rejected)), frozenset[str]())
    if named:
        told = ", ".join(printable(test) for test in sorted(named))
        session.watch(Note(f"The model expects a right fix to break {told}: not counted as broken (--expect-broken)."))
    return tuple(case for case in cases if case.id not in named)
