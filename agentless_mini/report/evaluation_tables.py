"""The report of evaluations for a terminal: their documents side by side, one column for each; - is unknown."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from agentless_mini.errors import counted
from agentless_mini.report.console import Labelled, Table, heading, percent, plain_text, row, table
from agentless_mini.report.rounds import SCALES, rounds_table

Document = Mapping[str, Any]
Points = Mapping[int, float | None]
Row = tuple[str, Callable[[Document], str]]
Kind = tuple[str, str, str, str]
"""The end of a curve's name, its part of the results, and the keys of its number and its value there."""

FAILURES_SHOWN = 10
GROUPS = {"repo": "repository", "language": "language", "difficulty": "difficulty"}
# Published (arXiv 2502.18449), of a trained 70B model: all of SWE-bench Verified, 500 samples, 30 tests.
PAPER = "SWE-RL 70B (paper)"
PAPER_SAMPLES = {20: 0.336, 40: 0.356, 80: 0.370, 160: 0.400, 320: 0.406, 500: 0.410}
PAPER_TESTS = {1: 0.388, 5: 0.398, 10: 0.406, 20: 0.410, 30: 0.410}
PAPER_INSTANCES = 500
ORIENTATION = (
    "The paper's numbers are those of another model, for orientation; agents on small open models have passed them."
)
IN_ROUNDS = (
    "For a run in rounds, n grows by whole rounds: each row is the choice of a run that stops there. Later rounds saw "
    "earlier patches, so plain sampling, reranked alike, and pass@k are known for round 0 only: for larger n, name a "
    "run without rounds beside it."
)
STOPPED = (
    "Where sampling stopped early, larger n have the samples drawn until then, and pass@k is biased: the samples "
    "decided when to stop."
)
CURVES = (("", "best_at_n", "n", "rate"), (": vote", "vote_at_n", "n", "rate"), (": oracle", "pass_at_k", "k", "value"))
IN_ROUNDS_CURVES = (*CURVES[:2], (": oracle", "oracle_at_n", "n", "rate"))
FIRST_ROUND_CURVES = (("", "plain_at_n", "n", "rate"), (": pass@k", "pass_at_k", "k", "value"))
OVER_TESTS = (("", "best_at_tests", "tests", "rate"),)


def evaluation_tables(documents: Sequence[Document]) -> RenderableType:
    """Return everything that a terminal shows of evaluations, in the order given. Raises ValueError for none."""
    if not documents:
        raise ValueError("no evaluation to show")
    return Group(*_parts(documents))


def _parts(documents: Sequence[Document]) -> Iterator[RenderableType]:
    yield _overview(documents)
    if not all(map(_files_alone, documents)):
        for document in documents:
            if systems := document["results"].get("systems"):
                yield from _titled(f"systems of {document['run']['name']}", _systems(systems))
        for name, title in GROUPS.items():
            if name != "language" or any(len(one["results"]["by_language"]) > 1 for one in documents):
                yield from _titled(f"resolved by {title}", _groups(documents, name))
        yield from _curves(documents)
        yield from _titled("resolved by confidence", _calibration(documents))
        yield from _titled("rejected samples", _rejected(documents))
    for document in documents:
        yield from _failures(document)
        yield from _without_regressions(document)
    yield from _titled("cost", _cost(documents))


def _curves(documents: Sequence[Document]) -> Iterator[RenderableType]:
    # Any part of the benchmark that the paper reports compares with nothing.
    is_papers = any(
        "verified" in one["run"]["dataset"].lower() and one["results"]["instances"] == PAPER_INSTANCES
        for one in documents
    )
    rounds = [one for one in documents if _in_rounds(one)]
    samples = [(one, IN_ROUNDS_CURVES if _in_rounds(one) else CURVES) for one in documents]
    shown = _points_table("samples", samples, PAPER_SAMPLES if is_papers else None)
    yield from _titled("resolved with the first n samples", shown)
    if rounds:
        first = _points_table("samples", [(one, FIRST_ROUND_CURVES) for one in rounds])
        yield from _titled("resolved with the first n samples of round 0: plain sampling", first)
        yield Labelled((IN_ROUNDS,), 0)
    if any("stopping" in document["results"] for document in documents):
        yield Labelled((STOPPED,), 0)
    for document in rounds:
        evolution, name = document["results"]["evolution"], document["run"]["name"]
        means = f"means; instances: {evolution['instances']}"
        title = f"rounds of {name} ({means}; score: {SCALES[evolution['score']]})"
        yield from _titled(title, rounds_table(evolution["rounds"]))
    tests = _points_table("tests", [(one, OVER_TESTS) for one in documents], PAPER_TESTS if is_papers else None)
    yield from _titled("resolved with the first test samples", tests)
    if is_papers:
        yield Labelled((ORIENTATION,), 0)


