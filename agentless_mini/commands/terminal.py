"""stdout is for the result, stderr for people: consoles, the report of a failure, and the exit codes.

0    a valid patch was found (repair), or the command did what it says
1    no sample became a valid patch
2    usage: bad options, no repository, no issue, a context too small
3    the model server cannot be reached or fails
4    this machine: disk, permission, store in use, a missing program
70   a bug in amini
130  interrupted by Ctrl-C or SIGTERM
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from agentless_mini.errors import AminiError, EnvironmentFailed

EXIT_FOUND = 0
EXIT_NO_PATCH = 1
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class _People(Console):
    """Goes quiet when nobody reads stderr any more: the result on stdout is still wanted."""

    def on_broken_pipe(self) -> None:
        """Stop to write."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def people() -> Console:
    """Return the console for people: stderr, in colour only on a terminal and without NO_COLOR."""
    return _People(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn whatever ends a command early into one sentence on stderr and the documented exit code.

    SIGTERM ends a command as Ctrl-C does. With AMINI_DEBUG set the traceback is shown as well.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except typer.Exit:
        raise
    except AminiError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted: what was paid for is recorded, and the same command goes on from there.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout has gone: nothing more can be told there, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EnvironmentFailed.exit_code) from None
    except (OSError, MemoryError) as error:
        _fail(f"This machine does not let amini go on ({_said(error)}): free room or memory and try again.", 4)
    except Exception as error:  # noqa: BLE001 - the outermost edge: a bug is reported, never a traceback
        _fail(
            f"This is a bug in amini ({_said(error)}): run again with AMINI_DEBUG=1 and report what it shows.", EXIT_BUG
        )
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _fail(sentence: str, code: int) -> NoReturn:
    if os.environ.get("AMINI_DEBUG"):
        traceback.print_exc()
    console = people()
    console.print(Text("amini: ", style="bold red"), Text(" ".join(sentence.split())), sep="", highlight=False)
    raise typer.Exit(code) from None
