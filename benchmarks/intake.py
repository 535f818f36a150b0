"""Uploads of 5 MB: into our inbox and rows, and into nginx with a hash of what it wrote.

nginx writes each body to a file (`client_body_in_file_only`) and judges nothing; `sha256sum` then
hashes what it wrote. Ours hashes twice (SHA-256, and BLAKE3 for each chunk), makes the file
durable, decodes it in the jail and commits its rows. Copies are not waited for in the case that is
judged; the other shows what they cost too.
"""

from __future__ import annotations

import random
import sys
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import peers
from harness import (
    Gate,
    Reading,
    Report,
    cpu_reached,
    free_port,
    interleave,
    our_environment,
    run,
    serving,
    watch,
)
from load import Ask, ask

SERVER = [str(Path(sys.executable).parent / "soundkeep"), "serve"]
KEY = "benchmark-key-of-no-secret"
BODY_BYTES = 5_000_000
UPLOADS = 200
STAMP_AT = 1_000_000  # each upload has other bytes here
CONNECTIONS = 4


def intake(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="intake-") as name:
        folder = Path(name)
        uploads = Uploads(report.form.size(UPLOADS), _make_sound(folder))
        (folder / "files").mkdir()
        with (
            peers.nginx(folder / "files") as nginx,
            _soundkeep(folder / "kept", ["--no-worker"], ack_copies=0) as inbox_only,
            _soundkeep(folder / "copied", [], ack_copies=2) as with_copies,
        ):
            contestants = {
                "nginx and sha256sum": lambda: uploads.to_nginx(nginx, peers.sha256sum),
                "nginx and a fast SHA-256": lambda: uploads.to_nginx(nginx, peers.fast_sha256),
                "soundkeep, inbox and rows": lambda: uploads.to_us(*inbox_only),
                "soundkeep, two copies too": lambda: uploads.to_us(*with_copies),
            }
            ours = "soundkeep, inbox and rows"
            gates = [
                Gate(
                    "CPU of nginx and sha256sum",
                    cpu_reached(ours, of="nginx and sha256sum"),
                    at_least=0.6,
                ),
                Gate(
                    "CPU of nginx and a fast hash", cpu_reached(ours, of="nginx and a fast SHA-256")
                ),
            ]
            report.add("uploads of 5 MB", interleave(report.form, contestants), gates)


class Uploads:
    """The same uploads to each contestant, every one with bytes of its own."""

    def __init__(self, number: int, body: Path) -> None:
        self._number = number
        self._asked = 0
        self._ask = Ask(
            "", number, method="POST", body_file=str(body), stamp_at=STAMP_AT, status=201
        )

    def to_nginx(self, nginx: peers.Nginx, hashing: object) -> Reading:
        assert callable(hashing)
        asks = [replace(self._next(), target="/uploads/{n}", status=204)]
        written = watch(nginx.pid, lambda: ask(nginx.port, asks, CONNECTIONS))
        files = nginx.uploads()
        if len(files) != self._number or any(f.stat().st_size != BODY_BYTES for f in files):
            raise RuntimeError(f"nginx wrote {len(files)} of {self._number} bodies")
        hashed: Reading = hashing(files)
        for file in files:
            file.unlink()
        return written + hashed

    def to_us(self, pid: int, port: int) -> Reading:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "audio/wav"}
        asks = [replace(self._next(), target="/api/tracks?path=bench/{n}.wav", headers=headers)]
        return watch(pid, lambda: ask(port, asks, CONNECTIONS))

    def _next(self) -> Ask:
        self._asked += self._number
        return replace(self._ask, first=self._asked)


def _make_sound(folder: Path) -> Path:
    file = folder / "body.wav"
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(44_100)
        sound.writeframes(random.Random(2).randbytes(BODY_BYTES - 44))
    return file


@contextmanager
def _soundkeep(data: Path, options: list[str], ack_copies: int) -> Iterator[tuple[int, int]]:
    """The server as people run it; answers its pid and port."""
    port = free_port()
    environment = our_environment(data, ADMIN_KEY=KEY, POLICY__ACK_COPIES=str(ack_copies))
    with serving([*SERVER, *options, "--port", str(port)], port, environment) as process:
        yield process.pid, port


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", intake))
