"""stdout is for the result, stderr for people: consoles, the report of a failure, and its exit code."""

import contextlib
import io
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from agentless_mini.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    AminiError,
    EnvironmentFailed,
    Untestable,
    UsageError,
    boundary,
    printable,
    reason,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

EXIT_FOUND = 0
EXIT_NO_PATCH = 1
EXIT_UNTRUSTED = Untestable.exit_code
PIPED_WIDTH = 240

_STDOUT = 1
_STDERR = 2
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_HTTP_USER = re.compile(r"(https?://)[^/?#\s]*@", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)([^:@/?#\s]*):[^/?#\s]*@")


class _People(io.RawIOBase):
    """stderr, which takes everything: when nobody reads it any more, the result on stdout is still wanted."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(_STDERR)

    def fileno(self) -> int:
        return _STDERR

    def write(self, data: "ReadableBuffer", /) -> int:
        with contextlib.suppress(OSError):
            return os.write(_STDERR, data)
        return memoryview(data).nbytes


class _Closed(io.RawIOBase):
    """stdout of a process that was started without one."""

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> NoReturn:
        raise _stdout_closed()


class _Console(Console):
    """Shows foreign text as text, whoever prints it: none of it is markup, and no character steers or hides."""

    def __init__(self, **how: Any) -> None:  # noqa: ANN401 - whatever the base class takes
        columns = os.environ.get("COLUMNS", "").lstrip("0")  # with 0, nothing at all would be shown
        told = {**os.environ, "COLUMNS": columns if columns.isdecimal() else ""}
        super().__init__(soft_wrap=True, markup=False, emoji=False, highlight=False, _environ=told, **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            text = "\n".join(map(printable, segment.text.split("\n")))
            yield segment if segment.control else segment._replace(text=text)


class _Results(_Console):
    """A console whose reader may have had enough, which `reported` tells by the exit code as for any other result."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def results() -> Console:
    """Return the console for a result that is text: stdout; piped, tables are as wide as they want to be."""
    narrow = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return _Results(width=None if narrow else PIPED_WIDTH)


def people(*, quiet: bool = False) -> Console:
    """Return the console for people: stderr, in colour only on a terminal and without NO_COLOR."""
    stream = io.BufferedWriter(_People())
    return _Console(file=io.TextIOWrapper(stream, sys.stderr.encoding, "backslashreplace"), quiet=quiet)


def noted(console: Console) -> Callable[[str], None]:
    """Return what tells people one thing, in a line of its own."""
    return lambda text: console.print(f"note: {' '.join(text.split())}", style="yellow")


def require_stdout() -> None:
    """Raise `UsageError` where the process was started without a standard output, before anything is paid for."""
    if isinstance(sys.stdout.buffer, _Closed):
        raise _stdout_closed()


def require_place(file: Path | None) -> None:
    """Refuse a place for the result, stdout or a file, that could not be written in the end."""
    if file is None:
        require_stdout()
        return
    name, folder = printable(str(file)), file.parent
    with boundary({OSError: lambda error: EnvironmentFailed(f"{name} cannot be reached ({reason(error)}): check -o.")}):
        if file.is_dir():
            raise UsageError(f"{name} is a folder: name a file in it with -o.")
        if not folder.is_dir():
            raise UsageError(f"There is no folder {printable(str(folder))}: make it, or name another file with -o.")
        if not os.access(file if file.exists() else folder, os.W_OK):
            raise EnvironmentFailed(f"There is no permission to write {name}: name another file with -o.")


def write_result(data: bytes, file: Path | None) -> None:
    """Write the result of a command to its file, else to stdout."""
    if file is None:
        write_patch(data)
        return
    unwritable = f"The result cannot be written to {file}"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({reason(error)}): name another with -o.")}):
        file.write_bytes(data)


def write_patch(patch: bytes) -> None:
    """Write a patch to stdout, in its own bytes; a terminal is shown what could steer it as escapes."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(patch)
    else:
        from agentless_mini.report.console import escaped

        sys.stdout.write(escaped(patch.decode("utf-8", "replace")))
    sys.stdout.flush()


def write_page(file: Path, page: str) -> None:
    """Write a page to a file, and its address to people. Raises `EnvironmentFailed` where it cannot be written."""
    unwritable = f"The page cannot be written to {printable(str(file))}"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({reason(error)}): name another file.")}):
        file.write_text(page, encoding="ascii")
    people().print(f"the page: {file.resolve().as_uri()}")


def without_passwords(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return the words of a command line with the passwords of the URLs in them as `***`, for the record.

    Of an http(s) address the user goes too: it can be a token. Of others (ssh) the user stays.
    """
    return tuple(_PASSWORD.sub(r"\1:***@", _HTTP_USER.sub(r"\1***@", word)) for word in arguments)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn whatever ends a command early into one sentence on stderr and the documented exit code.

    SIGTERM and SIGHUP end a command as Ctrl-C does. Standard streams that the process was started without are stood in
    for: an empty stdin, a stderr that nobody reads, a stdout that can only be refused. What the encoding of stdout has
    not is escaped. With AMINI_DEBUG set the traceback is shown as well.
    """
    _stand_in()
    with _ended_by_signals():
        try:
            try:
                yield
            except typer.Exit:
                sys.stdout.flush()  # so that it fails where it can be told
                raise
            sys.stdout.flush()
        except typer.Exit:
            raise
        except AminiError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail(
                "Interrupted: everything so far is recorded, and the same command continues from there.",
                EXIT_INTERRUPTED,
            )
        except (OSError, MemoryError) as error:
            _fail_here(error)
        except Exception as error:  # noqa: BLE001 - the outermost edge: a bug is reported, never a traceback
            _fail(
                f"This is a bug in amini ({_said(error)}): run again with AMINI_DEBUG=1 and report what it shows.",
                EXIT_BUG,
            )


def _stand_in() -> None:
    """Fill the places of missing standard streams, or the next file or socket that is opened would get one."""
    for number in range(_STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_Closed(), write_through=True)
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(_People()), "utf-8", "backslashreplace", line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError):  # what help left there cannot be written, which is told when all is
            sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the signals end the block as Ctrl-C does; those that were ignored from the start (nohup) stay ignored."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heeded:
            if signal.getsignal(number) in {_interrupt, signal.SIG_IGN}:
                signal.signal(number, before[number])


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # The kernel and the shell both send SIGHUP, timeout(1) sends SIGTERM twice: a second must not end the recording.
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    as_for_ctrl_c = signal.getsignal(signal.SIGINT)  # where tasks run, that of asyncio, which lets them end orderly
    if not callable(as_for_ctrl_c):
        raise KeyboardInterrupt
    as_for_ctrl_c(signal.SIGINT, frame)


def _fail_here(error: OSError | MemoryError) -> NoReturn:
    """Report that the machine does not do its part. That the reader of stdout has had enough is told to nobody."""
    try:
        sys.stdout.flush()
    except OSError:  # Python would try to write once more at exit
        sys.stdout = io.TextIOWrapper(io.BytesIO())
    poll = select.poll()
    poll.register(_STDOUT, 0)  # errors are told in any case
    if isinstance(error, BrokenPipeError) and poll.poll(0):
        raise typer.Exit(EnvironmentFailed.exit_code) from None
    _fail(
        f"amini cannot continue on this machine ({_said(error)}): free disk space or memory, and try again.",
        EnvironmentFailed.exit_code,
    )


def _stdout_closed() -> UsageError:
    return UsageError("The standard output is closed: leave it open, or let amini repair write to a file with -o.")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _fail(sentence: str, code: int) -> NoReturn:
    if os.environ.get("AMINI_DEBUG"):
        people().print(traceback.format_exc())
    from agentless_mini.report.console import flowed

    console = people()
    told = Text(flowed(f"amini: {' '.join(sentence.split())}", console, 7))
    told.stylize("bold red", 0, len("amini: "))
    console.print(told)
    raise typer.Exit(code) from None
