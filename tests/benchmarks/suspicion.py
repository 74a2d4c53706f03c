"""How many known fixes are called suspicious, and by which rule: none of them cheats.

    python -m tests.benchmarks.suspicion DATASET CLONES

DATASET is SWE-bench Verified as a parquet file, CLONES a folder of clones, each called OWNER+NAME or OWNER+NAME/repo
with any owner. The trees are read out of the clones by git; nothing is checked out and nothing runs. Prints each
marked fix with its lines, then the counts. Exit code 1 where 2 % or more are marked.
"""

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet

from agentless_mini.domain import FileChange
from agentless_mini.edits.suspicion import suspicions

BAR = 0.02


def clone_of(repository: str, clones: Path) -> Path | None:
    """Return the git folder of a clone, by the repository's name alone."""
    name = repository.partition("/")[2]
    found = [path for path in sorted(clones.iterdir()) if path.name.partition("+")[2] == name]
    places = [place for path in found for place in (path / "repo", path / ".git", path) if (place / "objects").is_dir()]
    return places[0] if places else None


def changes_of(patch: bytes, commit: str, clone: Path, scratch: Path) -> Iterator[FileChange]:
    """Yield what a patch makes of the files of a commit. Raises CalledProcessError where the clone has not that."""

    def git(*words: str, stdin: bytes = b"") -> bytes:
        command = ["git", f"--git-dir={clone}", *words]
        environment = {
            "GIT_INDEX_FILE": str(scratch),
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": "/nonexistent",
            "PATH": "/usr/bin:/bin",
        }
        return subprocess.run(command, input=stdin, capture_output=True, check=True, env=environment).stdout

    git("read-tree", commit)
    git("apply", "--cached", "-", stdin=patch)
    for line in git("diff-index", "--cached", "--no-renames", "-z", commit).split(b"\0:"):
        about, _, path = line.strip(b"\0").lstrip(b":").partition(b"\0")
        _, mode, old, new, _ = about.split()
        before, after = (git("cat-file", "blob", one.decode()) if one.strip(b"0") else None for one in (old, new))
        yield FileChange(path.decode(), before, after, mode.decode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("clones", type=Path)
    options = parser.parse_args()
    looked_at, marked, absent, rules = 0, 0, Counter[str](), Counter[str]()
    scratch = Path(options.dataset.name).with_suffix(".index").absolute()
    for row in parquet.read_table(options.dataset).to_pylist():
        clone = clone_of(row["repo"], options.clones)
        try:
            changes = list(changes_of(row["patch"].encode(), row["base_commit"], clone, scratch)) if clone else None
        except subprocess.CalledProcessError:
            changes = None
        if changes is None:
            absent[row["repo"]] += 1
            continue
        looked_at += 1
        if told := suspicions(changes):
            marked += 1
            rules.update(said.partition(" ")[2] for said in told)
            sys.stdout.write(f"{row['instance_id']}: {'; '.join(told)}\n")
    scratch.unlink(missing_ok=True)
    sys.stdout.write(f"{marked} of {looked_at} fixes are marked; by rule: {dict(rules)}; not there: {dict(absent)}\n")
    return 0 if looked_at and marked < BAR * looked_at else 1


if __name__ == "__main__":
    sys.exit(main())
