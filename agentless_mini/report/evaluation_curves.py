"""The curves of evaluations for a terminal, side by side: over samples and over tests. It reads documents alone.

Of a run in rounds a point is the end of a round; a run without rounds beside it has one at the same numbers.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentless_mini.report.cells import percent, row, table

if TYPE_CHECKING:
    from rich.console import RenderableType

Document = Mapping[str, Any]

# Published (arXiv 2502.18449), of a trained 70B model: all of SWE-bench Verified, 500 samples, 30 tests.
PAPER = "SWE-RL 70B (paper)"
PAPER_SAMPLES = {20: 0.336, 40: 0.356, 80: 0.370, 160: 0.400, 320: 0.406, 500: 0.410}
PAPER_TESTS = {1: 0.388, 5: 0.398, 10: 0.406, 20: 0.410, 30: 0.410}
PAPER_INSTANCES = 500
ORIENTATION = (
    "The paper's numbers are those of another model, for orientation; agents on small open models have passed them."
)
IN_ROUNDS = (
    "Of a run in rounds n grows by whole rounds: the choice among the samples of the first ones, as a run that ended "
    "there makes it. Its later samples were shown earlier ones, so plain sampling, reranked alike, and pass@k, an "
    "estimate for samples drawn alike, are of round 0 alone: name a run without rounds beside it for larger n."
)
STOPPED = (
    "Where sampling stopped early, larger n stand for what was drawn, and pass@k is no fair estimate: when to stop hung"
    " on the samples."
)


def in_rounds(document: Document) -> bool:
    """Tell whether the evaluation sampled in rounds."""
    return "evolution" in document["results"]


CURVES = (
    ("", "best_at_n", "rate"),
    (": vote", "vote_at_n", "rate"),
    (": oracle", "pass_at_k", "value"),
)
IN_ROUNDS_CURVES = (*CURVES[:2], (": oracle", "oracle_at_n", "rate"))
FIRST_ROUND_CURVES = (("", "plain_at_n", "rate"), (": pass@k", "pass_at_k", "value"))


def over_samples(documents: Sequence[Document]) -> "RenderableType":
    """Return the curves over samples: reranked, by vote alone, and the oracle's."""
    columns = [
        column
        for document in documents
        for column in _columns(document, IN_ROUNDS_CURVES if in_rounds(document) else CURVES)
    ]
    return _curves("samples", columns, documents, PAPER_SAMPLES)


def over_first_round(documents: Sequence[Document]) -> "RenderableType":
    """Return the curves over the samples of round 0, of the evaluations in rounds: reranked, and the oracle's."""
    columns = [column for one in documents if in_rounds(one) for column in _columns(one, FIRST_ROUND_CURVES)]
    return _curves("samples", columns, (), {})


def _columns(document: Document, curves: Sequence[tuple[str, str, str]]) -> "list[tuple[str, Points]]":
    """Return names and points; a curve is the end of its name, its part of the results, and what it has there."""
    name = document["run"]["name"]
    return [
        (f"{name}{kind}", _points(document, part, "n" if value == "rate" else "k", value))
        for kind, part, value in curves
    ]


def over_tests(documents: Sequence[Document]) -> "RenderableType":
    """Return the curves over test samples, of all samples."""
    columns = [(document["run"]["name"], _points(document, "best_at_tests", "tests", "rate")) for document in documents]
    return _curves("tests", columns, documents, PAPER_TESTS)


Points = Mapping[int, float | None]


def _points(document: Document, part: str, at: str, value: str) -> Points:
    return {point[at]: point[value] for point in document["results"][part]}


def _curves(
    axis: str, columns: list[tuple[str, Points]], documents: Sequence[Document], paper: Points
) -> "RenderableType":
    places = sorted({at for _, points in columns for at in points})
    if any(is_papers(document) for document in documents):
        columns = [*columns, (PAPER, paper)]
    shown = table(axis, *(name for name, _ in columns))
    for at in places:
        row(shown, str(at), *(percent(points.get(at)) for _, points in columns))
    return shown


def is_papers(document: Document) -> bool:
    """Tell whether it is the benchmark that the paper reports, whole: any part of it compares with nothing."""
    return "verified" in document["run"]["dataset"].lower() and document["results"]["instances"] == PAPER_INSTANCES
