"""Reads what runners of other languages report: TAP, JUnit XML, and the formats of their own.

All of it is foreign: the tested code can write it too, wherever it runs in the process that reports. What cannot be
read or was cut off is None, which is never a pass. Nothing here takes more time or room than what it reads is long.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.parsers import expat

from agentless_mini.domain import Fault, Outcome

_CLASSES = (".java", ".kt", ".groovy", ".php")  # of files that are called as their class is
MOST_TEXT = 2000
MOST_RESULTS = 50_000
MOST_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Reported:
    """What came of one test: the way to it, and the file that the report names for it, "" where it names none."""

    way: tuple[str, ...]
    outcome: Outcome
    seconds: float = 0.0
    fault: Fault | None = None
    file: str = ""


Parts = Mapping[str, bytes]
"""What a process reported: "out" and "err" were printed, "report0" and on are files."""
_LEVEL = re.compile(r"^(?P<indent> *)(?P<not>not )?ok\b(?: +(?P<number>\d+))?(?: +-)?(?P<name>[^\n]*)$")
_PLAN = re.compile(r"^( *)1\.\.(\d+)\s*(#.*)?$")
_DIRECTIVE = re.compile(r"(?<!\\)# *(skip|todo)\S*.*$", re.IGNORECASE)
_FIELD = re.compile(r"^\s+(duration_ms|error|name|stack|message|failureType|type): ?(.*)$")
_STACK = re.compile(r"\(?(?:file://)?(/[^\s():]+|[\w./-]+\.\w+):(\d+)(?::\d+)?\)?")
_KIND = re.compile(
    r"^(?:Uncaught )?([A-Za-z_$][\w$.:\\]*(?:Error|Exception|Failure|Failed|NotMet\w*))\b(?: \[\w+\])?:? ?(.*)",
    re.DOTALL,
)


def read_tap(parts: Parts) -> list[Reported] | None:
    """Read the Test Anything Protocol, with subtests: those end before the test that they are of."""
    inner: dict[int, list[Reported]] = {}
    plans: dict[int, int] = {}
    lines = parts.get("out", b"").decode("utf-8", "replace").split("\n")
    counts: dict[int, int] = {}
    for place, line in enumerate(lines):
        if line.startswith("Bail out!"):
            return None
        if plan := _PLAN.match(line):
            plans[len(plan[1])] = int(plan[2])
        match = _LEVEL.match(line)
        if match is None or (depth := len(match["indent"])) > 4 * MOST_DEPTH:
            continue
        below = [one for level in sorted(inner) if level > depth for one in inner.pop(level)]
        counts = {level: count for level, count in counts.items() if level <= depth}
        counts[depth] = counts.get(depth, 0) + 1
        fields = _fields(lines, place + 1, depth)
        own = _of_tap(match, fields)
        kept = [replace(one, way=(*own.way, *one.way)) for one in below]
        if fields.get("failureType") != "subtestsFailed" and fields.get("type") != "suite":
            kept.append(own)
        inner.setdefault(depth, []).extend(kept)
    found = inner.get(0, [])
    is_whole = plans.get(0) == counts.get(0, 0) and len(found) <= MOST_RESULTS
    return found if is_whole else None


def _of_tap(match: "re.Match[str]", fields: Mapping[str, str]) -> Reported:
    directive = _DIRECTIVE.search(match["name"])
    name = _DIRECTIVE.sub("", match["name"]).strip()
    name = re.sub(r"\\([#\\])", r"\1", name) or match["number"] or "test"
    outcome = Outcome.FAIL if match["not"] else Outcome.PASS
    if directive:  # what is to be done may fail
        outcome = Outcome.SKIP
    fault = None
    if outcome is Outcome.FAIL:
        said = fields.get("error", fields.get("message", ""))
        fault = _fault(fields.get("name", ""), said, fields.get("stack", ""))
    return Reported((name,), outcome, _number(fields.get("duration_ms")) / 1000, fault)


def _fields(lines: Sequence[str], start: int, depth: int) -> dict[str, str]:
    """Return the fields of the block of YAML after a line, as texts; there may be none."""
    fields: dict[str, str] = {}
    if start >= len(lines) or lines[start].strip() != "---":
        return fields
    name = ""
    for line in lines[start + 1 : start + 400]:
        if line.strip() == "..." and len(line) - len(line.lstrip()) == depth + 2:
            break
        match = _FIELD.match(line)
        if match and len(line) - len(line.lstrip()) == depth + 2:
            name, value = match[1], match[2].strip()
            fields[name] = "" if value in {"|-", "|", ">-"} else value.strip("'\"")
        elif re.match(rf" {{{depth + 2}}}\w+:", line):
            name = ""
        elif name:
            fields[name] += ("\n" if fields[name] else "") + line.strip()
    return fields


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json(data: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _listed(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


_STATUS = {
    "passed": Outcome.PASS,
    "failed": Outcome.FAIL,
    **dict.fromkeys(("pending", "skipped", "todo", "disabled"), Outcome.SKIP),
}


def read_jest(parts: Parts) -> list[Reported] | None:
    """Read what jest and vitest report; a file that cannot be run is a result without a way."""
    said = _json(parts.get("report0", b""))
    if said is None or not isinstance(said.get("testResults"), list):
        return None
    found: list[Reported] = []
    for file in _listed(said["testResults"]):
        path, tests = _text(file.get("name")), _listed(file.get("assertionResults"))
        for test in tests:
            titles = test.get("ancestorTitles")
            way = (*filter(None, map(_text, titles if isinstance(titles, list) else ())), _text(test.get("title")))
            outcome = _STATUS.get(_text(test.get("status")), Outcome.ERROR)
            messages = test.get("failureMessages")
            words = _text(messages[0]) if isinstance(messages, list) and messages else ""
            fault = _of_stack(words) if outcome is not Outcome.PASS and words else None
            found.append(Reported(way, outcome, _number(test.get("duration")) / 1000, fault, path))
        if not tests and file.get("status") == "failed":
            words = _text(file.get("message"))
            found.append(Reported((), Outcome.ERROR, 0.0, _of_stack(words), path))
    return found


def read_rspec(parts: Parts) -> list[Reported] | None:
    """Read what RSpec's formatter `json` writes."""
    said = _json(parts.get("report0", b""))
    if said is None or not isinstance(said.get("examples"), list):
        return None
    found: list[Reported] = []
    for test in _listed(said["examples"]):
        full, title, error = (test.get(name) for name in ("full_description", "description", "exception"))
        way = tuple(filter(None, (_text(full).removesuffix(_text(title)).strip(), _text(title))))
        fault = None
        if isinstance(error, dict):
            trace = error.get("backtrace")
            frames = "\n".join(map(_text, trace)) if isinstance(trace, list) else ""
            fault = _fault(_text(error.get("class")), _text(error.get("message")), frames)
        found.append(
            Reported(way, _STATUS.get(_text(test.get("status")), Outcome.ERROR), _number(test.get("run_time")), fault)
        )
    summary = said.get("summary")
    if isinstance(summary, dict) and summary.get("errors_outside_of_examples_count"):
        messages = said.get("messages")
        words = "\n".join(map(_text, messages)) if isinstance(messages, list) else ""
        found.append(Reported((), Outcome.ERROR, 0.0, _of_stack(words)))
    return found


