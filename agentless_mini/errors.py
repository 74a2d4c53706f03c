"""Every exception that amini raises on purpose, and the translation of foreign ones at an edge.

What a model answers is never an error: see `domain.Rejected`. Anything else that escapes is a bug (exit code 70).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class AminiError(Exception):
    """A failure that a person can act on. `str()` of it is one sentence that says what to try next."""

    exit_code = EXIT_BUG

    def __reduce__(self) -> tuple[object, ...]:
        """Let it be sent to another process, whatever its `__init__` takes."""
        return Exception.__new__, (type(self), *self.args), self.__dict__


class UsageError(AminiError):
    """What the user gave cannot be used."""

    exit_code = 2


class RepositoryError(UsageError):
    """There is no repository, commit or readable tree where the user said."""


class Unreachable(RepositoryError):
    """The machine that a remote repository is on does not answer: whether it is there is not known."""


class IssueError(UsageError):
    """The issue is empty, missing, or cannot be fetched."""


class ContextTooSmall(UsageError):
    """Not even a window of one file fits the model's context."""


class NothingToEdit(UsageError):
    """There is no text file, or no line of those that are shown, that a repair could change."""


class ModelError(AminiError):
    """The model server does not do its part."""

    exit_code = 3


class ServerUnreachable(ModelError):
    """Nothing answers at the address."""


class ServerFailed(ModelError):
    """The server answers with errors until the retries are used up."""


class ModelUnknown(ModelError):
    """The server does not serve the model that was asked for."""


class ModelChanged(ModelError):
    """The server's model is not the one that the recorded answers came from; the run must be planned again."""


class Untestable(AminiError):
    """The user's failing test passes already or cannot be run, and a patch must pass it to be printed."""

    exit_code = 5


class EnvironmentFailed(AminiError):
    """This machine does not do its part: a program is missing, a disk is full."""

    exit_code = 4


class BuildFailed(EnvironmentFailed):
    """The environment for a project's tests could not be built; a run can go on by vote. `log` is the log's end."""

    def __init__(self, message: str, log: str = "") -> None:
        """Say it in a sentence."""
        super().__init__(message)
        self.log = log


class ImageUnavailable(EnvironmentFailed):
    """The image of an instance is not here and cannot be pulled."""


class GradingFailed(EnvironmentFailed):
    """The official harness did not come to a verdict, for a reason that is not the patch's."""


class NodeLost(EnvironmentFailed):
    """A machine of the cluster is gone, with what it was doing."""


class StoreError(EnvironmentFailed):
    """The store cannot be read or written."""


class StoreBusy(EnvironmentFailed):
    """Another run is using the store."""


def printable(text: str) -> str:
    """Return foreign text (a path, an address, a program's complaint) as part of a line that any stream can print."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


FEW = 5


def few(names: Sequence[str]) -> str:
    """Return the first `FEW` foreign names, and how many are left, as part of a line."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(map(printable, names[:FEW])) + more


def counted(number: int, noun: str) -> str:
    """Return the number with the noun: '1 test', '2 tests', '2 boxes'."""
    many = "es" if noun.endswith(("x", "ch")) else "s"
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{many}"


def reason(error: BaseException) -> str:
    """Return why something failed, as part of a sentence: without the number and the path of the system's errors."""
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


Translation = Mapping[type[BaseException], Callable[[BaseException], AminiError]]


@contextmanager
def boundary(translation: Translation) -> Iterator[None]:
    """Let no foreign exception cross an edge: raise ours from it, the first listed type that fits.

    An `AminiError` passes unchanged, and so does what the translation does not list: that is a bug to be seen.
    """
    try:
        yield
    except AminiError:
        raise
    except tuple(translation) as error:
        fitting = next(build for kind, build in translation.items() if isinstance(error, kind))
        raise fitting(error) from error
