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

MOST_RESULTS, MOST_DEPTH, MOST_LINES = 50_000, 100, 400
MOST_TEXT, MOST_ID, MOST_NAME = 2000, 4000, 1000


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


# --- TAP -------------------------------------------------------------------------------------------------------------

_TEST = re.compile(r"(?P<indent> *)(?P<not>not )?ok\b(?: +(?P<number>\d+))?(?: +-)?(?P<name>.*)")
_PLAN = re.compile(r"1\.\.(\d{1,9})\s*(?:#(.*))?")
_DIRECTIVE = re.compile(r"(?<!\\)# *(skip|todo)\S*.*$", re.IGNORECASE)
_TOOK = re.compile(r" # time=([\d.]{1,12})(m?s)$")  # node-tap's
_FIELD = re.compile(r" *(duration_ms|error|name|stack|at|message|failureType|type): ?(.*)")
_ASSERTIONS = re.compile(r"^# tests +\d+\n# pass +\d+", re.MULTILINE)


def read_tap(parts: Parts) -> list[Reported] | None:
    """Read the Test Anything Protocol.

    Subtests stand before the test that they are of, or after it in braces. tape knows no tests, but writes their names
    as comments before their assertions. What prove prints after the tests is no test.
    """
    return _Tap(parts.get("out", b"").decode("utf-8", "replace")).read()


class _Tap:
    """What was printed, while it is read: `inner` has the results by their depth, as long as no test has taken them."""

    def __init__(self, text: str) -> None:
        self.lines, self.at = text.split("\n"), 0
        self.is_tape, self.heading = bool(_ASSERTIONS.search(text)) and "# Subtest: " not in text, ""
        self.planned, self.count, self.handled = -1, 0, 0
        self.inner: dict[int, list[Reported]] = {}
        self.opened: dict[int, Reported] = {}

    def read(self) -> list[Reported] | None:
        while self.at < len(self.lines) and self.handled <= 10 * MOST_RESULTS:
            line, self.at = self.lines[self.at], self.at + 1
            depth = len(line) - len(line.lstrip(" "))
            if (match := _TEST.fullmatch(line)) and depth <= 4 * MOST_DEPTH:
                self._test(match, depth)
            elif line.strip() == "}" and depth in self.opened:
                self._add(self.opened.pop(depth), depth)
            elif plan := _PLAN.fullmatch(line):
                self._plan(int(plan[1]), plan[2])
            elif self.is_tape and line.startswith("# "):
                self.heading = line[2:].strip()[:MOST_NAME]
            elif line.startswith("Bail out!"):
                return None
        found = self.inner.get(0, [])
        is_whole = self.at == len(self.lines) and self.planned == self.count and not self.opened
        return found if is_whole and len(found) <= MOST_RESULTS else None

    def _plan(self, number: int, why: str | None) -> None:
        self.planned = max(self.planned, 0) + number
        if self.planned == 0 and why:  # the file is left out
            self.inner[0] = [Reported((), Outcome.SKIP, 0.0, Fault("", why.strip()[:MOST_TEXT]))]

    def _test(self, match: "re.Match[str]", depth: int) -> None:
        if not (depth or match["not"] or match["number"] or match["name"]) and self.count == self.planned:
            return  # prove's word on the file
        self.count += depth == 0
        fields, self.at = _fields(self.lines, self.at, depth)
        follows = self.lines[self.at] if self.at < len(self.lines) else ""
        is_opened = match["name"].endswith(" {") and follows.startswith(" " * (depth + 1))
        own = _of_tap(match, fields, self.heading, is_opened)
        sums_up = fields.get("failureType") == "subtestsFailed" or fields.get("type") == "suite"
        if is_opened:
            self.opened[depth] = own
        else:
            self._add(own, depth, sums_up=sums_up)

    def _add(self, own: Reported, depth: int, *, sums_up: bool = False) -> None:
        """Put what is deeper into a test, which has no outcome of its own where it only `sums_up` its subtests."""
        below = [one for level in sorted(self.inner) if level > depth for one in self.inner.pop(level)]
        kept = [replace(one, way=(*own.way, *one.way)) for one in below] + ([] if sums_up else [own])
        self.inner.setdefault(depth, []).extend(kept)
        self.handled += len(kept)


