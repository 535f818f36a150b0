"""Programs that begin where Soundkeep is loaded already: a run starts hundreds, and loading takes
each a second.

    with Popen([sys.executable, "-m", "soundkeep", "ls"], env=environment) as process: …

is a `subprocess.Popen`: a process of its own with its own arguments, environment, files and exit
code, which a signal ends. It is the fork of a process that has loaded Soundkeep, begun nothing and
has one thread. Started in the ordinary way are programs of the command line (`-c`), those whose
environment changes Python itself, and all where `COLD_STARTS` is set, as `make drill` does.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, AnyStr, TextIO

COLD = "COLD_STARTS"
MODULE, SCRIPT = "-m", "-P"
LOADED = (
    "aiohttp",
    "alembic.command",
    "soundkeep.build",
    "soundkeep.cli",
    "soundkeep.cli.doctor",
    "soundkeep.web.serving",
    "soundkeep.worker",
)
LONGEST_REQUEST_BYTES = 200_000
STATUS_BYTES = 4

# What Python or the C library reads before the first line of a program runs.
READ_BEFORE = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")
WITHOUT_EFFECT = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")


# --- in the tests ---------------------------------------------------------------------------


class Popen(subprocess.Popen[AnyStr]):
    """It overrides how the standard library's begins a process and learns that it has ended."""

    _status: int | None = None  # of a warm start: the pipe that tells how it ended

    @property
    def is_warm(self) -> bool:
        return self._status is not None

    def _execute_child(self, args: Any, *how: Any) -> None:
        cwd, environment, pipes = how[4], how[5], how[9:15]
        environment = os.environ if environment is None else environment
        if not _may_be_warm(args, environment):
            super()._execute_child(args, *how)  # type: ignore[misc]
            return
        given = (pipes[0], pipes[3], pipes[5])
        files = [standard if file == -1 else file for standard, file in enumerate(given)]
        self.pid, self._status = _nursery().begin(args[1:], environment, cwd, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._status is None:
            found: tuple[int, int] = super()._try_wait(flags)  # type: ignore[misc]
            return found
        if flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        told = os.read(self._status, STATUS_BYTES)
        os.close(self._status)
        assert told, "the process all are forked from has ended"
        return self.pid, int.from_bytes(told, "big")

    def _internal_poll(self, *defaults: Any, **more: Any) -> int | None:
        if self._status is None:
            found: int | None = super()._internal_poll(*defaults, **more)  # type: ignore[misc]
            return found
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None


def run(
    command: Sequence[str], given: bytes | None, seconds: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """As `subprocess.run`, which takes no other class, and keeps all that it says."""
    pipe = subprocess.PIPE
    stdin = subprocess.DEVNULL if given is None else pipe
    with Popen[bytes](command, stdin=stdin, stdout=pipe, stderr=pipe, env=environment) as process:
        try:
            said, complained = process.communicate(given, seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def _may_be_warm(args: Any, environment: Mapping[str, str]) -> bool:
    program = list(args[:3])
    return (
        COLD not in os.environ
        and program[0] == sys.executable
        and (program[1:] == [MODULE, "soundkeep"] or program[1] == SCRIPT)
        and _read_before(environment) == _read_before(os.environ)
    )


def _read_before(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in environment.items()
        if name.startswith(READ_BEFORE) and name not in WITHOUT_EFFECT
    }


class Nursery:
    """The test's hand on the process that all are forked from."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, SCRIPT, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def begin(
        self, words: Sequence[str], environment: Mapping[str, str], cwd: Any, files: list[int]
    ) -> tuple[int, int]:
        """Starts the program; answers its pid and the pipe that will tell how it ended."""
        told, tells = os.pipe()
        request = [list(words), dict(environment), str(cwd or Path.cwd())]
        with self._one_at_a_time:
            socket.send_fds(self._link, [json.dumps(request).encode()], [*files, tells])
            pid = int(self._link.recv(100))
        os.close(tells)
        return pid, told

    def end(self) -> None:
        self._link.close()
        self._process.wait()


@functools.cache
def _nursery() -> Nursery:
    nursery = Nursery()
    atexit.register(nursery.end)
    return nursery


# --- in the process that all are forked from ------------------------------------------------


def main() -> None:
    """Forks for as long as the tests ask; each fork goes on as the program itself."""
    gc.disable()  # see `soundkeep.loading`
    for module in LOADED:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
    [_] = Path("/proc/self/task").iterdir()  # of several threads a fork has only one
    asked = _asked_of_a_fork(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become_the_program(*asked)


def _asked_of_a_fork(link: socket.socket) -> tuple[Any, list[int]] | None:
    """Answers in each fork, with what it is to run; and here, once the tests have ended."""
    with link, selectors.DefaultSelector() as watched:
        watched.register(link, selectors.EVENT_READ)
        while True:
            for key, _ in watched.select():
                if key.fileobj is not link:
                    watched.unregister(key.fd)
                    _tell_how_it_ended(key.fd, *key.data)
                    continue
                message, files, _, _ = socket.recv_fds(link, LONGEST_REQUEST_BYTES, 4)
                if not message:
                    return None
                if not (pid := os.fork()):
                    return json.loads(message), files
                link.send(str(pid).encode())
                *standard, tells = files
                for file in standard:
                    os.close(file)
                watched.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, tells))


def _tell_how_it_ended(watched: int, pid: int, tells: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.write(tells, status.to_bytes(STATUS_BYTES, "big"))
    os.close(tells)
    os.close(watched)


def _become_the_program(request: Any, files: list[int]) -> None:
    (kind, program, *words), environment, directory = request
    for standard, file in enumerate(files[:3]):
        os.dup2(file, standard)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin, sys.stdout, sys.stderr = map(_anew, (sys.stdin, sys.stdout, sys.stderr))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = [program, *words]
    if kind == MODULE:
        sys.path.insert(0, directory)
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


def _anew(stream: TextIO) -> TextIO:
    """What Python makes of a standard file when it starts (with PYTHONUNBUFFERED)."""
    buffering = -1 if stream.readable() else 0
    raw = open(stream.fileno(), stream.mode + "b", buffering, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, newline="\n", write_through=True)


if __name__ == "__main__":
    main()
