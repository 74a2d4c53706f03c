"""An instance of the smallest kind that the official harness can grade, and its image: bash, git, three files."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.daemon import connect
from tests.gitrepo import make_repository
from tests.sandbox.image import add, add_folder, as_root, libraries

PROGRAMS = ("bash", "git", "tail", "cat", "grep", "sleep", "mkdir", "rm", "kill", "touch")
TEST = b"""\
sleep "$(cat delay.txt)"
if grep -q 42 value.txt; then echo "PASSED t::answer"; else echo "FAILED t::answer"; fi
echo "PASSED t::other"
"""
SCRIPT = """\
#!/bin/bash
exec 2>&1  # Docker copies each stream by itself: the end's mark on the other one could overtake the last verdict
set -uxo pipefail
cd /testbed
: '>>>>> Start Test Output'
bash test.sh
: '>>>>> End Test Output'
git status
"""
GOLD = b"--- a/value.txt\n+++ b/value.txt\n@@ -1 +1 @@\n-41\n+42\n"
WRONG = b"--- a/value.txt\n+++ b/value.txt\n@@ -1 +1 @@\n-41\n+43\n"
SLOW = b"--- a/delay.txt\n+++ b/delay.txt\n@@ -1 +1 @@\n-0\n+60\n"
NOWHERE = b"--- a/nowhere.txt\n+++ b/nowhere.txt\n@@ -1 +1 @@\n-1\n+2\n"


def row(image: str, **changed: str) -> str:
    """Return the instance as a dataset has it."""
    return json.dumps({
        "instance_id": "amini__tiny-1",
        "repo": "amini/tiny",
        "version": "1",
        "image": image,
        "FAIL_TO_PASS": '["t::answer"]',
        "PASS_TO_PASS": '["t::other"]',
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "eval_script": SCRIPT,
        **changed,
    })  # fmt: skip


def require_swebench() -> None:
    """Skip the test where the official harness, or the program that it needs, is not installed."""
    try:
        metadata.version("swebench")
    except metadata.PackageNotFoundError:
        pytest.skip("swebench is not installed: the extra 'eval'")
    if shutil.which("docker") is None:
        pytest.skip("the program docker is not installed")


def tiny_image(folder: Path) -> str:
    """Return the name of the image, made where the daemon does not have it; skip the test where no daemon answers."""
    from docker.errors import ImageNotFound

    require_swebench()
    try:
        client = connect(1)
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    programs = {f"/usr/bin/{name}": Path(shutil.which(name) or name) for name in PROGRAMS}
    told = TEST + "".join(f"{path} {path.stat().st_mtime_ns}" for path in programs.values()).encode()
    name = f"amini-test-tiny:{hashlib.sha256(told).hexdigest()[:16]}"
    try:
        client.images.get(name)
    except ImageNotFound:
        build(folder, programs, name)
    finally:
        client.close()
    return name


def build(folder: Path, programs: dict[str, Path], name: str) -> None:
    tree = make_repository(folder / "tiny", {"value.txt": b"41\n", "delay.txt": b"0\n", "test.sh": TEST})
    files = programs | {"/bin/bash": programs["/usr/bin/bash"]} | libraries([*programs.values()])
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for made in ("tmp", "proc", "sys", "dev", "etc", "root"):
            add_folder(tar, made, 0o755)
        add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/bash\n")
        tar.add(tree, "testbed", filter=as_root)
        for path, source in files.items():
            tar.add(source.resolve(), path.lstrip("/"), recursive=False, filter=as_root)
    changes = ("-c", "ENV PATH=/usr/bin:/bin", "-c", "ENV HOME=/root")
    subprocess.run(["docker", "import", *changes, archive, name], check=True, capture_output=True)
