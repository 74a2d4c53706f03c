"""A headless Chromium, driven through a pair of pipes by the protocol of its own developer tools: no driver, no port.

Clicks and letters go in as a mouse and a keyboard would send them. What a page writes to its console, throws, or asks
of the network is kept.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It reads commands from descriptor 3 and writes to 4; both were lifted out of the way before.
LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
    "--window-size=1400,1200",
)  # fmt: skip
PATIENCE = 60.0
ABOVE_STANDARD = 10


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def started(program: str) -> Iterator["Page"]:
    """Start a browser with an empty profile and one page; nothing of it is left afterwards."""
    with ExitStack() as opened:
        # A process of the browser may still write while the folder is removed.
        profile = opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        (commands, to_browser), (from_browser, answers) = _pipe(), _pipe()
        line = [
            sys.executable,
            "-c",
            LAUNCHER,
            str(commands),
            str(answers),
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
        ]
        process = opened.enter_context(
            subprocess.Popen(
                [*line, "about:blank"],
                pass_fds=(commands, answers),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        os.close(commands)
        os.close(answers)
        opened.callback(os.close, to_browser)
        opened.callback(os.close, from_browser)
        opened.callback(process.kill)
        page = Page(to_browser, from_browser)
        yield page
        page.call("Browser.close", session=False)
        process.wait(PATIENCE)


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, both above the descriptors that the launcher assigns."""
    ends = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, ABOVE_STANDARD) for end in ends)
    for end in ends:
        os.close(end)
    return reading, writing


class Page:
    """The one page of a browser. `complaints` and `requests` grow while commands are sent."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._to, self._from = to_browser, from_browser
        self._numbers = itertools.count(1)
        self._read = b""
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank", session=False)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True, session=False)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, *, session: bool = True, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is noted."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._message()
            self._note(answer)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file anew and wait until its scripts have run."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"{path.as_uri()}{fragment}")
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def value(self, expression: str) -> object:
        """Return what an expression is worth in the page, as plain values."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        value: object = result["result"].get("value")
        return value

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression} did not become true"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a selector finds, those that are not shown among them."""
        found = self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")
        assert isinstance(found, list)
        return found

    def click(self, selector: str) -> None:
        """Scroll to the first element that a selector finds, and press and release the mouse on it."""
        x, y = self._middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str) -> None:
        """Move the mouse over the first element that a selector finds."""
        x, y = self._middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _middle(self, selector: str) -> tuple[float, float]:
        place = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        assert isinstance(place, list)
        x, y = place
        return x, y

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser ended"
            self._read += data
        line, _, self._read = self._read.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _note(self, message: dict[str, Any]) -> None:
        match message:
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                self.requests.append(url)
            case {"method": "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded"}:
                self.complaints.append(json.dumps(message["params"]))
