"""Slow tests run with --slow, and in continuous integration (CI set); the default run is quick.

Thorough ones, which take minutes and repeat on more material what a slow test shows, run with --thorough alone.
Files with tests that take long come first, so that no process is left alone with them in the end.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.__main__ import is_in_first_half

LEVELS = ("slow", "thorough")

# No test may depend on how fast the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# pytest shows what differs in an assertion of test modules alone, unless told.
pytest.register_assert_rewrite("tests.sandbox.contract", "tests.model.contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", default=bool(os.environ.get("CI")), help="run slow tests as well")
    parser.addoption("--thorough", action="store_true", help="run tests that take minutes as well")
    parser.addoption("--rest", action="store_true", help="leave out the first half of `python -m tests`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [level for level in LEVELS if not config.getoption(f"--{level}")]
    for item in items:
        for level in left_out:
            if item.get_closest_marker(level):
                item.add_marker(pytest.mark.skip(reason=f"{level}: run with --{level}"))
    if config.getoption("--rest"):
        done = [item for item in items if is_in_first_half(item.path, item.name)]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if not is_in_first_half(item.path, item.name)]
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
