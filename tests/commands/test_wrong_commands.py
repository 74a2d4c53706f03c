"""Mistaken commands, as a newcomer makes them: one line on stderr, an exit code, and nothing on stdout.

`golden/wrong_commands.txt` has what is typed after `$`, then the exit code and the line. It is run in this process
through the console script's own entry, in a repository with `FILES_THERE` beside it. `{dead}` is an address where
nobody listens, `{fake}` a server of the model "scripted", `{web}` one that is no model server, `{docker}` a Docker
daemon without any image; variables stand before `amini`. No answer of the model is paid for, unless the code is 5.
"""

import re
import shlex
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentless_mini import cli
from agentless_mini.learning.rows import Row, write_rows
from agentless_mini.record import Store
from agentless_mini.record.schema import VERSION
from tests.commands.running import FILES, ISSUE, VOTE_ALONE, Home, one_sentence, server
from tests.fakes.server import ScriptedServer
from tests.gitrepo import git, make_repository, write_files
from tests.learning.tiny import need_training

DEAD = "http://127.0.0.1:9/v1"
PAGES = {
    "/html/v1/models": (200, "<html>It works!</html>"),
    "/none/v1/models": (200, '{"data": []}'),
    "/key/v1/models": (401, "{}"),
    "/version": (200, '{"ApiVersion": "1.44"}'),
    "/v1.44/info": (200, '{"NCPU": 2, "MemTotal": 8000000000}'),
    "/v1.44/containers/json": (200, "[]"),
    "/v1.44/images/create": (404, '{"message": "manifest unknown"}'),
    "/v1.44/images/example.org/none:1/json": (404, '{"message": "No such image"}'),
    "/v1.44/distribution/example.org/none:1/json": (404, '{"message": "manifest unknown"}'),
}
FILES_THERE = {
    "issue.md": ISSUE.encode(),
    "empty.md": b"\n",
    "picture.png": b"\x89PNG\r\n\x1a\n\0\0\0",
    "plain/x.txt": b"x\n",
    "broken.toml": b"[repair\n",
    "unknown.toml": b"[repair]\nsample = 3\n",
    "typed.toml": b'[repair]\nsamples = "many"\n',
    "prompts/localize.j2": b"{{ nothing_such }}",
    "named/lokalize.j2": b"x",
    "words.jsonl": b"words\n",
    "row.jsonl": b'{"instance_id": "a__b-1"}\n',
    "whole.jsonl": b'{"instance_id":"a__b-1","repo":"a/b","base_commit":"c","problem_statement":"p","patch":""}\n',
    "words.parquet": b"words\n",
    "two.jsonl": b"".join(b'{"instance_id":"a__b-%d","model_patch":""}\n' % number for number in (1, 2)),
    "none/x.txt": b"x\n",
    "rows.json": b"[]",
    "fix.patch": b"--- a/shop/tax.py\n+++ b/shop/tax.py\n@@ -1 +1 @@\n-RATE = 0.2\n+RATE = 0.25\n",
}
"""What lies beside the repository in which the commands are given."""

_TEXT = (Path(__file__).parent / "golden" / "wrong_commands.txt").read_text("utf-8")
TABLE = re.findall(r"^\$ (.+)\n(\d+ .+)$", _TEXT, re.MULTILINE)
assert len(TABLE) == _TEXT.count("\n$ ") >= 60  # the tests below would pass without any


@dataclass(frozen=True, slots=True)
class Scene:
    """A user's home, and the addresses that the commands name."""

    home: Home
    fake: ScriptedServer
    web: str

    def filled(self, text: str) -> str:
        """Return a line of the table with what its names stand for in this scene."""
        docker = self.web.replace("http:", "tcp:")
        addresses = {"dead": DEAD, "fake": self.fake.url, "web": self.web, "docker": docker}
        names = {**addresses, "root": self.home.root, "python": sys.executable, "schema": VERSION}
        return re.sub(r"\{(\w+)\}", lambda found: str(names.get(found[1], found[0])), text)


