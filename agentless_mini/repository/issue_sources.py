"""Reads the text of an issue: from a file, a stream, the command line, or GitHub.

What comes out is text that every later stage can encode and print: bytes that are no UTF-8 and lone surrogates are
replaced, line ends are newlines, and control characters (with the escape sequences of coloured terminal output) are
left out; tabs stay. Of a GitHub issue the title and the body are read, not the comments: they may tell the solution.

It does not judge what the text says, and it reads no environment: the token is a parameter.
"""

import codecs
import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import urlsplit

from agentless_mini.domain import Issue
from agentless_mini.errors import IssueError, Translation, boundary, printable

# GitHub's own limit is 65,536 characters. Beyond 1 MiB somebody named a log or the wrong file.
MAX_BYTES = 1024 * 1024

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),  # what a PowerShell redirection writes
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LEADING_BLANK_LINES = re.compile(r"\A\s*\n")
_LINE_END = re.compile(r"\r\n?")
_TERMINAL_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_REFERENCE = re.compile(r"(?P<owner>\w[\w-]*)/(?P<name>[\w.-]+)#(?P<number>[1-9][0-9]{0,9})", re.ASCII)
_ISSUE_URL = re.compile(
    r"https?://(www\.)?github\.com/(?P<owner>\w[\w-]*)/(?P<name>[\w.-]+)/(issues|pull)/(?P<number>[1-9][0-9]{0,9})"
    r"(/[\w/-]*)?(\?[^#]*)?(#.*)?",
    re.ASCII | re.IGNORECASE,
)
_OTHER_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HEADERS = {
    "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "agentless-mini",
}  # fmt: skip
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "GitHub does not take the token: renew GITHUB_TOKEN, or unset it for a public repository",
    HTTPStatus.FORBIDDEN: "the token may not read it: set a GITHUB_TOKEN that may",
    HTTPStatus.NOT_FOUND: "it does not exist or is private: check the address, or set a GITHUB_TOKEN that may read it",
    HTTPStatus.GONE: "it was deleted: save what is known of it in a file",
}


@dataclass(frozen=True, slots=True)
class GitHub:
    """How GitHub's REST API is reached. `api` is an http(s) URL, `timeout` is in seconds, `token` "" is none."""

    api: str = "https://api.github.com"
    token: str = field(default="", repr=False)
    timeout: float = 30.0