def _files_alone(document: Document) -> bool:
    """Tell whether the evaluation ended when the files were found: there is nothing to be resolved."""
    return bool(document["run"]["settings"].get("until") == "localize")


def _titled(title: str, shown: RenderableType | None) -> Iterator[RenderableType]:
    if shown is not None:
        yield heading(title)
        yield shown


def _in_rounds(document: Document) -> bool:
    return "evolution" in document["results"]


def _points_table(
    axis: str, curves: Sequence[tuple[Document, Sequence[Kind]]], paper: Points | None = None
) -> RenderableType:
    """Return curves of documents as columns; what the paper has is shown where one of them has a point."""
    columns: list[tuple[str, Points]] = [
        (f"{document['run']['name']}{name}", {point[at]: point[value] for point in document["results"][part]})
        for document, kinds in curves
        for name, part, at, value in kinds
    ]
    numbers = sorted({at for _, points in columns for at in points})
    columns += [(PAPER, paper)] if paper else []
    shown = table(axis, *(name for name, _ in columns))
    for at in numbers:
        row(shown, str(at), *(percent(points.get(at)) for _, points in columns))
    return shown


def _rows(documents: Sequence[Document], rows: Iterable[Row]) -> RenderableType:
    shown = table("", *(document["run"]["name"] for document in documents))
    for name, value in rows:
        row(shown, name, *(value(document) for document in documents))
    return shown


# --- tables ----------------------------------------------------------------------------------------------------------


def _counted(group: Mapping[str, Any]) -> str:
    return f"{percent(group['rate'])} ({group['resolved']}/{group['instances']})"


def _overview(documents: Sequence[Document]) -> RenderableType:
    rows = [*OVERVIEW, *([("samples saved", _saved)] if any("stopping" in one["results"] for one in documents) else [])]
    if all(map(_files_alone, documents)):
        rows = [one for one in rows if one[0].startswith(("model", "dataset", "instances", "attempted", "files"))]
    return _rows(documents, rows)


def _resolved(document: Document) -> str:
    found = document["results"]["resolved"]
    between = "" if found["low"] is None else f" [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    return f"{percent(found['rate'])}{between} ({found['count']}/{found['of']})"


def _regressions(document: Document) -> str:
    """Return how many of the repositories' own tests the patches met, and for how many instances there was none."""
    told = [found for one in document["results"]["per_instance"] if (found := one.get("regressions"))]
    found, run, lost = (sum(one[name] for one in told) for name in ("found", "run", "lost"))
    without = sum(not one["run"] for one in told)
    warning = f"; WARNING: none for {without} of {counted(len(told), 'instance')}" if without else ""
    counts = f"{found} found, {run} run, {lost} lost" if run else "none run"
    return f"{counts}{warning}" if told else "-"


def _oracle(document: Document) -> str:
    part, value = ("oracle_at_n", "rate") if _in_rounds(document) else ("pass_at_k", "value")
    points = document["results"][part]
    return percent(points[-1][value] if points else None)


OVERVIEW: tuple[Row, ...] = (
    ("model", lambda one: one["run"]["model"]),
    ("dataset", lambda one: one["run"]["dataset"]),
    ("instances", lambda one: str(one["results"]["instances"])),
    ("attempted", lambda one: str(one["results"]["attempted"])),
    ("graded", lambda one: str(one["results"]["graded"])),
    ("graded by swebench", lambda one: one["run"]["versions"].get("swebench", "-")),
    ("resolved", _resolved),
    ("oracle of all samples", _oracle),
    ("files: recall, first list", lambda one: percent(one["results"]["localization"]["recall"])),
    ("files: all found, first list", lambda one: percent(one["results"]["localization"]["all_found"])),
    ("files: all found, any list", lambda one: percent(one["results"]["localization"]["all_found_any"])),
    ("valid samples", lambda one: percent(one["results"]["format"]["rate"])),
    ("regression tests", _regressions),
)


def _saved(document: Document) -> str:
    found = document["results"].get("stopping")
    if found is None:
        return "-"
    ended = f"{found['stopped']} of {counted(found['instances'], 'instance')} ended early"
    return f"{percent(found['share'])} ({found['saved']}/{found['wanted']}; {ended}, bound {found['bound']:g})"


def _groups(documents: Sequence[Document], name: str) -> RenderableType:
    parts = [{group[name]: _counted(group) for group in one["results"][f"by_{name}"]} for one in documents]
    return _side_by_side(documents, name, parts, "-", empty="not said")


