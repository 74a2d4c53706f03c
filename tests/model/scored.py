"""A scorer over HTTP on servers of tests: on the scripted one, and on one that answers a page whatever is asked."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agentless_mini.domain import RewardModel, ScoreRequest, ScoreRoute
from agentless_mini.model.connection import Patience
from agentless_mini.model.scoring import HttpScorer
from agentless_mini.settings.model import ScorerSettings
from tests.fakes.model import Script
from tests.fakes.protocol import ServedModel
from tests.model.contract import run
from tests.model.scorer_contract import RULES, SCORES
from tests.model.served import Clock

SERVED = ServedModel(script=Script(rules=(), scores=RULES))


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None, **settings: object) -> AsyncIterator[HttpScorer]:
    chosen = ScorerSettings.model_validate({"base_url": url, "retries": 3, **settings})
    async with HttpScorer(chosen, Patience(chosen.retries, (clock or Clock()).sleep)) as scorer:
        yield scorer


def score(url: str, request: ScoreRequest, clock: Clock | None = None, **settings: object) -> tuple[float, ...]:
    async def scored() -> tuple[float, ...]:
        async with opened(url, clock, **settings) as scorer:
            return await scorer.scores(request)

    return run(scored())


def asking(route: ScoreRoute, *answers: str, label: int | None = None) -> ScoreRequest:
    return ScoreRequest(RewardModel("scripted", route, label), "prompt", answers or tuple(SCORES))


@contextmanager
def answering(
    page: bytes, status: int = 200, location: str = "", missing: int = 0, pause: float = 0.0
) -> Iterator[str]:
    """Serve one page whatever is asked, or send whoever asks to another `location`.

    Of the page `missing` bytes more are announced, and the connection closed without them after a `pause` in seconds.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(page) + missing))
            self.end_headers()
            self.wfile.write(page)
            self.wfile.flush()
            time.sleep(pause)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with listening(Handler) as url:
        yield url


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on this machine by a handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