def _of_tap(match: "re.Match[str]", fields: Mapping[str, str], heading: str, is_opened: bool) -> Reported:
    said = match["name"].removesuffix(" {" if is_opened else "")
    took = _TOOK.search(said)
    seconds = _number(took[1]) / (1000 if took[2] == "ms" else 1) if took else _number(fields.get("duration_ms")) / 1000
    said = _TOOK.sub("", said)
    name = re.sub(r"\\([#\\])", r"\1", _DIRECTIVE.sub("", said).strip())[:MOST_NAME]
    way = (*filter(None, [heading]), name or match["number"] or "test")
    is_left = _DIRECTIVE.search(said)  # what is to be done may fail
    if is_left or not match["not"]:
        return Reported(way, Outcome.SKIP if is_left else Outcome.PASS, seconds)
    frames = f"{fields.get('stack', '')}\n{fields.get('at', '')}"
    fault = _fault(fields.get("name", ""), fields.get("error", fields.get("message", "")), frames)
    return Reported(way, Outcome.FAIL, seconds, fault)


def _fields(lines: Sequence[str], start: int, depth: int) -> tuple[dict[str, str], int]:
    """Return the fields of the block of YAML that begins with a line, as texts, and the number of the line after it."""
    if start == len(lines) or lines[start].strip() != "---":
        return {}, start
    fields, name, level, end = dict[str, list[str]](), "", 0, lines[start].replace("---", "...")
    for at in range(start + 1, len(lines)):
        line, indent = lines[at], len(lines[at]) - len(lines[at].lstrip())
        if line == end or (line.strip() and indent <= depth):
            break
        level = level or indent
        match = _FIELD.fullmatch(line) if indent == level else None
        if match:
            name, value = match[1], match[2].strip()
            fields[name] = [] if value in {"|-", "|", ">-"} else [value.strip("'\"")]
        elif indent == level and re.match(r" +\w+:", line):
            name = ""
        elif name and len(fields[name]) < MOST_LINES:
            fields[name].append(line.strip())
    else:
        at, line = len(lines), ""
    return {name: "\n".join(text) for name, text in fields.items()}, at + (line == end)


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json(data: bytes) -> Mapping[str, Any]:
    """Return the object that JSON holds, an empty one for anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _listed(value: object) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]


_STATUS = dict.fromkeys(("pending", "skipped", "todo", "disabled"), Outcome.SKIP)
_STATUS |= {"passed": Outcome.PASS, "failed": Outcome.FAIL}


def read_jest(parts: Parts) -> list[Reported] | None:
    """Read what jest and vitest report; a file that cannot be run is a result without a way."""
    said = _json(parts.get("report0", b"")).get("testResults")
    if not isinstance(said, list):
        return None
    found: list[Reported] = []
    for file in _listed(said):
        path, tests = _name(file.get("name")), _listed(file.get("assertionResults"))
        for test in tests:
            way = (*filter(None, map(_name, _list(test.get("ancestorTitles")))), _name(test.get("title")))
            outcome = _STATUS.get(_text(test.get("status")), Outcome.ERROR)
            words = _text(next(iter(_list(test.get("failureMessages"))), ""))
            fault = _of_stack(words) if outcome is not Outcome.PASS and words else None
            found.append(Reported(way, outcome, _number(test.get("duration")) / 1000, fault, path))
        if not tests and file.get("status") == "failed":
            found.append(Reported((), Outcome.ERROR, 0.0, _of_stack(_text(file.get("message"))), path))
    return found


def read_rspec(parts: Parts) -> list[Reported] | None:
    """Read what RSpec's formatter `json` writes."""
    said = _json(parts.get("report0", b""))
    if not isinstance(said.get("examples"), list):
        return None
    found: list[Reported] = []
    for test in _listed(said["examples"]):
        full, title, error = (test.get(name) for name in ("full_description", "description", "exception"))
        way = tuple(filter(None, (_name(_text(full).removesuffix(_text(title)).strip()), _name(title))))
        fault = None
        if isinstance(error, dict):
            frames = "\n".join(map(_text, _list(error.get("backtrace"))))
            fault = _fault(_text(error.get("class")), _text(error.get("message")), frames)
        outcome = _STATUS.get(_text(test.get("status")), Outcome.ERROR)
        found.append(Reported(way, outcome, _number(test.get("run_time")), fault))
    summary = said.get("summary")
    if isinstance(summary, dict) and summary.get("errors_outside_of_examples_count"):
        words = "\n".join(map(_text, _list(said.get("messages"))))
        found.append(Reported((), Outcome.ERROR, 0.0, _of_stack(words)))
    return found


