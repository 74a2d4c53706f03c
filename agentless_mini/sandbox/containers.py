"""One container from its creation to its removal, driven from one thread. It knows nothing of a pool or an event loop.

What the kernel and the daemon are asked to keep in is in `settings`.
"""

import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from agentless_mini.domain import BoxUser, Ending, Job, JobResult
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox.host import LABEL, OWNER
from agentless_mini.sandbox.inside import program
from agentless_mini.sandbox.packs import Pack
from agentless_mini.sandbox.wire import (
    PATIENCE,
    SETTING_UP,
    Garbled,
    Hear,
    Room,
    Transcript,
    compose,
    last_line,
    too_slow,
)

if TYPE_CHECKING:
    from docker import DockerClient

GRACE = 15.0
"""Seconds that a box has beyond its own limit, to be set up in and to notice that its time is over."""
RUNNER_MEMORY = 64 * 1024 * 1024
"""Bytes for the runner, so that what a job may use is what its limits say."""
WORDS_LIMIT = 4096
NOBODY = 65534
SHM = 64 * 1024 * 1024
_STDOUT = 1
_GONE = 404
_BEING_REMOVED = 409


def settings(job: Job, folder: str, volumes: list[str], owner: str) -> dict[str, Any]:
    """Return what the daemon is asked to create, as the Engine's API has it.

    No network, no capability, no new privilege, a user without rights, a root that cannot be written, and no place to
    write but file systems in memory with a size: the tree, /tmp, /dev/shm, and what the image calls volumes.
    """
    limits = job.limits
    inodes = max(16384, limits.disk // 4096)
    user = NOBODY if job.environment.user is BoxUser.NOBODY else 0
    # Owned by the user: over a folder that the image has, runc sets that folder's permissions.
    place = f"rw,exec,nosuid,nodev,mode=1777,uid={user},gid={user},size={limits.disk},nr_inodes={inodes}"
    memory = limits.memory + RUNNER_MEMORY
    return {
        "Image": job.environment.identity,
        "Entrypoint": [job.environment.python, "-I", "-S", "-c", program()],
        "Cmd": [],
        "User": f"{user}:{user}",
        "WorkingDir": "/",
        "Hostname": "box",
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {LABEL: "1", OWNER: owner},
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Tmpfs": dict.fromkeys([*volumes, folder, "/tmp"], place),  # noqa: S108 - the box's own
            "ShmSize": SHM,
            "IpcMode": "private",
            "PidsLimit": limits.pids + 1,
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": math.ceil(limits.cpus * 1e9),
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
        },
    }


Done = Callable[[str, JobResult], None]
"""Told the id of a container when its job is done, and what came of it."""


class Container:
    """A box of Docker's for one job. `serve` is called once, from a thread; `abort` from any other."""

    def __init__(self, client: "DockerClient", asked: dict[str, Any]) -> None:
        """Prepare to create what is asked for."""
        self._client = client
        self._asked = asked
        self._id = ""
        self._aborted = threading.Event()

    def serve(self, job: Job, pack: Pack, room: Room, done: Done | None = None) -> JobResult:
        """Create the container, do the job in it and remove it. Raises `EnvironmentFailed`.

        `done` is called before it is removed, unless it was aborted.
        """
        with translated():
            try:
                result = self._serve(job, compose(job, pack, room), room.hear)
                if done and not self._aborted.is_set():
                    done(self._id, result)
                return result
            finally:
                if self._id:
                    remove(self._client, self._id)

    def abort(self) -> None:
        """End the box at once: `serve` returns soon after."""
        self._aborted.set()
        self._kill()

    def _serve(self, job: Job, sent: Iterator[bytes], hear: Hear | None) -> JobResult:
        api = engine(self._client)
        self._id = api.create_container_from_config(self._asked)["Id"]
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        line = api.attach_socket(self._id, params=params)
        try:
            # docker-py hands out a file object over the socket where there is no TLS, the socket itself where there is
            with closing(getattr(line, "_sock", line)) as talking:
                if self._aborted.is_set():  # one that is never started would be listened to until its time is over
                    return Transcript(job).result(Ending.NOT_RUN)
                api.start(self._id)
                if self._aborted.is_set():  # it came when there was nothing to kill yet
                    self._kill()
                return self._converse(job, sent, _Stream(talking, time.monotonic() + SETTING_UP), hear)
        finally:
            # The response owns the file object, which docker-py keeps alive by it.
            getattr(line, "_response", line).close()

    def _converse(self, job: Job, sent: Iterator[bytes], talk: "_Stream", hear: Hear | None) -> JobResult:
        transcript, ending = Transcript(job, hear), Ending.BOX_DIED
        try:
            for chunk in sent:
                talk.send(chunk)
            for data in talk.printed():
                if not transcript.ready:
                    talk.deadline = time.monotonic() + job.limits.seconds * PATIENCE + GRACE
                transcript.feed(data)
                if transcript.complete:
                    return transcript.result(ending)
        except TimeoutError:
            ending = Ending.TIMED_OUT
        except (Garbled, ConnectionError):  # it hung up: its state says why
            pass
        self._kill()
        state = engine(self._client).inspect_container(self._id)["State"]
        if not transcript.ready:
            if ending is Ending.TIMED_OUT:
                raise too_slow()
            said = printable(state.get("Error") or "") or last_line(talk.words)
            reason = said or f"status {state.get('ExitCode')}"
            raise EnvironmentFailed(
                f"A box cannot be set up in the image ({reason}): it needs Python 3.7 or newer, with ctypes."
            )
        return transcript.result(Ending.OUT_OF_MEMORY if state.get("OOMKilled") else ending)

    def _kill(self) -> None:
        from docker.errors import APIError

        if self._id:
            with suppress(APIError):  # it has ended, or not begun
                engine(self._client).kill(self._id)


