"""The report of one or more evaluations for a terminal: their documents side by side, one column for each.

It reads documents alone (see `evaluation_document`), so that what is shown is what `--json` says. What is not known is
shown as -. Names are foreign text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentless_mini.report.cells import Labelled, heading, percent, plain_text, row, table
from agentless_mini.report.evaluation_curves import (
    IN_ROUNDS,
    ORIENTATION,
    STOPPED,
    Document,
    in_rounds,
    is_papers,
    over_first_round,
    over_samples,
    over_tests,
)
from agentless_mini.report.rounds import Scale, rounds_table

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILURES_SHOWN = 10


def evaluation_tables(documents: Sequence[Document]) -> "RenderableType":
    """Return everything that a terminal shows of evaluations, in the order given. Raises ValueError for none."""
    from rich.console import Group

    if not documents:
        raise ValueError("no evaluation to show")
    return Group(*_parts(documents))


def _parts(documents: Sequence[Document]) -> "Iterator[RenderableType]":
    yield _overview(documents)
    yield from _titled("resolved by repository", _groups(documents, "by_repo", "repo"))
    yield from _titled("resolved by difficulty", _groups(documents, "by_difficulty", "difficulty"))
    yield from _titled("resolved with the first n samples", over_samples(documents))
    if any(in_rounds(document) for document in documents):
        yield from _titled("resolved with the first n samples of round 0: plain sampling", over_first_round(documents))
        yield Labelled((IN_ROUNDS,), 0)
    if any("stopping" in document["results"] for document in documents):
        yield Labelled((STOPPED,), 0)
    yield from _rounds(documents)
    yield from _titled("resolved with the first test samples", over_tests(documents))
    if any(is_papers(document) for document in documents):
        yield Labelled((ORIENTATION,), 0)
    yield from _titled("resolved by vote share", _calibration(documents))
    yield from _titled("rejected samples", _rejected(documents))
    yield from _failures(documents)
    yield from _titled("cost", _cost(documents))


def _titled(title: str, shown: "RenderableType | None") -> "Iterator[RenderableType]":
    if shown is not None:
        yield heading(title)
        yield shown


# --- numbers for people ----------------------------------------------------------------------------------------------


def _counted(group: Mapping[str, Any]) -> str:
    return f"{percent(group['rate'])} ({group['resolved']}/{group['instances']})"


def _resolved(document: Document) -> str:
    told = document["results"]["resolved"]
    between = "" if told["low"] is None else f" [{100 * told['low']:.1f}, {100 * told['high']:.1f}]"
    return f"{percent(told['rate'])}{between} ({told['count']}/{told['of']})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


# --- tables ----------------------------------------------------------------------------------------------------------

Row = tuple[str, Callable[[Document], str]]


def _rows(documents: Sequence[Document], rows: Iterable[Row], first: str = "") -> "RenderableType":
    shown = table(first, *(document["run"]["name"] for document in documents))
    for name, value in rows:
        row(shown, name, *(value(document) for document in documents))
    return shown


def _result(part: str, name: str) -> Callable[[Document], str]:
    return lambda document: percent(document["results"][part][name])


def _overview(documents: Sequence[Document]) -> "RenderableType":
    return _rows(
        documents,
        (
            ("model", lambda one: one["run"]["model"]),
            ("dataset", lambda one: one["run"]["dataset"]),
            ("instances", lambda one: str(one["results"]["instances"])),
            ("attempted", lambda one: str(one["results"]["attempted"])),
            ("graded", lambda one: str(one["results"]["graded"])),
            ("graded by swebench", lambda one: one["run"]["versions"].get("swebench", "-")),
            ("resolved", _resolved),
            ("oracle of all samples", _oracle),
            ("files: recall, first list", _result("localization", "recall")),
            ("files: all found, first list", _result("localization", "all_found")),
            ("files: all found, any list", _result("localization", "all_found_any")),
            ("valid samples", _result("format", "rate")),
            *([("samples saved", _saved)] if any("stopping" in one["results"] for one in documents) else []),
        ),
    )


def _oracle(document: Document) -> str:
    if in_rounds(document):
        return percent(_last(document["results"]["oracle_at_n"], "rate"))
    return percent(_last(document["results"]["pass_at_k"], "value"))


def _saved(document: Document) -> str:
    told = document["results"].get("stopping")
    if told is None:
        return "-"
    ended = f"{told['stopped']} of {told['instances']} instances ended early"
    return f"{percent(told['share'])} ({told['saved']}/{told['wanted']}; {ended}, bound {told['bound']:g})"


def _last(points: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return points[-1][name] if points else None


def _groups(documents: Sequence[Document], part: str, name: str) -> "RenderableType":
    keys = dict.fromkeys(group[name] for document in documents for group in document["results"][part])
    return _rows(documents, ((key or "not said", _group(part, name, key)) for key in keys), name)


def _group(part: str, name: str, key: str) -> Callable[[Document], str]:
    def value(document: Document) -> str:
        return next((_counted(group) for group in document["results"][part] if group[name] == key), "-")

    return value


def _rounds(documents: Sequence[Document]) -> "Iterator[RenderableType]":
    for document in documents:
        if in_rounds(document):
            found = document["results"]["evolution"]
            means = f"means; instances: {found['instances']}"
            yield heading(f"rounds of {document['run']['name']} ({means}; score: {Scale(found['score']).words})")
            yield rounds_table(found["rounds"])


def _calibration(documents: Sequence[Document]) -> "RenderableType":
    bins = documents[0]["results"]["calibration"]
    return _rows(documents, (_bin(at, part) for at, part in enumerate(bins)), "share")


def _bin(at: int, part: Mapping[str, Any]) -> Row:
    return f"{part['low']:.0%} to {part['high']:.0%}", lambda one: _counted(one["results"]["calibration"][at])


def _rejected(documents: Sequence[Document]) -> "RenderableType | None":
    counts = [{told["reason"]: told["count"] for told in one["results"]["format"]["rejected"]} for one in documents]
    reasons = dict.fromkeys(reason for told in counts for reason in told)
    shown = table("reason", *(document["run"]["name"] for document in documents))
    for reason in reasons:
        row(shown, reason, *(str(told.get(reason, 0)) for told in counts))
    return shown if reasons else None


def _failures(documents: Sequence[Document]) -> "Iterator[RenderableType]":
    """Yield the instances without an answer, and why; those of the infrastructure count nowhere."""
    for document in documents:
        failed = [one for one in document["results"]["per_instance"] if one["failure"]]
        if not failed:
            continue
        yield heading(f"failures of {document['run']['name']}: {_failure_counts(document)}")
        shown = table("instance", "state", "stage", "why")
        for one in failed[:FAILURES_SHOWN]:
            row(shown, one["id"], one["state"], one["stage"], one["failure"])
        yield shown
        if len(failed) > FAILURES_SHOWN:
            yield plain_text(f"... {len(failed) - FAILURES_SHOWN} more (--json has all)")


def _failure_counts(document: Document) -> str:
    return ", ".join(f"{one['count']} {one['state']} ({one['stage']})" for one in document["results"]["failures"])


def _cost(documents: Sequence[Document]) -> "RenderableType":
    parts: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
        ("prompt tokens", "prompt_tokens", _number),
        ("of these cached", "cached_tokens", _number),
        ("of distinct prompts", "distinct_prompt_tokens", _number),
        ("computed / distinct", "prefill_ratio", _decimal),
        ("generated tokens", "completion_tokens", _number),
        ("model time", "model_seconds", _duration),
        ("box time", "sandbox_seconds", _duration),
        ("grading time", "grading_seconds", _duration),
        ("wall time", "wall_seconds", _duration),
    )
    rows: list[Row] = [(title, _spent(name, told)) for title, name, told in parts]
    if any(document["cost"]["price"] for document in documents):
        rows.append(("price", _price))
    return _rows(documents, rows)


def _spent(name: str, told: Callable[[float | None], str]) -> Callable[[Document], str]:
    def value(document: Document) -> str:
        known, untold = document["cost"][name], document["cost"]["untold"].get(name, 0)
        if not untold:
            return told(known)
        return "not told" if known is None else f"at least {told(known)} (not told of {untold} samples)"

    return value


def _price(document: Document) -> str:
    price, untold = document["cost"]["price"], document["cost"]["untold"]
    if not price:
        return "-"
    is_least = untold["prompt_tokens"] or untold["completion_tokens"]
    return f"{'at least ' if is_least else ''}{_decimal(price['total'])}"