def read_go(parts: Parts) -> list[Reported] | None:
    """Read the events of `go test -json`. Without a last event of the package it was cut off, or did not compile."""
    found, said, is_over = list[Reported](), dict[str, str](), False
    for line in parts.get("out", b"").split(b"\n"):
        event = _json(line) if line.startswith(b"{") else {}
        test, action = _name(event.get("Test")), _text(event.get("Action"))
        if action == "output":
            said[test] = (said.get(test, "") + _text(event.get("Output")))[-4 * MOST_TEXT :]
        elif action in {"pass", "fail", "skip"}:
            is_over = is_over or not test
            if test and len(found) < MOST_RESULTS:
                outcome = {"pass": Outcome.PASS, "fail": Outcome.FAIL}.get(action, Outcome.SKIP)
                fault = _of_go(said.get(test, "")) if outcome is Outcome.FAIL else None
                found.append(Reported(tuple(test.split("/")), outcome, _number(event.get("Elapsed")), fault))
    return found if is_over and (found or not parts.get("err")) else None


def _of_go(said: str) -> Fault:
    text = "\n".join(line for line in said.split("\n") if not re.match(r"\s*(?:===|---) ", line)).strip()
    where = [match for match in _STACK.finditer(text) if match[1].endswith(".go") and "/src/" not in match[1]]
    if panic := re.search(r"^panic: .*", text, re.MULTILINE):
        where = [match for match in where if match.start() > panic.start()]
        kind, message = "panic", panic[0]
    else:
        kind, message = "failure", re.sub(r"(?m)^\s*[\w.-]+\.go:\d+: ?", "", text).strip()
    return Fault(kind, message[:MOST_TEXT], where[0][1] if where else "", int(where[0][2][:9]) if where else 0)


# --- the words of Rust's test harness --------------------------------------------------------------------------------

_RUST_END = re.compile(r"(?m)^test result: \w+\. (\d{1,9}) passed; (\d{1,9}) failed; (\d{1,9}) ignored")
_RUST_WORD = re.compile(r"\A(ignored)\b|\b(ok|FAILED)\b")
_RUST_FAULT = re.compile(r"---- (.+) stdout ----")
_PANIC = re.compile(
    r"panicked at (?:'(?P<old>.*?)', )?(?P<path>[^\s:]+):(?P<line>\d+):\d+:?\n?(?P<new>[^\n]*(?:\n +[^\n]*)*)",
    re.DOTALL,
)


