"""A plugin for pytest that runs what the plan wants, records it, and keeps a project's options from getting in the way.

Several processes (xdist), another order (randomly, random-order), new tries of what failed (rerunfailures, retry),
stopping at the first failure, debuggers and the measuring of coverage are switched off here and not on the command
line, where an option of a plugin that is not installed would be an error.
"""

import sys
from importlib.machinery import ModuleSpec
from typing import Generator  # noqa: UP035 - collections.abc has no generic Generator before Python 3.9

import pytest
from amini_record import LEFT, READING, Foreign, Recorder  # type: ignore[import-not-found]

_SETTINGS: "dict[str, object]" = {
    "numprocesses": None, "dist": "no", "tx": [], "looponfail": False, "forked": False, "maxfail": 0,
    "continue_on_collection_errors": True, "usepdb": False, "stepwise": False, "collectonly": False,
    "randomly_reorganize": False, "randomly_reset_seed": False, "random_order_bucket": "none", "reruns": 0,
    "retries": 0, "failedfirst": False, "lf": False, "newfirst": False, "cov_fail_under": None,
}  # fmt: skip


def pytest_addoption(parser: Foreign) -> None:
    """Take the path of the plan."""
    parser.addoption("--amini-plan", dest="amini_plan")


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: Foreign) -> Generator[None, Foreign, None]:
    """Begin before the project's own code does, and note where that breaks."""
    recorder = Recorder(early_config.known_args_namespace.amini_plan)
    recorder.enter_tree(recorder.folder if "-m" in recorder.plan["command"] else "")
    early_config.pluginmanager.register(Reporter(recorder), "amini-reporter")
    early_config.known_args_namespace.no_cov = True
    outcome = yield
    if outcome.excinfo and outcome.excinfo[0].__name__ == "ConftestImportFailure":
        recorder.say("stopped", fault=recorder.fault_of(_behind(outcome.excinfo[1]), ""))


def _behind(failure: Foreign) -> Foreign:
    """Return the exception that a conftest raised: versions of pytest keep it in different places."""
    info = getattr(failure, "excinfo", None)
    return getattr(failure, "cause", None) or (info[1] if isinstance(info, tuple) else getattr(info, "value", failure))


class Reporter:
    """The hooks that select and record."""

    def __init__(self, recorder: Foreign) -> None:
        """Record with `recorder`."""
        self.recorder = recorder

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: Foreign) -> None:
        """Switch off what gets in the way, and put our files in the place of whatever paths the options name."""
        for name, value in _SETTINGS.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        config.args = self.recorder.files

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Pytest, its plugins and the project's options are in order."""
        self.recorder.say("begun")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: Foreign, exitstatus: int) -> None:
        """The last word: everything that was wanted has been run, unless something cut it short."""
        self.recorder.say("done" if int(exitstatus) in (0, 1, 5) and not session.shouldstop else "over")

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector: Foreign) -> Generator[None, Foreign, None]:
        """Read a file: it may end the process, or not be readable."""
        is_file = isinstance(collector, pytest.File)
        if is_file:
            self.recorder.start(self._id(collector), READING)
        outcome = yield
        report = outcome.get_result()
        if report.outcome != "passed" and (is_file or "::" in collector.nodeid):
            kind = "skip" if report.outcome == "skipped" else "error"
            self.recorder.whole(self._id(collector), kind, _unwrapped(report))
        elif is_file:
            self.recorder.stop()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: Foreign, items: Foreign) -> None:
        """Leave out what is not wanted."""
        dropped = [item for item in items if not self.recorder.wants(self._id(item))]
        if dropped:
            items[:] = [item for item in items if self.recorder.wants(self._id(item))]
            config.hook.pytest_deselected(items=dropped)
        for expected, place, ending, make in self.recorder.drawn():
            free = [at for at in range(len(items) + 1) if _is_free(items, at)]
            if not free:
                return
            at = free[int(place * len(free))]
            beside = items[min(at, len(items) - 1)]
            module = beside.getparent(pytest.Module)
            name = str(getattr(beside, "originalname", None) or beside.name.partition("[")[0]) + ending
            function = make(name, str(module.fspath))
            made = getattr(pytest.Function, "from_parent", pytest.Function)(parent=module, name=name, callobj=function)
            if self._id(made) not in {*map(self._id, items), *self.recorder.seen}:
                items.insert(at, made)
                self.recorder.canary(self._id(made), expected)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: Foreign) -> None:
        """Say how many tests there are, before the first one runs."""
        self.recorder.say("collected", number=len(session.items))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: Foreign) -> Generator[None, Foreign, None]:
        """Record the beginning and the end of a test."""
        self.recorder.start(self._id(item))
        yield
        self.recorder.end()
        if self.recorder.full:
            item.session.shouldstop = "the record is full, or the budget is used up"
            for other in item.session.items[item.session.items.index(item) + 1 :]:
                self.recorder.leave(self._id(other))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: Foreign) -> None:
        """Leave out what is left of a file that has had its share of the budget."""
        if not self.recorder.wants(self._id(item)):
            pytest.skip(LEFT)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: Foreign, call: Foreign) -> Generator[None, Foreign, None]:
        """Note what became of a part of a test: of its set-up, itself, a subtest, or its clean-up."""
        outcome = yield
        report = outcome.get_result()
        if call.when == "setup":
            self.recorder.reset()
        error = call.excinfo.value if call.excinfo is not None and report.outcome == "failed" else None
        words = str(report.longrepr) if report.outcome == "failed" and error is None else ""
        if report.outcome == "failed":
            self.recorder.note("fail" if call.when == "call" else "error", error, words)
        elif report.outcome == "skipped":
            self.recorder.note("skip", None, "" if self.recorder.wants(self._id(item)) else LEFT)
        elif call.when == "call":  # a test of which only the set-up is known to be good was cut short
            self.recorder.note("pass", None)

    def _id(self, node: Foreign) -> str:
        """Return a node's path-based id: pytest's own are relative to what it takes for the root."""
        path = str(getattr(node, "path", None) or node.fspath)
        name = node.nodeid.partition("::")[2]
        found = str(self.recorder.relative(path))
        return found + "::" + name if name else found


def _is_free(items: Foreign, at: int) -> bool:
    """Tell whether a test of ours may stand there: beside a function, not in a class or where all must fail."""
    beside = items[min(at, len(items) - 1)] if items else None
    if not isinstance(beside, pytest.Function) or beside.getparent(pytest.Module) is None:
        return False
    if beside.get_closest_marker("xfail"):
        return False
    kinds = [item.getparent(pytest.Class) for item in items[max(0, at - 1) : at + 1]]
    return not 0 < at < len(items) or kinds[0] is None or kinds[0] is not kinds[1]


def _unwrapped(report: Foreign) -> "BaseException | None":
    """Return what went wrong while a file was read: pytest raises an error of its own about a failed import."""
    call = getattr(report, "call", None)
    if call is None or call.excinfo is None:
        return None
    error: BaseException = call.excinfo.value
    inner = error.__cause__ or error.__context__
    return inner if type(error).__name__ == "CollectError" and inner is not None else error


if __name__ == "__main__":
    globals()["__spec__"] = ModuleSpec("pytest.__main__", None)  # what multiprocessing starts does not load this
    sys.argv[0] = pytest.__file__.replace("__init__.", "__main__.")
    sys.exit(getattr(pytest, "console_main", pytest.main)())
