"""How a build goes on where uv installs nothing, with a program in uv's place that refuses what it is told to."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.environment import installer
from agentless_mini.environment.installer import PLACE, Installation, beside_sources, without_system

FAKE = f"""#!{sys.executable}
import json, os, re, sys, time
words = sys.argv[1:]
if words[1] == "install":
    with open("calls.jsonl", "a") as file:
        file.write(json.dumps(words) + "\\n")
    left_out = open(words[words.index("--excludes") + 1]).read().split() if "--excludes" in words else []
    for needle, said in json.load(open("refused.json")):
        if needle == "git+" and os.path.exists("list.txt") and "https://host" in open("list.txt").read():
            print(said)
            sys.exit(1)
        if (needle == "old" and "-e" in words) or (needle == "told" and "TOLD_VERSION" in os.environ):
            print(said)
            sys.exit(1)
        if needle == "slow" and "." in words and "alpha" in words:
            print("Resolved 2 packages" if os.path.exists("resolved") else "waiting", flush=True)
            time.sleep(3 if os.path.exists("resolved") else 60)
            sys.exit(0)
        name = re.findall(r"(?:build `|Because )([a-z]+)", said)[0]
        relieved = needle == "-e" and os.environ.get("THING_NO_EXTENSIONS")
        if (needle in words or needle == "*") and name not in left_out and not relieved:
            print(said)
            sys.exit(1)