def read_cargo(parts: Parts) -> list[Reported] | None:
    """Read the words of Rust's test harness, whose last line counts the tests."""
    text = parts.get("out", b"").decode("utf-8", "replace")
    found, said, name = list[Reported](), dict[str, list[str]](), ""
    for line in text.split("\n"):
        test, dots, rest = line.partition(" ... ")
        words = _RUST_WORD.findall(rest) if dots and test.startswith("test ") else ()
        if words:
            ignored, word = words[0] if words[0][0] else words[-1]  # what is before, the test may have printed
            outcome = {"ok": Outcome.PASS, "FAILED": Outcome.FAIL}.get("" if ignored else word, Outcome.SKIP)
            full = test.removeprefix("test ").removesuffix(" - should panic")[:MOST_NAME]
            found.append(Reported(tuple(full.split("::")), outcome))
        match = _RUST_FAULT.fullmatch(line)
        if match or line.startswith("failures:"):
            name = match[1][:MOST_NAME] if match else ""
        elif name and len(said.setdefault(name, [])) < MOST_LINES:
            said[name].append(line)
    end = list(_RUST_END.finditer(text))
    if not end or sum(int(number) for one in end for number in one.groups()) != len(found):
        return None
    faults = {tuple(name.split("::")): _of_rust("\n".join(lines)) for name, lines in said.items()}
    return [replace(one, fault=faults.get(one.way)) if one.outcome is Outcome.FAIL else one for one in found]


def _of_rust(said: str) -> Fault:
    match = _PANIC.match(said, max(0, said.find("panicked at ")))
    if match is None:
        return Fault("panic", said.strip()[:MOST_TEXT])
    message = match["old"] if match["old"] is not None else match["new"]
    return Fault("panic", message.strip()[:MOST_TEXT], match["path"], int(match["line"][:9]))


# --- JUnit -----------------------------------------------------------------------------------------------------------


def read_junit(parts: Parts) -> list[Reported] | None:
    """Read files of JUnit XML, of which none may declare a type or an entity, or nest without an end."""
    reports = [data for name, data in parts.items() if name.startswith("report")]
    found: list[Reported] = []
    for data in reports:
        reading = _JUnit()
        try:
            reading.parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError):  # the last: of an encoding that there is not
            return None
        found += reading.found
    return found if reports and len(found) <= MOST_RESULTS else None


class _JUnit:
    """One file that is being read. A test is of the suites around it, however deep, or of none."""

    def __init__(self) -> None:
        self.found: list[Reported] = []
        self.depth, self.is_bare = 0, False
        self.suites: list[tuple[str, str]] = []  # the name of each, and its file
        self.case: Mapping[str, str] | None = None
        self.ends: dict[str, tuple[Mapping[str, str], str]] = {}  # what this test came to, and with which words
        self.words: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self.words.append
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise ValueError("it declares something")

    def _start(self, tag: str, about: Mapping[str, str]) -> None:
        self.depth += 1
        if self.depth > MOST_DEPTH or (self.depth == 1 and tag not in {"testsuites", "testsuite"}):
            raise ValueError("it is no report, or nests too deep")
        self.is_bare = self.is_bare or (self.depth == 1 and tag == "testsuites" and not about)
        if tag == "testsuite":
            self.suites.append((_name(about.get("name")), _name(about.get("file"))))
        elif tag == "testcase":
            self.case, self.ends = about, {}
        elif self.case is not None and tag in {"skipped", "error", "failure"}:
            self.ends[tag] = about, ""
            self.words.clear()

    def _end(self, tag: str) -> None:
        self.depth -= 1
        if tag == "testsuite":
            self.suites.pop()
        elif tag == "testcase" and self.case is not None:
            self.found.append(self._result(self.case))
            if len(self.found) > MOST_RESULTS:
                raise ValueError("it has too many tests")
            self.case = None
        elif self.case is not None and tag in self.ends:
            self.ends[tag] = self.ends[tag][0], "".join(self.words)

    def _result(self, case: Mapping[str, str]) -> Reported:
        is_left = "skipped" in self.ends or case.get("status") in {"disabled", "notrun"}
        outcome, fault = Outcome.SKIP if is_left else Outcome.PASS, None
        is_todo = self.ends.get("skipped", ({}, ""))[0].get("type") == "todo"  # what is to be done may fail
        for tag, worse in () if is_todo else (("error", Outcome.ERROR), ("failure", Outcome.FAIL)):
            if tag in self.ends:
                about, text = self.ends[tag]
                outcome, fault = worse, _fault(about.get("type", ""), about.get("message") or text, text)
        name, group, file = (_name(case.get(key)) for key in ("name", "classname", "file"))
        file = file or (self.suites[-1][1] if self.suites else "")
        way = (name,) if group == name else tuple(filter(None, (group, name)))
        suites = [name for name, _ in self.suites]
        if self.is_bare and group == "test" and suites[:1] != ["pytest"]:  # as node writes it, whose suites nest
            way, group = (*suites, name), ""
        return Reported(way, outcome, _number(case.get("time")), fault, file or group)


