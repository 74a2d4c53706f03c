"""Runs the tests that the plan wants by unittest, or by django's own tests/runtests.py, and records them.

It listens where every result passes by: at unittest.TestResult, whose subclasses all call it.
"""

import re
import runpy
import sys
import unittest
from importlib.machinery import ModuleSpec
from pathlib import Path

from amini_record import READING, Foreign, Recorder, import_file  # type: ignore[import-not-found]

_HOLDER = re.compile(r"(?:setUp|tearDown)(?:Class|Module) \((.+)\)")


class Listener:
    """Tells the recorder what a TestResult is told."""

    def __init__(self, recorder: Foreign) -> None:
        """Record with `recorder`."""
        self.recorder = recorder
        self.running = None  # type: Foreign
        # django makes a database before the first test, which may take longer than a test.
        self.begun = recorder.plan["runner"] != "django"

    def start(self, result: Foreign, test: Foreign) -> None:
        """A test begins; one inside of another, of a test of a runner, is not ours."""
        if self.running is None:
            if not self.begun:
                self.begun = True
                self.recorder.say("begun")
            self.running = result
            self.recorder.start(self.id_of(test))

    def stop(self, result: Foreign, test: Foreign) -> None:
        """A test ends."""
        if self.running is result:
            self.recorder.end()
            self.running = None

    def note(self, result: Foreign, test: Foreign, outcome: str, error: Foreign) -> None:
        """Something became of a test, or of what stands for a whole class or module."""
        outcome = outcome if "::" in self.recorder.current else "error"  # what stands for a file that cannot be read
        holder = _HOLDER.match(str(test.id())) if not isinstance(test, unittest.TestCase) else None
        if self.running is result:
            self.recorder.note(outcome, error)
        elif self.running is None and holder:
            self.recorder.whole(self._of_dotted(holder.group(1)), "skip" if outcome == "skip" else "error", error)

    def id_of(self, test: Foreign) -> str:
        """Return a test's path-based id."""
        kind = type(test)
        module = sys.modules.get(kind.__module__)
        path = self.recorder.relative(str(getattr(module, "__file__", "")))
        if kind.__name__ in ("_FailedTest", "ModuleImportFailure", "LoadTestsFailure"):
            return str(self._file_named(test._testMethodName))
        return "::".join([path, *kind.__qualname__.split("."), getattr(test, "_testMethodName", "")])

    def _file_named(self, dotted: str) -> str:
        """Return the wanted file of a module that could not be imported."""
        tail = "/" + dotted.replace(".", "/") + ".py"
        paths = [wanted.partition("::")[0] for wanted in self.recorder.wanted]
        return next((path for path in paths if ("/" + path).endswith(tail)), "")

    def _of_dotted(self, dotted: str) -> str:
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            module = sys.modules.get(".".join(parts[:end]))
            if module is not None:
                return "::".join([self.recorder.relative(str(getattr(module, "__file__", ""))), *parts[end:]])
        return ""


def listen(listener: Listener) -> None:
    """Put the listener in front of the methods of every TestResult."""
    kind = unittest.TestResult  # type: Foreign

    def before(name: str, tell: Foreign) -> None:
        original = getattr(kind, name)

        def method(result: Foreign, *arguments: Foreign) -> Foreign:
            tell(result, *arguments)
            return original(result, *arguments)

        setattr(kind, name, method)

    def telling(outcome: str) -> Foreign:
        return lambda result, test, error=None: listener.note(result, test, outcome, raised(error))

    before("startTest", listener.start)
    before("stopTest", listener.stop)
    before("addSuccess", telling("pass"))
    before("addFailure", telling("fail"))
    before("addError", telling("fail"))
    before("addSkip", telling("skip"))
    before("addExpectedFailure", telling("skip"))
    before("addUnexpectedSuccess", telling("fail"))
    before("addSubTest", lambda result, test, _, error: error and telling("fail")(result, test, error))


def raised(error: Foreign) -> "BaseException | None":
    """Return the exception of what sys.exc_info returns; a skip comes with words instead."""
    return error[1] if isinstance(error, tuple) else None


