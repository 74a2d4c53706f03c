"""A build that means harm: what its setup reaches, in real boxes. Only the index is there, without its password."""

import base64
import ctypes
import http.server
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Event, Runner
from agentless_mini.environment.work import Opened
from agentless_mini.settings.run import SandboxSettings
from tests.environment.trees import opened, request, sentences, tree
from tests.sandbox.isolation import NUMBERS, PRELUDE

pytestmark = pytest.mark.slow
PASSWORD = "p4ss-of-the-index"  # noqa: S105 - it is for this test
SECRET = "s3cret-of-the-machine"  # noqa: S105 - the same
ASKING = """
def asked(line, *more):
    "Ask the proxy, as curl would, and return what it answers where that is no refusal."
    import base64, urllib.parse
    there = urllib.parse.urlsplit(os.environ['http_proxy'])
    proof = base64.b64encode((there.username + ':' + there.password).encode()).decode()
    with socket.create_connection((there.hostname, there.port), 5) as line_out:
        lines = [line, 'Proxy-Authorization: Basic ' + proof, *more, '', '']
        line_out.sendall('\\r\\n'.join(lines).encode())
        said = line_out.recv(4096).decode('latin-1')
    assert ' 200 ' in said.partition('\\r\\n')[0], said
    return said
def everything():
    "All that a process of the build can read without being told where."
    said = [repr(os.environ)]
    for top in ('/proc', '/tmp', '/etc', '/run', '/root', '/home', '.', os.environ.get('TMPDIR', '/tmp')):
        for folder, _, names in os.walk(top):
            for name in names:
                if top == '/proc' and name not in ('environ', 'cmdline', 'mountinfo', 'keys', 'unix'):
                    continue
                try:
                    with open(os.path.join(folder, name), 'rb') as file:
                        said.append(file.read(100_000).decode('latin-1'))
                except OSError:
                    pass
            if len(said) > 5000:
                break
    return ''.join(said)
"""
ATTACKS = {
    "a build reaches no service on 127.0.0.1": [
        "socket.create_connection(('127.0.0.1', {service}), 2)",
        "socket.create_connection(('localhost', {service}), 2)",
        *(
            f"asked('{way} HTTP/1.1')"
            for name in ("127.0.0.1", "localhost", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]", "2130706433")
            for way in (f"CONNECT {name}:{{service}}", f"GET http://{name}:{{service}}/")
        ),
    ],
    "a build reaches no abstract socket": ["socket.socket(socket.AF_UNIX).connect({abstract!r})"],
    "a build has no key of the user's session": [
        "call('keyctl', 10, -3, b'user', b'amini-test-key', 0)",
        "call('add_key', b'user', b'amini-box', b'x', 1, -3)",
        "[1 for line in open('/proc/keys') if 'amini-test-key' in line][0]",
    ],
    "a build does not learn or use the password of the index": [
        "everything().index({password!r}[::-1])",
        "everything().index({proof!r}[::-1])",
        "asked('GET http://{index}/user HTTP/1.1').index('allowed')",
        "asked('GET http://{index}/group/simple/../../user HTTP/1.1').index('allowed')",
        "asked('GET http://{index}/group/%2e%2e/user HTTP/1.1').index('allowed')",
        "asked('POST http://{index}/group/simple/ HTTP/1.1')",
    ],
    "a build reads no file of the machine": [
        "open({secret!r}).read()",
        "everything().index({words!r}[::-1])",
        "os.listdir(os.path.dirname({secret!r})).index('secret')",
        "os.listdir({home!r} + '/.ssh')",
        "asked('GET file://{secret} HTTP/1.1')",
    ],
    "a build reaches no other host": [
        "socket.create_connection(('1.1.1.1', 53), 2)",
        "socket.getaddrinfo('example.com', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))",
        "asked('CONNECT example.com:443 HTTP/1.1')",
        "asked('CONNECT 1.1.1.1:443 HTTP/1.1')",
        "asked('GET http://example.com/ HTTP/1.1')",
    ],
    "a build reaches no metadata of a cloud": [
        "socket.create_connection(('169.254.169.254', 80), 2)",
        "asked('GET http://169.254.169.254/latest/meta-data/ HTTP/1.1')",
        "asked('CONNECT 169.254.169.254:80 HTTP/1.1')",
        "asked('GET http://metadata.google.internal/ HTTP/1.1', 'Metadata-Flavor: Google')",
    ],
    "a link of the index leads no build out": [
        "__import__('subprocess').run([sys.executable, '-m', 'pip', 'download', '--no-deps', '-d', '/tmp/got', "
        f"'--retries', '0', {name!r}], check=True)"
        for name in ("away", "moved")
    ],
}