def _side_by_side(
    documents: Sequence[Document], title: str, columns: Sequence[Mapping[str, str]], absent: str, empty: str = ""
) -> Table:
    """Return a column for each document and a row for each key of any of them, in the order of first appearance."""
    shown = table(title, *(document["run"]["name"] for document in documents))
    for key in dict.fromkeys(key for column in columns for key in column):
        row(shown, key or empty, *(column.get(key, absent) for column in columns))
    return shown


def _systems(found: Mapping[str, Any]) -> RenderableType:
    shown = table("", "resolved")
    for one in found["each"]:
        row(shown, one["name"], f"{percent(one['rate'])} ({one['resolved']})")
    for name in ("mean", "oracle", "chosen"):
        row(shown, name, percent(found[name]))
    if gap := found["gap"]:
        row(shown, "of the gap won", f"{percent(gap['share'])} ({percent(gap['low'])} to {percent(gap['high'])})")
    return shown


def _calibration(documents: Sequence[Document]) -> RenderableType:
    columns = [
        {f"{one['low']:.0%} to {one['high']:.0%}": _counted(one) for one in document["results"]["calibration"]}
        for document in documents
    ]
    return _side_by_side(documents, "confidence", columns, "-")


def _rejected(documents: Sequence[Document]) -> RenderableType | None:
    parts = [document["results"]["format"]["rejected"] for document in documents]
    columns = [{one["reason"]: str(one["count"]) for one in part} for part in parts]
    return _side_by_side(documents, "reason", columns, "0") if any(columns) else None


def _failures(document: Document) -> Iterator[RenderableType]:
    """Yield the instances without an answer, and why; those of the infrastructure count nowhere."""
    failed = [one for one in document["results"]["per_instance"] if one["failure"]]
    if not failed:
        return
    counts = (f"{one['count']} {one['state']} ({one['stage']})" for one in document["results"]["failures"])
    yield heading(f"failures of {document['run']['name']}: {', '.join(counts)}")
    rows = [(one["id"], one["state"], one["stage"], one["failure"]) for one in failed]
    yield from _first_rows(table("instance", "state", "stage", "why"), rows)


def _first_rows(shown: Table, rows: Sequence[tuple[str, ...]]) -> Iterator[RenderableType]:
    for cells in rows[:FAILURES_SHOWN]:
        row(shown, *cells)
    yield shown
    if len(rows) > FAILURES_SHOWN:
        yield plain_text(f"... {len(rows) - FAILURES_SHOWN} more (--json has all)")


def _without_regressions(document: Document) -> Iterator[RenderableType]:
    """Yield the instances whose patches met no test of the repository, though some were wanted, and why."""
    told = [(one["id"], one["regressions"]) for one in document["results"]["per_instance"] if one.get("regressions")]
    if rows := [(name, str(found["found"]), found["why"]) for name, found in told if not found["run"]]:
        yield heading(f"without regression tests in {document['run']['name']}")
        yield from _first_rows(table("instance", "found", "why"), rows)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _cost(documents: Sequence[Document]) -> RenderableType:
    def value(name: str, write: Callable[[float], str]) -> Callable[[Document], str]:
        def cell(document: Document) -> str:
            known, untold = document["cost"][name], document["cost"]["untold"].get(name, 0)
            if not untold:
                return "-" if known is None else write(known)
            return "unknown" if known is None else f"at least {write(known)} (unknown for {counted(untold, 'sample')})"

        return cell

    rows: list[Row] = [
        ("prompt tokens", value("prompt_tokens", "{:,.0f}".format)),
        ("of these cached", value("cached_tokens", "{:,.0f}".format)),
        ("of distinct prompts", value("distinct_prompt_tokens", "{:,.0f}".format)),
        ("computed / distinct", value("prefill_ratio", "{:,.2f}".format)),
        ("generated tokens", value("completion_tokens", "{:,.0f}".format)),
        ("model time", value("model_seconds", _duration)),
        ("box time", value("sandbox_seconds", _duration)),
        ("grading time", value("grading_seconds", _duration)),
        ("wall time", value("wall_seconds", _duration)),
    ]
    if any(document["cost"]["price"] for document in documents):
        rows.append(("price", _price))
    return _rows(documents, rows)


def _price(document: Document) -> str:
    price, untold = document["cost"]["price"], document["cost"]["untold"]
    if not price:
        return "-"
    is_least = untold["prompt_tokens"] or untold["completion_tokens"]
    return f"{'at least ' if is_least else ''}{price['total']:,.2f}"
