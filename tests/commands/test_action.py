"""The composite action: by GitHub's schema, and its script with stand-ins for GitHub and for uv."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chain.workbench import NONSENSE
from tests.commands.running import Home, server
from tests.gitrepo import git
from tests.repository.test_issue_sources import Reply, serve

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "repair"
EXAMPLE = ROOT / "agentless_mini" / "docs" / "ci.md"
ISSUE = {"title": "$(touch hacked)`touch hacked`", "body": '"; touch hacked #\n${{ github.token }}', "number": 12}
UV = f"""#!/bin/sh
[ "$1 $2 $3 $4 $6" = "run --quiet --frozen --project amini" ] && [ -f "$5/uv.lock" ] || exit 99
shift 6
exec {sys.executable} -m agentless_mini "$@"
"""


def repaired(home: Home, base_url: str, **more: str) -> tuple[int, str, set[str]]:
    """Run the script as a runner does, and return its status, what it gave, and the branches pushed."""
    origin = home.root / "origin.git"
    if not origin.exists():
        git(home.repository, "clone", "--quiet", "--bare", ".", str(origin))
        git(home.repository, "remote", "add", "origin", str(origin))
    programs, output = home.root / "programs", home.root / "output"
    programs.mkdir(exist_ok=True)
    (programs / "uv").write_text(UV)
    (programs / "uv").chmod(0o755)
    output.write_text("")
    with serve({"/repos/owner/shop/issues/12": Reply(200, json.dumps(ISSUE).encode())}) as github:
        variables = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GITHUB_API_URL": github.address,
            "GITHUB_TOKEN": "token",
            "GITHUB_REPOSITORY": "owner/shop",
            "GITHUB_RUN_ID": "7",
            "GITHUB_OUTPUT": str(output),
            "ISSUE": "12",
            "BRANCH": "",
            "ARGUMENTS": "-n 5",
            "AMINI_BASE_URL": base_url,
            "AMINI_MODEL": "",
            "AMINI_API_KEY": "",
        }
        done = subprocess.run(
            ["bash", str(ACTION / "repair.sh")],
            cwd=home.repository,
            env=home.environment({**variables, **more}),
            capture_output=True,
            text=True,
            check=False,
        )
    branches = set(git(origin, "for-each-ref", "--format=%(refname:short)").decode().split())
    return done.returncode, done.stderr + output.read_text(), branches


def test_an_issue_becomes_a_branch_and_none_of_its_words_a_command(home: Home) -> None:
    with server() as endpoint:
        code, told, branches = repaired(home, endpoint.url)
    assert (code, branches) == (0, {"main", "amini/issue-12-7-1"}), told
    assert told.endswith("branch=amini/issue-12-7-1\n")
    subject = git(home.root / "origin.git", "log", "-1", "--format=%s", "amini/issue-12-7-1").decode().strip()
    assert subject == ISSUE["title"]
    assert list(home.root.rglob("hacked")) == []


def test_without_a_patch_the_job_ends_well_and_pushes_nothing(home: Home) -> None:
    with server(NONSENSE) as endpoint:
        code, told, branches = repaired(home, endpoint.url)
    assert (code, branches) == (0, {"main"})
    assert told.endswith("nothing is pushed.\n")


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"ISSUE": "12; touch hacked"}, 2),
        ({"BRANCH": "main"}, 2),
        ({"BRANCH": "a b"}, 2),
        ({"ISSUE": "13"}, 2),
        ({}, 3),
    ],
)
def test_what_fails_fails_the_job(home: Home, wrong: dict[str, str], status: int) -> None:
    code, told, branches = repaired(home, "http://127.0.0.1:9/v1", **wrong)
    assert (code, branches) == (status, {"main"}), told
    assert "branch=" not in told


def test_the_action_and_the_example_are_by_the_schemas_of_github(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed (the extra 'dev')")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", EXAMPLE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "example.yml").write_text(example)
    for schema, file in (("actions", ACTION / "action.yml"), ("workflows", tmp_path / "example.yml")):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.github-{schema}", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_expression_is_put_into_a_script() -> None:
    texts = [(ACTION / "action.yml").read_text(), EXAMPLE.read_text(), (ACTION / "repair.sh").read_text()]
    scripts = [line for text in texts for line in text.splitlines() if re.match(r"\s*(- )?run:", line)]
    assert len(scripts) == 2
    assert [line for line in (*scripts, *texts[2].splitlines()) if "${{" in line] == []


def test_each_input_of_the_action_is_used_and_each_variable_of_the_script_given() -> None:
    action, script = (ACTION / "action.yml").read_text(), (ACTION / "repair.sh").read_text()
    declared = set(re.findall(r"^  ([a-z-]+):\n    description", action, re.MULTILINE)) - {"branch"}
    assert declared | {"branch"} == set(re.findall(r"\$\{\{ inputs\.([a-z-]+) \}\}", action))
    given = set(re.findall(r"^        ([A-Z_]+): ", action, re.MULTILINE))
    assert given >= {
        name for name in re.findall(r"\$\{?([A-Z_]+)", script) if not name.startswith(("GITHUB_", "BASH_"))
    }
