"""A server as a process of its own: started, waited for, killed and started again, by its pid."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

STARTS_WITHIN_SECONDS = 60
STOPS_WITHIN_SECONDS = 20
LOOKS_EVERY_SECONDS = 0.05
PORTS = (12_000, 22_000)


class Process:
    """One program, which may be started again after it ended."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command = command
        self.log = log
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None, "it does not run"
        return self._running.pid

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Starts it and waits until it serves. Raises with the end of its log if it does not."""
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                dying_with_us(self.command), stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not is_ready():
            ended = self._running.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.command[0]} does not serve: {self._last_lines()}")
            time.sleep(LOOKS_EVERY_SECONDS)

    def stop(self) -> None:
        """Asks it to end; it has some seconds."""
        if self._running is not None:
            self._running.terminate()
            try:
                self._running.wait(STOPS_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._running = None

    def kill(self) -> None:
        """SIGKILL: it has no time for anything."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(STOPS_WITHIN_SECONDS)
            self._running = None

    def _last_lines(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def free_ports(count: int, twin: int = 0) -> list[int]:
    """Ports of loopback that nobody listens on now, nor at their twins, so far above them.

    They and twins 10,000 above lie below 32768, where the system takes ports for connections: one
    of those, even the server's own, could else be there first.
    """
    found: list[int] = []
    candidates = range(PORTS[0], PORTS[1] - twin)
    for port in random.sample(candidates, k=len(candidates)):
        if _is_free(port) and _is_free(port + twin):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def dying_with_us(command: list[str]) -> list[str]:
    """The command, to be killed by the system when the tests are killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command
