"""Issues are read from real files, streams and a real HTTP server that plays GitHub."""

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.errors import IssueError
from agentless_mini.repository.issue_sources import MAX_BYTES, GitHub, literal_issue, read_issue

ISSUE = {"title": "Crash on save", "body": "It fails.\r\n\r\n    f(1)\r\n", "number": 12}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class FakeGitHub:
    """A server that answers by path and keeps what it was asked, as (path, headers)."""

    replies: dict[str, Reply]
    address: str = ""
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def serve(replies: dict[str, Reply]) -> Iterator[FakeGitHub]:
    fake = FakeGitHub(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            reply = fake.replies.get(self.path, Reply(404, b"{}"))
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answered(reply: Reply) -> dict[str, Reply]:
    return {"/repos/o/n/issues/12": reply}


def read(what: str, github: GitHub | None = None, stdin: bytes = b"") -> str:
    return read_issue(what, io.BytesIO(stdin), github or GitHub(api="http://127.0.0.1:9")).text


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(IssueError) as caught:
        call()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_file_is_read_and_named_as_the_source(tmp_path: Path) -> None:
    path = tmp_path / "issue 1.md"
    path.write_text("Sums are wrong.\n")
    issue = read_issue(str(path), io.BytesIO(), GitHub())
    assert (issue.text, issue.source) == ("Sums are wrong.\n", str(path))


def test_a_dash_is_the_standard_input() -> None:
    issue = read_issue("-", io.BytesIO(b"from a pipe"), GitHub())
    assert (issue.text, issue.source) == ("from a pipe\n", "the standard input")


def test_literal_text_is_an_issue() -> None:
    assert literal_issue("- a list\n- of two").text == "- a list\n- of two\n"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfmark", "mark\n"),
        ("größer".encode("utf-16"), "größer\n"),
        (b"\xfe\xff" + "größer".encode("utf-16-be"), "größer\n"),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}\n"),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree\n"),
        (b"a\0b\x08c\x7f\x1bd\te", "abcd\te\n"),
        (b"\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b\\", "red link\\\n"),
        (b"\n  \n    indented\n\n", "    indented\n"),
    ],
)
def test_bytes_become_clean_text(data: bytes, text: str) -> None:
    assert read("-", stdin=data) == text


def test_a_lone_surrogate_is_replaced() -> None:
    assert literal_issue("a\udce9b").text == "a?b\n"


@given(st.binary(max_size=400))
def test_any_bytes_give_text_that_can_be_encoded_or_are_called_empty(data: bytes) -> None:
    try:
        text = read("-", stdin=data)
    except IssueError as error:
        assert "is empty" in str(error)  # noqa: PT017 - one of the two outcomes that are allowed
    else:
        text.encode()
        assert text == text.rstrip() + "\n"
        assert not {char for char in text if ord(char) < 32} - {"\n", "\t"}


