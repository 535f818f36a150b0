"""A folder of 1,000 files of 1 MB into a directory and a database, and into two directories.

rclone copies the folder twice, the disk is synced, and both copies are checked. Ours imports it
into the store `disk` and the database `backup`, hashed, decoded, verified and fsynced, and ends
when every copy is proven; `check` then counts.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import wave
from pathlib import Path

import peers
from harness import (
    Gate,
    Reading,
    Report,
    command,
    interleave,
    our_environment,
    peak_megabytes,
    run,
    wall_times,
)

PROGRAM = str(Path(sys.executable).parent / "soundkeep")
FILES = 1_000
FILE_BYTES = 1_000_000


def import_(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="import-") as name:
        folder = Path(name)
        number = report.form.size(FILES)
        _make_sounds(folder / "source", number)
        contestants = {
            "rclone": lambda: _rclone(folder, number),
            "soundkeep": lambda: _soundkeep(folder, number),
        }
        gates = [
            Gate("wall time of rclone's", wall_times("soundkeep", of="rclone"), at_most=1.5),
            Gate("peak memory in MB", peak_megabytes("soundkeep"), at_most=150),
        ]
        report.add(f"{number:,} files of 1 MB", interleave(report.form, contestants), gates)


def _rclone(folder: Path, number: int) -> Reading:
    source, targets = str(folder / "source"), [folder / "one", folder / "two"]
    readings = [command(peers.rclone("copy", source, str(target)), number) for target in targets]
    readings.append(command(["sync"], number))
    readings += [command(peers.rclone("check", source, str(target)), number) for target in targets]
    for target in targets:
        shutil.rmtree(target)
    return sum(readings[1:], readings[0])


def _soundkeep(folder: Path, number: int) -> Reading:
    data = folder / "data"
    environment = our_environment(data)
    imported = command([PROGRAM, "import", str(folder / "source")], number, environment)
    checked = command([PROGRAM, "check"], number, environment)
    shutil.rmtree(data)
    return imported + checked


def _make_sounds(folder: Path, number: int) -> None:
    folder.mkdir()
    noise = random.Random(3)
    for index in range(number):
        with wave.open(str(folder / f"{index:04}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(44_100)
            sound.writeframes(noise.randbytes(FILE_BYTES - 44))


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", import_))