def literal_issue(text: str, source: str = "the command line") -> Issue:
    """Return the issue that a text states. Raises `IssueError` where it is blank or over `MAX_BYTES`."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > MAX_BYTES:
        raise _too_long(source)
    lines = _LINE_END.sub("\n", encoded.decode())
    cleaned = _CONTROL.sub("", _TERMINAL_SEQUENCE.sub("", lines))
    if not cleaned.strip():
        raise IssueError(f"The issue from {source} is empty: say what goes wrong, and what should happen instead.")
    return Issue(_LEADING_BLANK_LINES.sub("", cleaned).rstrip() + "\n", source)


def read_issue(what: str, stdin: BinaryIO, github: GitHub) -> Issue:
    """Read the issue that the argument names.

    `what` is "-" for `stdin`, the URL of an issue or pull request on github.com, a path, or `owner/name#number` where
    there is no such file. Raises `IssueError`.
    """
    if what == "-":
        return _from_bytes(_read_limited(stdin, "the standard input"), "the standard input")
    if reference := _ISSUE_URL.fullmatch(what):
        return _from_github(reference, github)
    if _OTHER_URL.match(what):
        raise IssueError(f"{printable(what)} is no issue on github.com: save its text in a file and name that.")
    with contextlib.suppress(OSError, ValueError):
        if Path(what).exists():
            return _from_file(what)
    reference = _REFERENCE.fullmatch(what)
    return _from_github(reference, github) if reference else _from_file(what)


def _from_file(what: str) -> Issue:
    name = printable(what)
    translation: Translation = {
        FileNotFoundError: lambda _: IssueError(
            f"There is no file {name}: name one, an issue of GitHub as owner/name#12, or give the text with --text."
        ),
        IsADirectoryError: lambda _: IssueError(f"{name} is a folder: name the file that holds the issue."),
        OSError: lambda error: IssueError(f"The issue file {name} cannot be read ({_reason(error)}): check the path."),
        ValueError: lambda _: IssueError(f"{name} is no file name: name a file, or give the text with --text."),
    }
    with boundary(translation), Path(what).open("rb") as file:
        data = _read_limited(file, name)
    if b"\0" in data and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise IssueError(f"{name} holds no text: name a file of plain text or Markdown.")
    return _from_bytes(data, name)


def _from_bytes(data: bytes, source: str) -> Issue:
    mark, encoding = next((pair for pair in _BYTE_ORDER_MARKS if data.startswith(pair[0])), (b"", "utf-8"))
    return literal_issue(data[len(mark) :].decode(encoding, "replace"), source)


def _read_limited(stream: IO[bytes] | http.client.HTTPResponse, source: str) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_long(source)
    return data


def _from_github(reference: re.Match[str], github: GitHub) -> Issue:
    owner, name, number = reference["owner"], reference["name"], reference["number"]
    source = f"https://github.com/{owner}/{name}/issues/{number}"
    answer = _ask(f"repos/{owner}/{name}/issues/{number}", source, github)
    with boundary({ValueError: lambda _: _no_issue(source), RecursionError: lambda _: _no_issue(source)}):
        found = json.loads(answer)
    match found:
        case {"title": str(title), "body": str() | None as body}:
            return literal_issue(f"{title}\n\n{body or ''}", source)
    raise _no_issue(source)


def _ask(path: str, source: str, github: GitHub) -> bytes:
    """Return the body of GitHub's answer."""
    if not github.api.startswith(("https://", "http://")):
        raise IssueError(f"{printable(github.api)} is no address of GitHub's API: use one that begins with https://.")
    token = github.token.strip()
    if not (token.isascii() and token.isprintable()):  # checked here: the HTTP library would quote it in its complaint
        raise IssueError("GITHUB_TOKEN holds characters that no token has: copy it again, or unset it.")
    headers = {**_HEADERS, **({"Authorization": f"Bearer {token}"} if token else {})}
    failures = (OSError, http.client.HTTPException, ValueError)
    with boundary(dict.fromkeys(failures, lambda error: _failure(error, source))):
        request = urllib.request.Request(f"{github.api.rstrip('/')}/{path}", headers=headers)  # noqa: S310 - see above
        with urllib.request.build_opener(_SameServer).open(request, timeout=github.timeout) as response:
            return _read_limited(response, source)


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows a redirect (a renamed repository, a moved issue) only to the same server: the token goes nowhere else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:  # scheme and host
            raise urllib.error.URLError(f"it redirects to another server, {urlsplit(newurl).hostname}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> IO[bytes] | None:
        with contextlib.closing(fp):  # urllib leaves the answer open where it refuses to follow it
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _failure(error: BaseException, source: str) -> IssueError:
    """Say what to do about an answer that is an error, or about none."""
    if not isinstance(error, urllib.error.HTTPError):
        reason = _reason(error)
        return IssueError(f"{source} cannot be fetched ({reason}): check the network, or save its text in a file.")
    status, exhausted = error.code, error.headers.get("x-ratelimit-remaining") == "0"
    error.close()
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and exhausted):
        advice = "GitHub's limit on requests is used up: set GITHUB_TOKEN, or try again in an hour"
    else:
        advice = _ADVICE.get(status, "GitHub may be failing: try again later, or save the issue's text in a file")
    return IssueError(f"{source} cannot be fetched (status {status}): {advice}.")


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return printable(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


def _too_long(source: str) -> IssueError:
    return IssueError(f"The issue from {source} is over {MAX_BYTES // 1024} KiB: keep what describes the problem.")


def _no_issue(source: str) -> IssueError:
    return IssueError(f"What came for {source} is not an issue of GitHub's API: save the issue's text in a file.")