"""
PLAN: dict[str, Any] = {
    "python": "venv/bin/python", "make": "", "fresh": False, "setup": "", "until": "", "options": [], "locked": False,
    "ways": [["-e", "."], ["."]], "best": ["alpha", "beta"], "others": [], "alone": ["own"], "modules": [],
    "variables": [], "module": "", "members": [], "seconds": 600, "version": "99.0.0",
    "versioned": [], "system": []
}  # fmt: skip
GONE = "  cause: Because {} was not found in the package registry and you require {}, we can conclude"
NO_BUILD = "error: Failed to build `{}`"
CLASH = "  cause: Because you require beta==1 and beta==2, we can conclude that your requirements are unsatisfiable."


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.unsetenv("THING_NO_EXTENSIONS")
    (tmp_path / PLACE).mkdir()
    (tmp_path / PLACE / "uv").write_text(FAKE)
    (tmp_path / PLACE / "uv").chmod(0o755)
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)


APT = f"""#!{sys.executable}
import sys
print(*sys.argv[1:])
sys.exit("gone" in sys.argv)
"""


def test_packages_of_the_system_are_installed_one_by_one_where_one_is_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (without_system([]), without_system(["git"])) == ([], ["git"]), "there is no apt-get"
    (tmp_path / "apt-get").write_text(APT)
    (tmp_path / "apt-get").chmod(0o755)
    assert without_system(["git", "gone", "make"]) == ["gone"]
    lines = [line.split()[3:] for line in capfd.readouterr().out.splitlines() if line.startswith("-q ")]
    options = ["install", "-y", "--no-install-recommends"]
    each = [[*options, name] for name in ("git", "gone", "make")]
    assert lines == [["update"], [*options, "git", "gone", "make"], *each]


def ran(*refused: tuple[str, str], **plan: object) -> tuple[dict[str, Any], list[list[str]]]:
    """Run the installation; return its report, and what uv was asked to install each time."""
    Path("refused.json").write_text(json.dumps(refused))
    report: dict[str, Any] = {"failed": [], "editable": False, "problem": "", "missing": []}
    installation = Installation({**PLAN, **plan}, report)
    installation.cache = "cache"
    installation.run()
    calls = Path("calls.jsonl")
    asked = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
    return report, [words[words.index("--python") + 2 :] for words in asked]


def test_all_is_asked_for_at_once() -> None:
    report, calls = ran()
    assert calls == [["-e", ".", "alpha", "beta"]]
    assert (report["failed"], report["editable"]) == ([], True)


def test_versions_of_a_lock_are_let_go_where_they_cannot_be_had() -> None:
    _, calls = ran((f"{PLACE}/locked.txt", GONE.format("old", "old")), locked=True)
    assert [words[-1] for words in calls] == [f"{PLACE}/locked.txt", "beta"]


@pytest.mark.parametrize("said", [GONE.format("beta", "beta"), NO_BUILD.format("beta==1.0")])
def test_a_package_that_cannot_be_had_is_left_out(said: str) -> None:
    report, calls = ran(("beta", said))
    assert (report["failed"], report["editable"], len(calls)) == (["beta"], True, 2)


def test_a_list_that_cannot_be_read_is_named_and_not_the_runner_that_came_without_it() -> None:
    report, calls = ran(("list.txt", "error: in build `list`"), best=["-r", "list.txt"], module="pytest", ways=[])
    assert (report["failed"], report["problem"], len(calls)) == (["list.txt"], "", 3)


def test_what_contradicts_the_project_comes_after_it_and_without_what_does_not_fit() -> None:
    report, calls = ran(("beta", CLASH))
    assert (report["failed"], report["editable"]) == (["beta"], True)
    assert calls[2] == ["-e", "."]
    assert f"{PLACE}/held.txt" in calls[-1]


def test_a_project_that_cannot_be_compiled_is_tried_without_its_compiled_parts() -> None:
    refused = ("-e", NO_BUILD.format("thing @ file:///repo"))
    report, calls = ran(refused, variables=["THING_NO_EXTENSIONS"])
    assert (report["failed"], report["editable"], len(calls)) == ([], True, 2)


def test_a_project_that_cannot_be_installed_at_all_leaves_its_requirements() -> None:
    said = NO_BUILD.format("thing @ file:///repo")
    report, calls = ran(("-e", said), (".", said))
    assert report["editable"] is False
    assert [words[0] for words in calls[-2:]] == ["own", "alpha"]


def test_there_is_a_cap_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "MOST_CALLS", 4)
    report, calls = ran(("*", CLASH), others=[[f"p{number}"] for number in range(9)])
    assert len(calls) == 4
    assert report["editable"] is False


def test_a_module_that_nothing_brought_is_installed_where_the_project_names_its_package() -> None:
    report, calls = ran(modules=[["json", 1, ""], ["no_such_a", 2, "a-dist"], ["no_such_b", 3, ""]])
    assert calls[1][0] == "a-dist"
    assert report["missing"] == [["no_such_a", 2], ["no_such_b", 3]]


def test_compiled_parts_lie_beside_their_sources(tmp_path: Path) -> None:
    site = tmp_path / "venv/lib/python3.11/site-packages"
    info = site / "thing-1.dist-info"
    for folder in (info, site / "thing", tmp_path / "src/thing"):
        folder.mkdir(parents=True)
    (tmp_path / "src/thing/own.py").write_text("tree")
    for name in ("fast.so", "own.py", "data.txt"):
        (site / "thing" / name).write_text("built")
    (info / "direct_url.json").write_text(json.dumps({"url": f"file://{tmp_path}", "dir_info": {}}))
    (info / "RECORD").write_text("thing/fast.so,,\nthing/own.py,,\nthing/data.txt,,\n../../../bin/x.py,,\n")
    beside_sources(str(tmp_path / "venv/bin/python"))
    assert sorted(path.name for path in (tmp_path / "src/thing").iterdir()) == ["fast.so", "own.py"]
    assert (tmp_path / "src/thing/own.py").read_text() == "tree"


def test_members_that_contradict_each_other_are_installed_one_by_one() -> None:
    said = "  cause: Because one depends on x==1 and two depends on x==2, we can conclude"
    report, calls = ran(("./two", said.replace("Because one", "Because x")), members=[["-e", "./one"], ["-e", "./two"]])
    assert (report["failed"], report["editable"]) == (["./two"], True)
    assert [words[:2] for words in calls[-3:]] == [["-e", "./one"], ["-e", "./two"], ["alpha", "beta"]]


def test_what_takes_too_long_together_is_installed_in_parts_and_from_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "SHARE", 0.05)
    report, calls = ran(("slow", "Because x"), best=["alpha"], seconds=30)
    assert (report["failed"], report["editable"]) == ([], True)
    assert calls[1] == ["-e", ".", "--no-deps"]
    assert [words[-3] for words in calls[2:]] == ["own", "alpha"]
    Path("resolved").touch()
    _, more = ran(("slow", "Because x"), best=["alpha"], seconds=30)
    assert more == [*calls, ["-e", ".", "alpha"]], "it may compile for longer"


def test_requirements_of_a_git_host_that_is_not_reached_leave_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = "git+https://host/a/kombu.git\nalpha @ git+https://host/b@v1 ; os\n-e git+ssh://git@host/c#egg=beta\nrest\n"
    Path("list.txt").write_text(lists + "git+https://other/d\n")
    said = "Because git: unable to access 'https://host/a/kombu.git/': refused"
    report, calls = ran(("git+", said), best=["-r", "list.txt"])
    assert Path("list.txt").read_text() == "#\nalpha ; os\nbeta\nrest\ngit+https://other/d\n"
    assert (len(report["failed"]), report["editable"], len(calls)) == (3, True, 2)


def test_an_old_tree_has_setuptools_and_is_installed_as_for_users_where_its_backend_is_old() -> None:
    Path("list.txt").write_text("-e .[tls]\n--editable=worker\n-e git+https://host/x\n-edge\n")
    _, calls = ran(("old", "Because x: no attribute 'build_editable'"), until="2019-11-25")
    day = ["--exclude-newer", "2019-11-25"]
    assert calls[:2] == [[*day, "-e", ".", "alpha", "beta"], [*day, ".", "alpha", "beta"]]
    assert ["setuptools" in words for words in calls[2:]] == [True] * (sys.version_info < (3, 12))
    assert Path("list.txt").read_text() == ".[tls]\n./worker\n-e git+https://host/x\n-edge\n"


def test_a_version_that_is_the_projects_is_not_told_to_what_it_needs() -> None:
    os.putenv("TOLD_VERSION", "99.0.0")
    said = "Because x: Package metadata version `99.0.0` does not match given version `1.8.0`"
    report, calls = ran(("told", said), version="99.0.0", versioned=["TOLD_VERSION"])
    assert (report["failed"], report["editable"], len(calls)) == ([], True, 2)
