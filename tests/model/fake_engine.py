"""A stand-in for an engine, for the tests of starting and stopping: a real program with a real port and real children.

As a program: `fake_engine.py --port N` and the flags below; what else it is given, as vLLM is, it ignores.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] == "leaves": os.setsid()
with open(sys.argv[1], "a") as file: file.write(f"{os.getpid()}\\n")
time.sleep(300)
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the log to what the tests say."""


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--say", action="append", default=[])
    parser.add_argument("--crash", action="store_true", help="end before serving")
    parser.add_argument("--fall", action="store_true", help="end instead of serving, when the children are there")
    parser.add_argument("--children", type=int, default=0)
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--pids", default=os.devnull)
    options, _ = parser.parse_known_args()
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Path(options.pids).open("a") as file:
        file.write(f"{os.getpid()}\n")
    for number in range(options.children):
        subprocess.Popen([sys.executable, "-c", CHILD, options.pids, "leaves" if number % 2 else "stays"])
    for line in options.say:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if options.crash:
        os._exit(1)
    time.sleep(options.slow)
    if options.fall:
        os._exit(1)
    HTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()


def numbers(pids: Path, count: int) -> tuple[int, ...]:
    """Return the process numbers that a server and its children wrote down, once there are so many."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = re.findall(r"(\d+)\n", pids.read_text()) if pids.exists() else []
        if len(found) >= count:
            return tuple(map(int, found))
        time.sleep(0.02)
    raise AssertionError(f"fewer than {count} processes started")