@pytest.mark.parametrize("blank", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\x1b[0m\0"])
def test_a_blank_issue_is_refused(blank: bytes) -> None:
    assert "is empty: say what goes wrong" in error_of(lambda: read("-", stdin=blank))


def test_an_issue_over_the_limit_is_refused_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    assert len(read("-", stdin=b"x" * MAX_BYTES)) == MAX_BYTES + 1
    assert "is over 1024 KiB" in error_of(lambda: read("-", stdin=b"x" * (MAX_BYTES + 1)))
    assert "is over 1024 KiB" in error_of(lambda: literal_issue("é" * (MAX_BYTES // 2 + 1)))
    endless = tmp_path / "endless"
    endless.symlink_to("/dev/zero")
    assert "is over 1024 KiB" in error_of(lambda: read(str(endless)))


def test_what_is_no_readable_file_says_so(tmp_path: Path) -> None:
    assert "There is no file" in error_of(lambda: read(str(tmp_path / "none.md")))
    assert "is a folder" in error_of(lambda: read(str(tmp_path)))
    assert "is no file name" in error_of(lambda: read("a\0b"))
    assert "cannot be read (File name too long)" in error_of(lambda: read("x" * 5000))
    assert "There is no file a?b" in error_of(lambda: read("a\nb"))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot be read (Too many levels of symbolic links)" in error_of(lambda: read(str(loop)))


@pytest.mark.parametrize(
    "what",
    [
        "o/n#12",
        "https://github.com/o/n/issues/12",
        "http://www.github.com/o/n/pull/12",
        "HTTPS://GitHub.com/o/n/issues/12",
        "https://github.com/o/n/pull/12/files",
        "https://github.com/o/n/issues/12?x=1#issuecomment-5",
    ],
)
def test_a_github_issue_is_its_title_and_its_body(what: str) -> None:
    with serve(answered(Reply(200, json.dumps(ISSUE).encode()))) as fake:
        issue = read_issue(what, io.BytesIO(), GitHub(api=fake.address + "/"))
    assert issue.text == "Crash on save\n\nIt fails.\n\n    f(1)\n"
    assert issue.source == "https://github.com/o/n/issues/12"


def test_an_issue_without_a_body_is_its_title() -> None:
    with serve(answered(Reply(200, json.dumps({"title": "T", "body": None}).encode()))) as fake:
        assert read("o/n#12", GitHub(api=fake.address)) == "T\n"


def test_a_file_of_that_name_goes_before_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "n#12").write_text("mine")
    assert read("o/n#12") == "mine\n"


def test_the_token_is_sent_only_where_there_is_one() -> None:
    with serve(answered(Reply(200, json.dumps(ISSUE).encode()))) as fake:
        read("o/n#12", GitHub(api=fake.address))
        read("o/n#12", GitHub(api=fake.address, token="secret"))
    (_, anonymous), (_, named) = fake.seen
    assert "authorization" not in anonymous
    assert named["authorization"] == "Bearer secret"
    assert named["accept"] == "application/vnd.github+json"


def test_the_token_is_not_in_the_representation() -> None:
    assert "secret" not in repr(GitHub(token="secret"))


def test_a_moved_issue_is_followed_on_the_same_server() -> None:
    replies = answered(Reply(301, b"", (("Location", "/repositories/7/issues/3"),)))
    replies["/repositories/7/issues/3"] = Reply(200, json.dumps(ISSUE).encode())
    with serve(replies) as fake:
        assert read("o/n#12", GitHub(api=fake.address, token="t")).startswith("Crash on save")


def test_a_redirect_to_another_server_is_not_followed_with_the_token() -> None:
    with serve(answered(Reply(200, json.dumps(ISSUE).encode()))) as other:
        location = (("Location", f"{other.address}/repos/o/n/issues/12"),)
        with serve(answered(Reply(302, b"", location))) as fake:
            sentence = error_of(lambda: read("o/n#12", GitHub(api=fake.address, token="secret")))
    assert "redirects to another server, 127.0.0.1" in sentence
    assert other.seen == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "/repos/o/n/issues/12"])
def test_a_redirect_to_nowhere_is_an_error(location: str) -> None:
    with serve(answered(Reply(302, b"", (("Location", location),)))) as fake:
        assert "cannot be fetched" in error_of(lambda: read("o/n#12", GitHub(api=fake.address)))


LIMIT = (("X-RateLimit-Remaining", "0"),)


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (Reply(401, b"{}"), "renew GITHUB_TOKEN"),
        (Reply(403, b"{}"), "the token may not read it"),
        (Reply(403, b"{}", LIMIT), "limit on requests is used up: set GITHUB_TOKEN"),
        (Reply(429, b"{}"), "limit on requests is used up: set GITHUB_TOKEN"),
        (Reply(404, b"{}"), "does not exist or is private"),
        (Reply(410, b"{}"), "it was deleted"),
        (Reply(502, b"<html>"), "try again later"),
        (Reply(200, b"<html>"), "is not an issue of GitHub's API"),
        (Reply(200, b"[]"), "is not an issue of GitHub's API"),
        (Reply(200, b'{"title": "T", "body": 5}'), "is not an issue of GitHub's API"),
        (Reply(200, b"[" * 200_000), "is not an issue of GitHub's API"),
        (Reply(200, b'{"title": "T", "bo', (("Content-Length", "90000"),)), "is not an issue of GitHub's API"),
        (Reply(200, b'{"title": " ", "body": ""}'), "is empty"),
        (Reply(200, b'"' + b"x" * MAX_BYTES + b'"'), "is over 1024 KiB"),
    ],
)
def test_what_github_answers_instead_is_said_with_advice(reply: Reply, advice: str) -> None:
    with serve(answered(reply)) as fake:
        sentence = error_of(lambda: read("o/n#12", GitHub(api=fake.address, token="secret")))
    assert advice in sentence
    assert "https://github.com/o/n/issues/12" in sentence
    assert "secret" not in sentence


def test_a_server_that_is_not_there_is_said() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        sentence = error_of(lambda: read("o/n#12", GitHub(api=f"http://127.0.0.1:{closed.getsockname()[1]}")))
    assert "cannot be fetched (Connection refused): check the network" in sentence


@pytest.mark.parametrize(("said", "reason"), [(b"", "timed out"), (b"garbage\r\n", "garbage")])
def test_a_server_that_is_silent_or_speaks_no_http_is_said(said: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(said)
                if not said:
                    connection.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        github = GitHub(api=f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.3)
        sentence = error_of(lambda: read("o/n#12", github))
        thread.join()
    assert f"cannot be fetched ({reason}" in sentence


def test_a_token_that_no_header_can_hold_is_an_error_that_does_not_show_it() -> None:
    sentence = error_of(lambda: read("o/n#12", GitHub(api="http://127.0.0.1:9", token="se\ncret")))
    assert "cret" not in sentence


def test_an_api_that_is_no_web_address_is_refused() -> None:
    assert "begins with https://" in error_of(lambda: read("o/n#12", GitHub(api="file:///etc")))


@pytest.mark.parametrize("what", ["https://gitlab.com/o/n/issues/12", "https://github.com/o/n", "file:///etc/passwd"])
def test_another_url_is_refused(what: str) -> None:
    assert "is no issue on github.com" in error_of(lambda: read(what))


@pytest.mark.parametrize("what", ["o/n#0", "o/n#x", "../n#1", "o/n/m#1", "o/n#1\n"])
def test_what_is_no_reference_is_taken_for_a_file(what: str) -> None:
    assert "There is no file" in error_of(lambda: read(what))
