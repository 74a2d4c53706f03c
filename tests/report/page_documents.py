"""Documents of small evaluations, of full shape, as the page gets them: see `report.evaluation_document`."""

from typing import Any

HOSTILE = '</script><img src=x onerror="window.owned=1"><!--<script>&lt;\u2028\u202eevil\ud800\x1b[31m\'"`${7*7}{{7*7}}'
SAMPLES = (1, 2, 5, 10)


def row(id: str, resolved: bool | None = None, **changes: object) -> dict[str, Any]:
    """Return what is told of one instance in the table."""
    told = {
        "id": id, "repo": id.split("__")[0], "difficulty": "<15 min fix", "state": "done", "stage": "", "failure": "",
        "resolved": resolved, "confidence": 0.5, "valid": 8, "samples": 10, "distinct": 3, "recall": 1.0,
        "gold_files": ["a.py"], "files": [["a.py"]], "chosen": "n1",
    }  # fmt: skip
    return {**told, **changes}


def evaluation(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the document of an evaluation of these instances; its figures fit them where that is simple."""
    right, of = sum(one["resolved"] is True for one in rows), len(rows)
    share = {"count": right, "of": of, "rate": right / of, "low": 0.1, "high": 0.9}
    points = [{"rate": 0.1 * at, "low": 0.05 * at, "high": 0.2 * at, "graded": 1.0} for at in range(1, 5)]
    repos = sorted({one["repo"] for one in rows})
    return {
        "schema": 1,
        "run": {
            "name": name, "dataset": "some/dataset", "fingerprint": "f" * 64, "model": "model",
            "started": "2026-01-02T03:04:05",
            "versions": {"amini": "0.2.0"}, "settings": {"repair": {"samples": 10}, "method": "agreement"},
        },
        "results": {
            "instances": of, "attempted": of, "done": of, "graded": of, "resolved": share,
            "by_repo": [{"repo": repo, **_group([one for one in rows if one["repo"] == repo])} for repo in repos],
            "by_language": [{"language": "python", **_group(rows)}],
            "by_difficulty": [{"difficulty": "<15 min fix", **_group(rows)}],
            "localization": {"recall": 0.9, "recall_any": 1.0, "all_found": 0.8, "all_found_any": 1.0},
            "format": {
                "samples": 10 * of, "valid": 8 * of, "rate": 0.8,
                "rejected": [{"reason": "no-edit", "count": 2 * of}],
            },
            "pass_at_k": [
                {"k": k, "value": None if k == 10 else 0.15 * at, "exact": k != 10} for at, k in enumerate(SAMPLES, 1)
            ],
            "best_at_n": [{"n": n, **point} for n, point in zip(SAMPLES, points, strict=True)],
            "vote_at_n": [{"n": n, **point} for n, point in zip(SAMPLES, points, strict=True)],
            "best_at_tests": [{"tests": tests, **point} for tests, point in enumerate(points)],
            "calibration": [
                {"low": 0, "high": 0.5, "instances": 4, "resolved": 1, "rate": 0.25},
                {"low": 0.5, "high": 1, "instances": 0, "resolved": 0, "rate": None},
            ],
            "failures": [{"stage": "image", "state": "infrastructure", "count": 1}],
            "per_instance": rows,
        },
        "cost": {
            "prompt_tokens": 1_234_567, "cached_tokens": 10, "completion_tokens": 20, "distinct_prompt_tokens": 30,
            "prefill_ratio": None, "model_seconds": None, "sandbox_seconds": 5.0, "grading_seconds": 90.0,
            "wall_seconds": 7200.0, "price": {"prompt": 1.5, "boxes": None, "total": 1.5},
        },
    }  # fmt: skip


def evolution(name: str, rows: list[dict[str, Any]], score: str = "tests") -> dict[str, Any]:
    """Return the document of an evaluation in two rounds of five samples, of which all instances ended early, too."""
    document = evaluation(name, rows)
    results = document["results"]
    ends = [{"n": n, "rate": 0.1 * n, "low": 0.0, "high": 1.0, "graded": 1.0} for n in (5, 10)]
    results.update(dict.fromkeys(("best_at_n", "vote_at_n", "oracle_at_n"), ends))
    results["plain_at_n"] = [{**ends[0], "n": n} for n in (1, 2, 5)]
    results["pass_at_k"] = [{"k": k, "value": 0.25, "exact": True} for k in (1, 2, 5)]
    results["evolution"] = {"instances": len(rows), "score": score, "rounds": [_round(0, 0.25), _round(1, 0.75)]}
    results["stopping"] = {
        "bound": 0.95, "instances": 3, "stopped": 3, "wanted": 30, "drawn": 20, "saved": 10, "share": 1 / 3,
    }  # fmt: skip
    return document


def _round(number: int, best: float) -> dict[str, Any]:
    counts = {"samples": 5.0, "valid": 4.5, "distinct": 3.0, "new": 1.5}
    return {"round": number, **counts, "best": best, "mean": best / 2, "scored": 3}


def _group(rows: list[dict[str, Any]]) -> dict[str, Any]:
    right = sum(one["resolved"] is True for one in rows)
    return {"instances": len(rows), "resolved": right, "rate": right / len(rows)}


def unknown(name: str) -> dict[str, Any]:
    """Return the document of an evaluation in which nothing has happened yet."""
    document = evaluation(name, [row("a__a-1", None, state="", chosen=None, confidence=None, recall=None)])
    results = document["results"]
    lists = (
        "by_repo",
        "by_language",
        "by_difficulty",
        "pass_at_k",
        "best_at_n",
        "vote_at_n",
        "best_at_tests",
        "calibration",
        "failures",
    )
    results.update({key: [] for key in lists})
    results["resolved"] = {"count": 0, "of": 0, "rate": None, "low": None, "high": None}
    results["localization"] = dict.fromkeys(results["localization"])
    results["format"] = {"samples": 0, "valid": 0, "rate": None, "rejected": []}
    document["cost"] = {**dict.fromkeys(document["cost"]), "price": None}
    return document


def depth(id: str, text: str = "text") -> dict[str, Any]:
    """Return an instance in depth: two patches, three tests, with `text` wherever foreign text stands."""
    diff = (
        f"diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -3,2 +3,2 @@ {text}\n same\n-old {text}\n+new {text}\n"
    )
    patch = {"normal": "n1", "diff": diff, "paths": [f"a{text}.py"], "votes": 5, "orders": [0, 2], "refusal": ""}
    other = {"normal": "n2", "votes": 3, "resolved": False, "verdicts": ["fail", "timeout", "pass"]}
    return {
        "id": id, "repo": text, "difficulty": text, "state": "done", "stage": "", "failure": "",
        "issue": f"It fails: {text}",
        "gold_files": ["a.py", f"missed{text}"], "files": [{"paths": ["a.py", text], "votes": 2}],
        "patches": [{**patch, "resolved": True, "verdicts": ["pass", "pass", "pass"]}, {**patch, **other}],
        "tests": [
            {"id": f"tests/{text}", "origin": "generated", "votes": 2, "before": "fail"},
            {"id": "tests/test_b.py", "origin": "given", "votes": 1, "before": "error"},
            {"id": "tests/test_c.py", "origin": "regression", "votes": 1, "before": "pass"},
        ],
        "rejected": [{"order": 1, "reason": "malformed", "detail": text}],
        "choice": {
            "normal": "n1", "votes": 5, "valid": 8, "probability": 0.43, "resolved": True,
            "reason": f"has most votes {text}",
        },
        "best_at_n": [{"n": 1, "normal": None, "resolved": False}, {"n": 2, "normal": "n1", "resolved": True}],
        "notes": [f"Shown in part: {text}"],
        "regressions": {"found": 5, "run": 0, "lost": 5, "why": f"none passes twice {text}"},
    }  # fmt: skip


def evolved_depth(id: str, text: str = "text") -> dict[str, Any]:
    """Return an instance in depth of two rounds, the second of which brought the second patch."""
    told = depth(id, text)
    first, second = told["patches"]
    told["patches"] = [{**first, "round": 0, "score": 0.75}, {**second, "round": 1, "score": None}]
    told["evolution"] = {"score": "tests", "rounds": [{**_round(at, 0.5), "samples": 5} for at in range(2)]}
    return told