def read_go(parts: Parts) -> list[Reported] | None:
    """Read the events of `go test -json`. Without a last event of the package it was cut off, or did not compile."""
    found, said, is_over = list[Reported](), dict[str, str](), False
    for line in parts.get("out", b"").split(b"\n"):
        event = _json(line) if line.startswith(b"{") else None
        if event is None:
            continue
        test, action = _text(event.get("Test")), event.get("Action")
        if action == "output":
            said[test] = (said.get(test, "") + _text(event.get("Output")))[-4 * MOST_TEXT :]
        elif action in {"pass", "fail", "skip"}:
            is_over = is_over or not test
            if test and len(found) < MOST_RESULTS:
                outcome = {"pass": Outcome.PASS, "fail": Outcome.FAIL}.get(str(action), Outcome.SKIP)
                fault = _of_go(said.get(test, "")) if outcome is Outcome.FAIL else None
                found.append(Reported(tuple(test.split("/")), outcome, _number(event.get("Elapsed")), fault))
    return found if is_over and (found or not parts.get("err")) else None


def _of_go(said: str) -> Fault:
    lines = [line for line in said.split("\n") if not re.match(r"\s*(?:===|---) ", line)]
    text = "\n".join(lines).strip()
    kind = "panic" if re.search(r"^panic: ", text, re.MULTILINE) else "failure"
    text = re.sub(r"^(?:.*\n)*?(?=panic: )", "", text) if kind == "panic" else text
    where = [match for match in _STACK.finditer(text) if match[1].endswith(".go") and "/src/" not in match[1]]
    message = re.sub(r"(?m)^\s*[\w.-]+\.go:\d+: ?", "", text).strip() if kind == "failure" else text.partition("\n")[0]
    return Fault(kind, message[:MOST_TEXT], where[0][1] if where else "", int(where[0][2][:9]) if where else 0)


