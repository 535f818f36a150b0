"""A machine that misbehaves: its fsync fails or takes long, its catalog's lock is not waited for.

Run as a program (`python -P machine.py`) this is `soundkeep` on such a machine; the rest is the
test's hand on it. The faults lie in a file that is read at every fsync, so that they can change
while the server runs.
"""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

FAULTS = "FAULTS_OF_THE_MACHINE"  # the variable that names the file
PROGRAM = ["-P", __file__]  # -P: what lies beside this file is not for the server to import


@dataclass(frozen=True)
class Faults:
    """What is wrong now. Directories stand for everything below them."""

    fsync_fails_in: list[str] = field(default_factory=list)
    fsync_is_slow_in: list[str] = field(default_factory=list)
    slow_seconds: float = 0
    busy_seconds: float | None = None  # how long a locked catalog is waited for; read at start


@dataclass(frozen=True)
class Machine:
    """The test's hand on it."""

    file: Path

    @property
    def log(self) -> Path:
        return self.file.with_suffix(".log")

    def suffers(self, faults: Faults) -> None:
        """From the next fsync on."""
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(faults)))
        draft.replace(self.file)

    def heals(self) -> None:
        self.suffers(Faults())

    def failed_fsyncs(self) -> list[Path]:
        """What could not be synced, in order: a file that was tried twice is there twice."""
        return [Path(line) for line in self.log.read_text().splitlines()]


def main() -> None:
    from soundkeep import cli
    from soundkeep.catalog import database

    machine = Machine(Path(os.environ[FAULTS]))
    at_start = _read(machine)
    if at_start.busy_seconds is not None:
        database.BUSY_SECONDS = at_start.busy_seconds
    fsync = os.fsync

    def failing(number: int) -> None:
        faults, path = _read(machine), Path(f"/proc/self/fd/{number}").readlink()
        if _lies_in(path, faults.fsync_fails_in):
            with machine.log.open("a") as log:
                log.write(f"{path}\n")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if _lies_in(path, faults.fsync_is_slow_in):
            time.sleep(faults.slow_seconds)
        fsync(number)

    os.fsync = failing  # type: ignore[assignment] # takes numbers only, which is all we give it
    cli.main()


def _read(machine: Machine) -> Faults:
    return Faults(**json.loads(machine.file.read_text()))


def _lies_in(path: Path, directories: list[str]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)


if __name__ == "__main__":
    main()