def engine(client: "DockerClient") -> Any:  # noqa: ANN401 - it is not typed
    """Return the Engine's API, as the SDK has it."""
    return client.api


def remove(client: "DockerClient", container: str) -> bool:
    """Remove a container, whatever it does, and return whether it was this call that did; another run may have."""
    from docker.errors import APIError

    try:
        engine(client).remove_container(container, v=True, force=True)
    except APIError as error:
        if error.status_code not in {_GONE, _BEING_REMOVED}:
            raise
        return False
    return True


class _Stream:
    """The attached streams of a container: what is written is its input; what is read are frames of its two outputs."""

    def __init__(self, line: socket.socket, deadline: float) -> None:
        self._line = line
        self.deadline = deadline
        self.words = b""

    def send(self, data: bytes) -> None:
        """Write it all. Raises TimeoutError at the deadline, ConnectionError where the box has ended."""
        self._line.settimeout(self._left())
        self._line.sendall(data)

    def printed(self) -> Iterator[bytes]:
        """Yield the standard output up to its end; the last of the standard error is kept in `words`."""
        waiting = b""
        while True:
            self._line.settimeout(self._left())
            data = self._line.recv(1 << 16)
            if not data:
                return
            waiting += data
            while len(waiting) >= 8 and len(waiting) >= 8 + (size := struct.unpack(">xxxxI", waiting[:8])[0]):
                stream, body, waiting = waiting[0], waiting[8 : 8 + size], waiting[8 + size :]
                if stream == _STDOUT:
                    yield body
                else:
                    self.words = (self.words + body)[-WORDS_LIMIT:]

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def translated() -> Any:  # noqa: ANN401 - a context manager
    """Translate what the SDK raises. It derives its errors from those of requests, and lets some of these through."""
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    return boundary(
        {
            ImageNotFound: lambda error: EnvironmentFailed(
                f"Docker does not have the image ({printable(str(error))}): pull or build it."
            ),
            DockerException: _failed,
            RequestException: _failed,
            OSError: _failed,
        }
    )


def _failed(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"Docker does not do what it is asked ({printable(str(error))}): see that the daemon runs and `docker info` "
        "answers; --sandbox local does without."
    )


def require_daemon() -> None:
    """Raise `EnvironmentFailed` where nothing listens at the socket that DOCKER_HOST names. Other addresses pass.

    It is called before the SDK, which leaves a socket open where no daemon listens.
    """
    from docker.utils import kwargs_from_env

    address = kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        return
    path = address.removeprefix("unix://")
    with (
        boundary({OSError: lambda error: _absent(path, error), ValueError: lambda error: _absent(path, error)}),
        socket.socket(socket.AF_UNIX) as line,
    ):
        line.connect(path)


def _absent(path: str, error: BaseException) -> EnvironmentFailed:
    if isinstance(error, PermissionError):
        return EnvironmentFailed(f"You may not use the Docker daemon at {printable(path)}: join the group docker.")
    return EnvironmentFailed(
        f"No Docker daemon answers at {printable(path)} ({printable(str(error))}): start it; "
        "--sandbox local does without."
    )