_RUST = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. (?:.*)?\b(ok|FAILED|ignored)\b", re.MULTILINE)
_RUST_END = re.compile(r"^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)
_RUST_FAULT = re.compile(r"^---- (.+?) stdout ----\n(.*?)(?=^---- |^failures:|\Z)", re.MULTILINE | re.DOTALL)
_PANIC = re.compile(
    r"panicked at (?:'(?P<old>.*?)', )?(?P<path>[^\s:]+):(?P<line>\d+):\d+:?\n?(?P<new>[^\n]*(?:\n +[^\n]*)*)",
    re.DOTALL,
)


def read_cargo(parts: Parts) -> list[Reported] | None:
    """Read the words of Rust's test harness, whose last line counts the tests."""
    text = parts.get("out", b"").decode("utf-8", "replace")
    end, tests = list(_RUST_END.finditer(text)), _RUST.findall(text)
    if not end or sum(int(number) for one in end for number in one.groups()) != len(tests):
        return None
    faults = {name: _of_rust(said) for name, said in _RUST_FAULT.findall(text)}
    outcomes = {"ok": Outcome.PASS, "FAILED": Outcome.FAIL}
    return [
        Reported(
            tuple(name.split("::")),
            outcomes.get(word, Outcome.SKIP),
            0.0,
            faults.get(name) if word == "FAILED" else None,
        )
        for name, word in tests
    ]


def _of_rust(said: str) -> Fault:
    match = _PANIC.search(said)
    if match is None:
        return Fault("panic", said.strip()[:MOST_TEXT])
    message = match["old"] if match["old"] is not None else match["new"]
    return Fault("panic", message.strip()[:MOST_TEXT], match["path"], int(match["line"][:9]))


# --- JUnit -----------------------------------------------------------------------------------------------------------


def read_junit(parts: Parts) -> list[Reported] | None:
    """Read files of JUnit XML, of which none may declare a type or an entity, or nest without an end."""
    from junitparser import JUnitXml, TestSuite

    reports = [data for name, data in parts.items() if name.startswith("report")]
    found: list[Reported] = []
    for data in reports:
        if not data or not _is_harmless(data):
            return None
        try:
            top: Any = JUnitXml.fromstring(data)
            suites = [top] if isinstance(top, TestSuite) else list(top)
            found += [one for suite in suites for one in _of_suite(suite, 0)]
        except Exception:  # noqa: BLE001 - what a library makes of foreign XML
            return None
    return found if reports and len(found) <= MOST_RESULTS else None


def _of_suite(suite: Any, depth: int) -> Iterator[Reported]:  # noqa: ANN401 - junitparser's, which has no types
    for inner in suite.testsuites() if depth < MOST_DEPTH else ():
        yield from _of_suite(inner, depth + 1)
    for case in suite:
        kinds = {type(result).__name__: result for result in case.result}
        outcome, fault = Outcome.PASS, None
        if "Skipped" in kinds or case._elem.get("status") in {"disabled", "notrun"}:
            outcome = Outcome.SKIP
        for name, worse in (("Error", Outcome.ERROR), ("Failure", Outcome.FAIL)):
            if name in kinds:
                text = _text(kinds[name].text)
                outcome, words = worse, _text(kinds[name].message) or text
                fault = _fault(_text(kinds[name].type), words, text)
        file = _text(case._elem.get("file") or suite._elem.get("file"))
        way = tuple(filter(None, (_text(case.classname), _text(case.name))))
        yield Reported(way, outcome, _number(case.time), fault, file or _text(case.classname))


def _is_harmless(data: bytes) -> bool:
    """Tell whether XML declares nothing that could grow, and does not nest without an end."""
    parser, depth = expat.ParserCreate(), 0

    def deeper(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError

    def back(*_: object) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> None:
        raise ValueError

    parser.StartElementHandler, parser.EndElementHandler = deeper, back
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError):
        return False
    return True


# --- faults ----------------------------------------------------------------------------------------------------------


def _of_stack(words: str) -> Fault:
    """Return what a message with its stack says, as JavaScript writes it."""
    words = re.sub(r"\x1b\[[\d;]*m", "", words)
    head, _, frames = words.partition("\n    at ")
    match = _KIND.match(head.strip())
    return _fault(match[1] if match else "", match[2] if match else head, frames)


def _fault(kind: str, message: str, frames: str) -> Fault:
    inside = (
        match for match in _STACK.finditer(frames) if "node_modules/" not in match[1] and "/gems/" not in match[1]
    )
    first = next((match for match in inside if not match[1].startswith("/usr/")), None)
    where = (first[1], int(first[2][:9])) if first else ("", 0)
    return Fault(kind[:200], message.strip()[:MOST_TEXT], *where)


def _text(value: object) -> str:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    return number if 0 <= number < 1e6 else 0.0


READERS: Mapping[str, Callable[[Parts], list[Reported] | None]] = {
    "tap": read_tap,
    "jest": read_jest,
    "rspec": read_rspec,
    "go": read_go,
    "cargo": read_cargo,
    "junit": read_junit,
}


def placed(
    found: Iterable[Reported], files: Sequence[str], names: Mapping[str, str], root: str
) -> Iterator[tuple[str, Reported]]:
    """Yield each result with its id: the file that it is of, as the tree has it, and the way to it in there.

    A report names a file by a path, by a class (whose file has its name), or not at all: then `names` tells, or there
    is but one. What is of none of the files is left out.
    """
    stems = {file.rpartition("/")[2].partition(".")[0]: file for file in files}
    for one in found:
        said = one.file.removeprefix("file://").removeprefix(f"{root}/").removeprefix("./")
        first = one.way[0] if one.way else ""
        file = said if said in files else next((path for path in files if said and path.endswith(f"/{said}")), "")
        file = file or names.get(first, "") or stems.get(re.split(r"[.$\\]", said)[-1] if said else "", "")
        file = file or next((path for stem, path in stems.items() if said and (stem in said or said in stem)), "")
        file = file or (files[0] if len(files) == 1 else "")
        way = one.way
        if way and (way[0] in {file, f"{root}/{file}"} or f"{root}/{way[0]}".endswith(f"/{file}")):
            way = way[1:]  # a file that is a test of its own, which passes where it has none
            if not way and one.outcome is Outcome.PASS:
                continue
            one = one if way else replace(one, outcome=Outcome.ERROR)
        is_class = file.endswith(_CLASSES) and stems.get(re.split(r"[.$\\]", way[0] if way else "")[-1]) == file
        way = way[1:] if is_class and len(way) > 1 else way
        if file:
            yield "::".join((file, *way)), one
