"""Measures the curation on the histories of real repositories: rows a second, resident memory, the same rows on Ray.

    python -m tests.benchmarks.curation --mirrors FOLDER [--scales 1 4 16] [--share 1] [--cluster ADDRESS] [--out DIR]

The folder (or AMINI_MIRRORS) holds bare clones as `amini learn curate --mirrors` takes them; without one there is
nothing to measure. What GH Archive would have recorded is made up from the histories, in its schema, and is synthetic:
each merge commit and each squash that names a pull request becomes a PullRequestEvent with the ids of its commits, and
an issue with the words of that commit, which the pull request closes. So the issues say more of the repair than real
ones do, and there is one for every pull request: the numbers tell of speed and of the filters on changes, not of how
many real pull requests have an issue. At scale 16 all of them are taken, at 4 a quarter, at 1 a sixteenth.
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

from agentless_mini.learning.curation.curation import Curation, curate, on_ray, one_by_one
from agentless_mini.learning.curation.history import MERGED, SQUASHED, Commit, History
from agentless_mini.learning.curation.pulls import without_model
from agentless_mini.learning.rows import read_rows
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.settings.learning import CurateSettings

FILES = 24
ISSUE_NUMBERS = 1_000_000


def mirrors_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the repositories in a folder of `owner+name` by name."""
    for place in sorted(folder.iterdir()):
        if "+" in place.name and (place / "repo" / "HEAD").is_file():
            yield place.name.replace("+", "/"), place / "repo"


def pulls_of(git_dir: Path) -> Iterator[tuple[int, Commit]]:
    """Yield the pull requests that a history names, with their merge commits."""
    git = GitCommand(str(git_dir), (), (f"GIT_DIR={git_dir}",))
    ids = git.read("rev-list", "--first-parent", "HEAD", "--").decode().split()
    history, seen = History(git_dir), set[int]()
    for at in range(0, len(ids), 500):
        for commit in history.commits(ids[at : at + 500]).values():
            subject = commit.message.partition("\n")[0]
            said = MERGED.match(subject) or SQUASHED.search(subject)
            if said and int(said[1]) not in seen and commit.parents:
                seen.add(int(said[1]))
                yield int(said[1]), commit


def events_of(repo: str, number: int, merge: Commit) -> Iterator[dict[str, Any]]:
    """Yield the events of a pull request, in the schema of before October 2025."""
    subject, _, body = merge.message.partition("\n")
    words = body.strip().partition("\n")[0] if MERGED.match(subject) else SQUASHED.sub("", subject)
    title, issue = words.strip() or subject, ISSUE_NUMBERS + number
    person = {"login": "somebody", "type": "User"}
    where = {"repo": {"id": crc32(repo.encode()), "name": repo}, "actor": {"login": "somebody"}, "public": True}
    opened = {"number": issue, "title": title, "body": merge.message, "user": person, "created_at": _earlier(merge.at)}
    yield {
        "type": "IssuesEvent", "created_at": _earlier(merge.at), "payload": {"action": "opened", "issue": opened},
        **where
    }  # fmt: skip
    pull = {
        "number": number, "title": title, "body": f"Fixes #{issue}", "user": person, "merged": True,
        "merged_at": merge.at, "merge_commit_sha": merge.id, "commits": 1, "changed_files": 0,
        "head": {"ref": "topic", "sha": merge.parents[-1]},
        "base": {"ref": "main", "sha": merge.parents[0], "repo": {"name": repo, "fork": False}}
    }  # fmt: skip
    payload = {"action": "closed", "number": number, "pull_request": pull}
    yield {"type": "PullRequestEvent", "created_at": merge.at, "payload": payload, **where}
    yield {"type": "PushEvent", "created_at": merge.at, "payload": {"ref": "refs/heads/main"}, **where}


def _earlier(moment: str) -> str:
    return f"2000{moment[4:]}"