class Pages(BaseHTTPRequestHandler):
    """A server that is no model server, in several ways."""

    def do_GET(self) -> None:
        """Answer by the first folders of the path."""
        status, page = PAGES.get(self.path.partition("?")[0], (404, "not here"))
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page.startswith("<") else "application/json")
        self.end_headers()
        self.wfile.write(page.encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def pages() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("wrong")
    write_files(root, {**FILES_THERE, "config/amini/config.toml": VOTE_ALONE.encode()})
    (root / "new").mkdir()
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    git(root / "new", "init", "--quiet")
    write_rows(root / "rows.parquet", [Row("a", "r", "", "i", "", (), "", "", "", "train")])
    write_rows(root / "checked.parquet", [Row("a", "r", "", "i", "", (), "", "", "", "train", check="pass")])
    for name, version in (("old.sqlite", None), ("newer.sqlite", 999_999)):
        Store.open(root / name).close()
        if version:
            with closing(sqlite3.connect(root / name)) as database:
                database.execute(f"PRAGMA user_version = {version}")
    with server() as fake, pages() as web:
        home = Home(root, make_repository(root / "shop", FILES))
        home.amini("repair", ".", "../issue.md", "--base-url", fake.url, "-q", "--store", "../runs.sqlite")
        yield Scene(home, fake, web)


@pytest.mark.parametrize(("typed", "told"), TABLE, ids=[typed for typed, _ in TABLE])
def test_a_mistake_gets_one_line(typed: str, told: str, scene: Scene) -> None:
    if re.search(r"\bamini learn (?:sft|rl|reward-model|export)\b", typed):
        need_training()
    words = shlex.split(scene.filled(typed))
    at = words.index("amini")
    delivered = len(scene.fake.log.deliveries)
    done = scene.home.amini(*words[at + 1 :], env=dict(word.split("=", 1) for word in words[:at]))
    code = done.returncode
    assert done.stdout == ""
    assert code == 5 or len(scene.fake.log.deliveries) == delivered
    line = done.stderr.strip() if code == 5 else one_sentence(done.stderr)
    assert re.sub(r"-[0-9a-f]{12}\.sqlite", "-{hash}.sqlite", f"{code} {line}") == scene.filled(told)


@pytest.mark.parametrize(
    ("lacking", "code", "line"),
    [
        ("<&-", 2, "The issue from the standard input is empty: say what goes wrong, and what should happen instead."),
        (">&-", 2, "The standard output is closed: leave it open, or let amini repair write to a file with -o."),
        ("<../issue.md >/dev/full", 3, f"Nothing answers at {DEAD}: start the model server, or give --base-url."),
    ],
)
def test_a_process_that_was_started_oddly(scene: Scene, lacking: str, code: int, line: str) -> None:
    command = shlex.join(scene.home.command("repair", ".", "-", "--base-url", DEAD))
    done = scene.home.run(["/bin/sh", "-c", f"{command} {lacking}"])
    assert (done.returncode, one_sentence(done.stderr)) == (code, line)


@pytest.mark.parametrize(
    "typed",
    [
        "repiar . ../issue.md",
        "repair . ../issue.md -n 0",
        "eval --dataset ../row.jsonl",
        "learn export ../nowhere --merge ../merged",
        "learn sft ../plain --model m --out ../trained --kind best",
        "learn rl ../checked.parquet --model ../model --out ../trained --reward tests",
    ],
)
def test_a_mistake_is_told_before_libraries_are_loaded_that_take_seconds(scene: Scene, typed: str) -> None:
    told = """
import atexit, sys
from agentless_mini import cli
slow = {"torch", "transformers", "trl", "ray", "swebench", "xllamacpp"}
atexit.register(lambda: print(*sorted(slow & set(sys.modules))))
cli.app(sys.argv[1:], prog_name="amini")
"""
    done = scene.home.run([sys.executable, "-c", told, *shlex.split(typed)])
    lacks_trainers = typed.startswith("learn") and find_spec("torch") is None and "--kind" not in typed
    assert (done.returncode, done.stdout) == (4 if lacks_trainers else 2, "\n"), done.stderr


COMMANDS = [(), *(tuple(full.split()) for full in cli.amini.full_names().values())]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_whole_at_80_columns(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.app([*words, "--help"], prog_name="amini")
    out, err = capfd.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("]...", "").replace("}...", "")
    assert "[[" not in out
