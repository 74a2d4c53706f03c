"""A Ray cluster that is running already, joined from one of its machines: for evaluations and for curations."""

import logging
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from functools import partial

from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.installing import install_command

CONNECT_TIMEOUT = 10.0  # seconds
_QUOTED = 300  # characters of a foreign message


@contextmanager
def ray_connection(address: str) -> Iterator[None]:
    """Connect to the cluster at `HOST:PORT`, or `auto`, and leave it at the end. Raises `EnvironmentFailed`.

    What is printed on standard output meanwhile goes to standard error.
    """
    missing = f"A cluster needs Ray here and on each node: {install_command('cluster')}."
    with boundary({ImportError: lambda _: EnvironmentFailed(missing)}):
        import ray

    def no_cluster(error: BaseException) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"No Ray cluster can be used at {printable(address)} ({quoted(error)}): run `ray start` on this machine as "
            "well, with the same Ray and Python as on its head."
        )

    unreachable = (ConnectionError, RuntimeError, TimeoutError, ValueError, OSError, AssertionError)
    connect = partial(ray.init, address, namespace="amini", log_to_driver=False, logging_level=logging.CRITICAL)
    with redirect_stdout(sys.stderr):  # Ray prints what it thinks of lost nodes there until it is shut down
        with boundary(dict.fromkeys(unreachable, no_cluster)):
            host, colon, port = address.rpartition(":")
            if colon and port.isdecimal():  # where nothing listens Ray tries for a minute and then ends the process
                socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
            with ThreadPoolExecutor(1) as thread:  # where it cannot take over our handling of SIGTERM
                thread.submit(connect).result()
        try:
            yield
        finally:
            ray.shutdown()


def quoted(error: BaseException) -> str:
    """Return what a foreign error says, as a part of a sentence."""
    line = printable(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "..."