def write_events(mirrors: Path, folder: Path, share: float) -> None:
    """Write the events of a share of all pull requests as hourly files, which are there once they are whole."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with ExitStack() as stack:
        names = (partial / f"2025-01-01-{hour}.json.gz" for hour in range(FILES))
        files = [stack.enter_context(gzip.open(name, "wt", compresslevel=1)) for name in names]
        for repo, git_dir in mirrors_in(mirrors):
            for number, merge in pulls_of(git_dir):
                place = hashlib.sha256(f"{repo}#{number}".encode()).digest()
                if int.from_bytes(place[:4]) < share * 2**32:
                    lines = (json.dumps(event) + "\n" for event in events_of(repo, number, merge))
                    files[place[4] % FILES].writelines(lines)
    partial.rename(folder)


def measured(mirrors: Path, events: Path, out: Path, cluster: str) -> dict[str, Any]:
    """Curate in this process, or on a cluster, and return what it cost."""
    steps: dict[str, float] = {}

    def progress(step: str, done: int, total: int) -> None:
        steps[step] = time.monotonic()

    begun, worked = time.monotonic(), _cpu_seconds()
    curation = Curation((events,), mirrors, out, CurateSettings(valid=0.1, test=0.1), without_model)
    with on_ray(cluster, 1) if cluster else nullcontext(one_by_one) as doing:
        found = curate(curation, doing, progress)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = [begun, *(steps[name] for name in ("events", "parts", "splits"))]
    seconds = {name: after - before for name, (before, after) in zip(steps, pairwise(times), strict=True)}
    files = [path for split in ("train", "valid", "test") for path in (out / split).glob("*.parquet")]
    rows = sum(found["rows"].values())
    return {
        "pulls": found["pulls"],
        "rows": rows,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows_per_second": round(rows / (times[-1] - begun), 1),
        "cpu_seconds": round(_cpu_seconds() - worked, 1),
        "pulls_per_second": round(found["pulls"] / (times[-1] - begun), 1),
        "events": found["events"],
        "peak_mib": round(peak, 1),
        "bytes_per_row": round(sum(path.stat().st_size for path in files) / max(rows, 1)),
        "left_out": {one["step"]: one["left_out"] for one in found["steps"] if one["left_out"]},
        "splits": found["rows"],
        "digest": digest_of(out),
    }


def _cpu_seconds() -> float:
    """Return what this process and the programs that it ran and waited for (git) have computed."""
    return sum(os.times()[:4])


def digest_of(out: Path) -> str:
    """Return a digest of all rows of a curation, in order."""
    digest = hashlib.sha256()
    for split in ("train", "valid", "test"):
        for row in read_rows(out / split) if any((out / split).iterdir()) else ():
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def main() -> None:
    """Measure each scale in a process of its own, so that its peak of memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", type=Path, default=os.environ.get("AMINI_MIRRORS"))
    parser.add_argument("--scales", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--cluster", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mirrors is None:
        sys.stdout.write("skipped: name a folder of mirrors with --mirrors or AMINI_MIRRORS\n")
        return
    mirrors = Path(given.mirrors).absolute()
    out = given.out or Path(tempfile.mkdtemp(prefix="amini-curation-"))
    if given.one:
        folder = out / f"{given.one}{'-ray' if given.cluster else ''}"
        result = measured(mirrors, out / f"events-{given.one}", folder, given.cluster)
        sys.stdout.write(json.dumps({"scale": given.one, "cluster": bool(given.cluster), **result}) + "\n")
        return
    for scale in given.scales:
        if not (out / f"events-{scale}").exists():
            write_events(mirrors, out / f"events-{scale}", given.share * scale / max(given.scales))
        own = [sys.executable, "-m", "tests.benchmarks.curation", "--mirrors", str(mirrors), "--out", str(out)]
        for cluster in dict.fromkeys(("", given.cluster)):
            more = ["--cluster", cluster] if cluster else []
            subprocess.run([*own, "--one", str(scale), *more], check=True)


if __name__ == "__main__":
    main()
