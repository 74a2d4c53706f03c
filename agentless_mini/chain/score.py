"""Patches -> what a reward model thinks of them.

The model is shown the issue as what a user asks and the patch, as a unified diff, as what is answered. It sees neither
the repository nor the tests. Which model is asked, and how, is none of this module's business.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from agentless_mini.chain.context import without_middle
from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import Issue, Patch, RewardModel, ScoreRequest
from agentless_mini.ports import Scorer

Scoring = Callable[[Issue, Sequence[Patch]], Awaitable[Mapping[str, float]]]
"""Scores patches for an issue: the higher, the better, by normal form."""

LONGEST = 16_000  # characters of an issue, and of a patch: some 4,000 tokens each


def scoring_of(scorer: Scorer, model: RewardModel, prompts: Prompts) -> Scoring:
    """Return the function by which a reward model scores patches, asked in the words of `prompts`.

    Of patches with one normal form the first is scored for all of them. The function raises as `Scorer.scores`.
    """

    async def scores(issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        answers: dict[str, str] = {}
        for patch in patches:
            answers.setdefault(patch.normal, answer_text(patch))
        shown = Issue(without_middle(issue.text.strip(), LONGEST), issue.source)
        request = ScoreRequest(model, prompts.score(shown), tuple(answers.values()))
        return dict(zip(answers, await scorer.scores(request), strict=True))

    return scores


def answer_text(patch: Patch) -> str:
    """Return what is scored of a patch: its unified diff; what is not UTF-8 in it is replaced."""
    return without_middle(patch.diff.decode("utf-8", "replace"), LONGEST)