def only_wanted(listener: Listener) -> Foreign:
    """Keep every TestCase from running that is not wanted, and run tests of ours where they were drawn.

    Return what runs those of them that are left.
    """
    kind, recorder = unittest.TestCase, listener.recorder  # type: Foreign, Foreign
    original, most = kind.run, max(8, len(recorder.wanted))
    ours = sorted(recorder.drawn(), key=lambda one: float(one[1]))
    met = []  # type: list[Foreign]

    def run_ours(beside: Foreign) -> None:
        expected, _, ending, make = ours.pop(0)
        like, name = type(beside), str(getattr(beside, "_testMethodName", "")) + ending
        body = make(name, str(getattr(sys.modules.get(like.__module__), "__file__", "")), "self")
        named = {name: body, "__module__": like.__module__, "__qualname__": like.__qualname__}
        made = type(like.__name__, (unittest.TestCase,), named)(name)
        if not hasattr(like, name):
            recorder.canary(listener.id_of(made), expected)
            original(made, unittest.TestResult())

    def run(test: Foreign, result: Foreign = None) -> Foreign:
        name = listener.id_of(test)
        if listener.running is None and "::" in name:
            if not recorder.wants(name):
                recorder.leave(name)
                return result
            while ours and ours[0][1] * most <= len(met):
                run_ours(test)
            met.append(test)
        return original(test, result)

    def rest() -> None:
        while ours and met:
            run_ours(met[-1])

    kind.run = run
    return rest


def flat(suite: Foreign) -> Foreign:
    """Yield the tests of a suite of suites: what is not wanted must not set up its class either."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def run_unittest(recorder: Foreign, listener: Listener) -> None:
    """Import the wanted files and run what they hold."""
    sys.path.insert(0, str(Path.cwd()))
    suites = []
    for file in recorder.files:
        name = recorder.relative(file)
        recorder.start(name, READING)
        try:
            suite = unittest.defaultTestLoader.loadTestsFromModule(import_file(file))
            suites += [test for test in flat(suite) if recorder.wants(listener.id_of(test))]
            recorder.stop()
        except unittest.SkipTest as error:
            recorder.whole(name, "skip", error)
        except BaseException as error:  # noqa: BLE001 - a file that cannot be read is a result
            recorder.whole(name, "error", error)
    unittest.TextTestRunner(verbosity=1).run(unittest.TestSuite(suites))


def run_django(recorder: Foreign) -> None:
    """Run django's or a project's own program, or django's command for tests. They end by sys.exit."""
    words = recorder.plan["command"]
    at = next(place for place, word in enumerate(words) if word.endswith(".py") or word == "-m")
    if words[at] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        argv, folder = words[at + 1 :], str(Path.cwd())
    else:
        program = str(Path(words[at]).resolve())
        folder = str(Path(program).parent)
        sys.path.insert(0, folder)
        argv = [program, *words[at + 1 :]]
    # A program of the project's own may know labels alone.
    is_known = words[at] == "-m" or argv[1:] or (Path(folder).name == "tests" and Path(folder, "../django").is_dir())
    sys.argv = [*argv, *(["--parallel=1", "--noinput"] if is_known else []), *labels(recorder, folder)]
    try:
        if words[at] == "-m":
            runpy.run_module(argv[0], run_name="__main__", alter_sys=False)
        else:
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as error:
        if error.code not in (None, 0, 1, False, True):
            raise


def labels(recorder: Foreign, place: str) -> "list[str]":
    """Return the wanted files and tests as django names them: dotted, from the folder where its program lies."""
    folder = (recorder.relative(place) + "/").lstrip("/")
    files = {recorder.relative(file) for file in recorder.files}
    found = []
    for wanted in recorder.plan["wanted"]:
        path, _, name = wanted.partition("::")
        if path in files and path.startswith(folder) and not (name and path in recorder.wanted):
            dotted = path[len(folder) : -len(".py")].replace("/", ".")
            found.append(".".join([dotted, *name.split("::")]) if name else dotted)
    return found


def main() -> None:
    """Run what the plan at the path in the first argument wants."""
    recorder = Recorder(sys.argv[1])
    listener = Listener(recorder)
    recorder.enter_tree()
    if listener.begun:
        recorder.say("begun")
    listen(listener)
    rest = only_wanted(listener)
    if recorder.plan["runner"] == "django":
        run_django(recorder)
    else:
        run_unittest(recorder, listener)
    rest()
    recorder.say("done")


if __name__ == "__main__":
    globals()["__spec__"] = ModuleSpec("unittest.__main__", None)  # what multiprocessing starts does not load this
    main()