# --- faults ----------------------------------------------------------------------------------------------------------

_STACK = re.compile(r"(?<![^\s():])(?:file://)?(/[^\s():]+|[\w./-]+\.\w+):(\d+)")
_NOT_OURS = re.compile(r"node_modules/|/gems/|^/usr/")
_KIND = re.compile(
    r"^(?:Uncaught )?((?:[A-Za-z_$][\w$.:\\]*)?(?:Error|Exception|Failure|Failed|NotMet\w*))\b(?: \[\w+\])?:? ?(.*)",
    re.DOTALL,
)


def _of_stack(words: str) -> Fault:
    """Return what a message with its stack says, as JavaScript writes it."""
    head, _, frames = re.sub(r"\x1b\[[\d;]*m", "", words).partition("\n    at ")
    match = _KIND.match(head.strip())
    return _fault(match[1] if match else "", match[2] if match else head, frames)


def _fault(kind: str, message: str, frames: str) -> Fault:
    first = next((match for match in _STACK.finditer(frames) if not _NOT_OURS.search(match[1])), None)
    where = (first[1], int(first[2][:9])) if first else ("", 0)
    return Fault(kind[:200], message.strip()[:MOST_TEXT], *where)


def _text(value: object, most: int | None = None) -> str:
    return value[:most].encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def _name(value: object) -> str:
    return _text(value, MOST_NAME)


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
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


# --- which file a result is of ---------------------------------------------------------------------------------------

_CLASSES = (".java", ".kt", ".groovy", ".php")  # of files that are called as their class is
_DOTTED = (".py", ".rb")  # of files whose names JUnit of pytest and RSpec has with dots


def placed(
    found: Iterable[Reported], files: Sequence[str], names: Mapping[str, str], root: str
) -> Iterator[tuple[str, Reported]]:
    """Yield each result with its id: the file that it is of, as the tree has it, and the way to it in there.

    A report names a file by a path, by a class (whose file has its name), or not at all: then `names` tells, or there
    is but one. What is of none of the files is left out.
    """
    stems = {file.rpartition("/")[2].partition(".")[0]: file for file in files}
    suffixes = tuple({f".{file.rpartition('.')[2]}" for file in files})  # what ends so is a path
    for one in found:
        said, way = one.file.removeprefix("file://").removeprefix(f"{root}/").removeprefix("./"), one.way
        file = said if said in files else next((path for path in files if said and path.endswith(f"/{said}")), "")
        if not file and said.endswith(suffixes):
            continue
        file = file or names.get(way[0] if way else "", "") or stems.get(_class(said), "")
        file = file or next((path for stem, path in stems.items() if said and (stem in said or said in stem)), "")
        file = file or (files[0] if len(files) == 1 else "")
        if not file:
            continue
        module = file.rpartition(".")[0].replace("/", ".")
        if way and f"/{way[0]}".endswith(f"/{file}"):
            way = way[1:]  # a file that is a test of its own, which passes where it has none
            if not way and one.outcome is Outcome.PASS:
                continue
            one = one if way else replace(one, outcome=Outcome.ERROR)
        elif len(way) > 1 and file.endswith(_DOTTED) and f"{way[0]}.".startswith(f"{module}."):
            way = (*filter(None, way[0].removeprefix(module).split(".")), *way[1:])
        elif len(way) > 1 and file.endswith(_CLASSES) and stems.get(_class(way[0])) == file:
            way = way[1:]
        yield "::".join((file, *way))[:MOST_ID], one


def _class(said: str) -> str:
    """Return the last part of the name of a class."""
    return re.split(r"[.$\\]", said)[-1]
