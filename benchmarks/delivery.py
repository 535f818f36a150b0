"""Ranges of private sound over HTTP: the real server, key checked and bytes verified, and nginx.

Both serve the same bytes in the same rounds; nginx checks nothing and lets the kernel copy. Before
anything is measured, one answer of each is compared with the file, byte for byte.
"""

from __future__ import annotations

import random
import sys
import tempfile
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
from harness import (
    Gate,
    Report,
    cpu_reached,
    free_port,
    interleave,
    our_environment,
    run,
    serving,
    watch,
)
from load import Ask, ask, exchange

SERVER = [str(Path(sys.executable).parent / "soundkeep"), "serve", "--no-worker"]
KEY = "benchmark-key-of-no-secret"
BEARER = {"Authorization": f"Bearer {KEY}"}
TRACKS = 8
TRACK_SECONDS = 70  # about 6 MB each
SAMPLE_RATE_HZ = 44_100
START = 100_000  # no chunk begins here, nor does one end where these ranges do


@dataclass(frozen=True)
class Case:
    """A length of range, how often it is asked for in a round, and what must be reached."""

    name: str
    length: int
    times: int
    at_least: float


CASES = (
    Case("64 KB ranges", 64 * 1024, 24_000, 0.45),
    Case("1 MB ranges", 1024 * 1024, 6_000, 0.9),
    Case("5 MB ranges", 5 * 1024 * 1024, 1_200, 0.8),
)


def delivery(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="delivery-") as folder:
        files = _make_sounds(Path(folder))
        with peers.nginx(files) as nginx, _soundkeep(Path(folder)) as (pid, port):
            _upload(port, files)
            for case in CASES:
                ranges = _headers(case)
                _compare(nginx.port, _nginx_target(0), ranges, files)
                _compare(port, _our_target(0), ranges | BEARER, files)
                theirs = [_ask(report, case, _nginx_target(n), {}) for n in range(TRACKS)]
                ours = [_ask(report, case, _our_target(n), BEARER) for n in range(TRACKS)]
                contestants = {
                    "nginx": lambda asks=theirs: watch(nginx.pid, lambda: ask(nginx.port, asks)),
                    "soundkeep": lambda asks=ours: watch(pid, lambda: ask(port, asks)),
                }
                says = "of nginx's cost, by CPU"
                gate = Gate(says, cpu_reached("soundkeep", of="nginx"), at_least=case.at_least)
                report.add(case.name, interleave(report.form, contestants), [gate])


def _make_sounds(folder: Path) -> Path:
    """Noise, which no compression anywhere makes smaller, as WAV files."""
    files = folder / "files"
    files.mkdir()
    noise = random.Random(1)
    for number in range(TRACKS):
        with wave.open(str(files / f"{number}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(SAMPLE_RATE_HZ)
            sound.writeframes(noise.randbytes(2 * SAMPLE_RATE_HZ * TRACK_SECONDS))
    return files


@contextmanager
def _soundkeep(folder: Path) -> Iterator[tuple[int, int]]:
    """The server as people run it, but for its worker: copying is another benchmark."""
    port = free_port()
    environment = our_environment(folder / "data", ADMIN_KEY=KEY)
    with serving([*SERVER, "--port", str(port)], port, environment) as process:
        yield process.pid, port


def _upload(port: int, files: Path) -> None:
    for number in range(TRACKS):
        body = (files / f"{number}.wav").read_bytes()
        target = f"/api/tracks?id=sound-{number}&path=bench/{number}.wav&visibility=private"
        status, answer = exchange(port, "POST", target, BEARER, body)
        if status != 201:
            raise RuntimeError(f"the upload was answered {status}: {answer!r}")


def _compare(port: int, target: str, headers: Mapping[str, str], files: Path) -> None:
    start, stop = (int(end) for end in headers["Range"].removeprefix("bytes=").split("-"))
    status, body = exchange(port, "GET", target, headers)
    if status != 206 or body != (files / "0.wav").read_bytes()[start : stop + 1]:
        raise RuntimeError(f"{target} on port {port}: {status}, {len(body)} bytes, not the file's")


def _ask(report: Report, case: Case, target: str, headers: Mapping[str, str]) -> Ask:
    return Ask(
        target,
        report.form.size(case.times // TRACKS),
        headers={**headers, **_headers(case)},
        status=206,
        length=case.length,
    )


def _headers(case: Case) -> dict[str, str]:
    return {"Range": f"bytes={START}-{START + case.length - 1}"}


def _nginx_target(number: int) -> str:
    return f"/{number}.wav"


def _our_target(number: int) -> str:
    return f"/audio/sound-{number}.wav"


if __name__ == "__main__":
    sys.exit(run(__doc__, delivery))
