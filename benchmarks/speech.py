"""Speech that was said before, through the gateway of OpenAI's protocol, and nginx with that file.

Both answer with the same 64 KB in the same rounds; ours is asked by POST, checks the key, verifies
the bytes and counts the hit. Before anything is measured both answers are compared, byte for byte.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import peers
from harness import (
    Gate,
    Reading,
    Report,
    Round,
    cpu_reached,
    free_port,
    interleave,
    our_environment,
    run,
    serving,
    watch,
)
from load import Ask, Connection, ask, exchange

SERVER = [str(Path(sys.executable).parent / "soundkeep"), "serve", "--no-worker"]
KEY = "benchmark-key-of-no-secret"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
TARGET = "/openai/v1/audio/speech"
WORDS = "Whatever was said before is at hand, and nobody pays for it again. " * 2
SIZES = range(60_000, 70_000)  # of that, as MP3
TIMES = 24_000
TIMES_ALONE = 4_000  # on one connection, one after the other


def speech(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="speech-") as folder, _soundkeep(Path(folder)) as ours:
        body = Path(folder) / "request.json"
        body.write_text(json.dumps({"model": "tts-1", "voice": "en-us", "input": WORDS}))
        files = Path(folder) / "files"
        files.mkdir()
        pid, port = ours
        (files / "speech.mp3").write_bytes(_said(port, body))
        with peers.nginx(files) as nginx:
            length = _compare(port, nginx.port, body)
            ask_us = Ask(TARGET, method="POST", headers=HEADERS, body_file=str(body), length=length)
            ask_nginx = Ask("/speech.mp3", length=length)
            times = report.form.size(TIMES)
            contestants = {
                "nginx": lambda: watch(
                    nginx.pid, lambda: ask(nginx.port, _often(ask_nginx, times))
                ),
                "soundkeep": lambda: watch(pid, lambda: ask(port, _often(ask_us, times))),
            }
            gate = Gate("of nginx's cost, by CPU", cpu_reached("soundkeep", of="nginx"), 0.35)
            report.add("a hit of 64 KB", interleave(report.form, contestants), [gate])
            alone = report.form.size(TIMES_ALONE)
            rounds = [
                _waits("nginx", nginx.port, ask_nginx, alone)
                | _waits("soundkeep", port, ask_us, alone)
                for _ in range(report.form.rounds)
            ]
            p50 = Gate("ms until half of the answers are there", _milliseconds, at_most=1)
            report.add("the same, one after the other", rounds, [p50])


@contextmanager
def _soundkeep(folder: Path) -> Iterator[tuple[int, int]]:
    """The server as people run it, but for its worker."""
    port = free_port()
    environment = our_environment(folder / "data", ADMIN_KEY=KEY)
    with serving([*SERVER, "--port", str(port)], port, environment) as process:
        yield process.pid, port


def _said(port: int, body: Path) -> bytes:
    """The sound, spoken for this."""
    status, sound = exchange(port, "POST", TARGET, HEADERS, body.read_bytes())
    if status != 200 or len(sound) not in SIZES:
        raise RuntimeError(f"speech was answered {status}, with {len(sound)} bytes")
    return sound


def _compare(port: int, nginx_port: int, body: Path) -> int:
    """The length of what both answer with."""
    _, theirs = exchange(nginx_port, "GET", "/speech.mp3", {})
    status, ours = exchange(port, "POST", TARGET, HEADERS, body.read_bytes())
    if status != 200 or ours != theirs:
        raise RuntimeError(f"{status}: {len(ours)} bytes are not those of the file")
    return len(ours)


def _often(each: Ask, times: int) -> list[Ask]:
    return [Ask(**{**vars(each), "times": times})]


def _waits(name: str, port: int, each: Ask, times: int) -> Round:
    """How long half of the answers take at most, and all but a hundredth."""
    with closing(Connection(port)) as connection:
        seconds = sorted(_seconds(connection, each) for _ in range(times))
    half, most = statistics.median(seconds), seconds[int(0.99 * (times - 1))]
    return {f"{name}, p50": Reading(0, half), f"{name}, p99": Reading(0, most)}


def _seconds(connection: Connection, each: Ask) -> float:
    started = time.perf_counter()
    connection.ask(each)
    return time.perf_counter() - started


def _milliseconds(readings: Mapping[str, Reading]) -> float:
    return 1000 * readings["soundkeep, p50"].wall_seconds


if __name__ == "__main__":
    sys.exit(run(__doc__, speech))