class Index(http.server.BaseHTTPRequestHandler):
    """An index for those who know its password, with packages whose links lead to another server."""

    service = 0

    def do_GET(self) -> None:
        proof = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != proof:
            return self._say(401, b"who are you?")
        there = f"http://127.0.0.1:{self.service}/away-1-py3-none-any.whl"
        if self.path == "/group/simple/moved/":
            return self._say(302, b"", there)
        if self.path == "/group/simple/away/":
            return self._say(200, f"<a href='{there}'>away-1-py3-none-any.whl</a>".encode())
        if self.path == "/group/simple/good/":
            return self._say(200, b"<a href='../../files/good-1-py3-none-any.whl'>good-1-py3-none-any.whl</a>")
        if self.path == "/group/files/good-1-py3-none-any.whl":
            return self._say(200, good())
        return self._say(200 if self.path == "/user" else 404, b"allowed")

    do_POST = do_GET

    def _say(self, status: int, body: bytes, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def good() -> bytes:
    import io

    info, data = "good-1.dist-info", io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("good.py", "VALUE = 41\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: good\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return data.getvalue()


@contextmanager
def machine(folder: Path) -> Iterator[dict[str, object]]:
    """Lay out what a build must not reach, and an index that it may; nothing may have come to the service."""
    libc, name = ctypes.CDLL(None, use_errno=True), f"\0amini-build-{os.getpid()}".encode()
    number = ctypes.c_long(NUMBERS["add_key"])
    libc.syscall(number, b"user", b"amini-test-key", b"secret", 6, -3)
    (folder / "secret").write_text(SECRET)
    index = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    with socket.create_server(("127.0.0.1", 0)) as service, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        Index.service = service.getsockname()[1]
        serving = threading.Thread(target=index.serve_forever)
        serving.start()
        try:
            yield {
                "service": service.getsockname()[1],
                "abstract": name,
                "index": f"127.0.0.1:{index.server_port}",
                "password": PASSWORD[::-1],  # the program itself can be read
                "proof": base64.b64encode(f"me:{PASSWORD}".encode()).decode()[::-1],
                "secret": str(folder / "secret"),
                "words": SECRET[::-1],
                "home": str(Path.home()),
            }
            for door in (service, abstract):
                door.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    door.accept()
        finally:
            index.shutdown()
            index.server_close()
            serving.join()


def hostile(given: dict[str, object]) -> str:
    """Return a program that tries all attacks and prints those that went through."""
    lines = [PRELUDE, ASKING]
    for name, attempts in ATTACKS.items():
        for attempt in attempts:
            code = attempt
            for key, value in given.items():
                code = code.replace(f"{{{key}!r}}", repr(value)).replace(f"{{{key}}}", str(value))
            lines += ["try:", f"    got = {code}", f"    print('THROUGH', {name!r}, repr(got)[:200])"]
            lines += ["except BaseException as error:", "    print('refused:', repr(error)[:200])"]
    return "\n".join([*lines, "print('ALL TRIED')"])


def built(settings: SandboxSettings, cache: Path, folder: Path) -> str:
    """Build with a hostile setup command, and return the log: the index was of use to it all the same."""
    with machine(folder) as given:
        asked = request(tree({"hostile.py": hostile(given), "module.py": ""}), cache, Runner.UNITTEST)
        variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        variables |= {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"http://me:{PASSWORD}@{given['index']}/group/simple",
        }
        command = "python hostile.py; python -m pip install good && python -c 'import good; print(good.VALUE)'"
        asked = replace(asked, variables=variables)
        events: list[Event] = []
        assert isinstance(opened(asked, settings.model_copy(update={"setup": command}), events), Opened)
        assert any("The build was kept from 127.0.0.1, localhost" in note for note in sentences(events))
    log = next(cache.glob("environments/*/build.log")).read_text()
    assert "ALL TRIED" in log
    assert "41" in log.splitlines()
    return log


def through(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("THROUGH")]


@pytest.mark.usefixtures("boxes")
def test_a_hostile_build_in_bubblewrap(tmp_path: Path) -> None:
    log = built(SandboxSettings.model_validate({"kind": "local", "boxes": 1}), tmp_path / "cache", tmp_path)
    assert through(log) == []


def test_a_hostile_build_in_landlock(open_cache: Path, tmp_path: Path) -> None:
    log = built(SandboxSettings.model_validate({"kind": "landlock", "boxes": 1}), open_cache, tmp_path)
    assert through(log) == []


@pytest.mark.thorough
def test_a_hostile_build_in_docker(base: str, tmp_path: Path) -> None:
    settings = SandboxSettings.model_validate({"kind": "docker", "boxes": 1, "base_image": base})
    assert through(built(settings, tmp_path / "cache", tmp_path)) == []
