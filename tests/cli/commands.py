"""Runs the real program for tests, and makes sounds to give it."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import warm

SECONDS = 60


@dataclass(frozen=True)
class Program:
    """`soundkeep` with the options that stand before every verb, in a clean environment."""

    before: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "soundkeep", *self.before, *map(str, words)]

    def environment(self) -> dict[str, str]:
        clean = {name: text for name, text in os.environ.items() if "SOUNDKEEP" not in name}
        return {**clean, "PYTHONUNBUFFERED": "1", **self.environ}

    def __call__(
        self, *words: object, given: bytes | None = None, fails: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a verb and expects its exit code. There is never a traceback."""
        done = warm.run(self.command(*words), given, SECONDS, self.environment())
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == fails, (done.stdout + done.stderr).decode()
        return done

    def json(self, *words: object, fails: int = 0) -> Any:
        return json.loads(self(*words, "--json", fails=fails).stdout)


def program(data: Path, **environ: str) -> Program:
    return Program(("--data", str(data)), environ)


@contextmanager
def serving(data: Path, *options: str, **environ: str) -> Iterator[tuple[str, str]]:
    """A server of its own; gives its URL and the admin key."""
    local = program(data, **environ)
    log = data.parent / "serve.log"
    with (
        log.open("wb") as errors,
        warm.Popen[bytes](
            local.command("serve", "--port", 0, *options),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=local.environment(),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            assert "http://" in line, log.read_text()
            yield line.split()[-1], (data / "admin.key").read_text().strip()
        finally:
            process.terminate()
            assert process.wait(SECONDS) == 0


def wav(size_bytes: int, seed: int = 0) -> bytes:
    """A WAV file of about this size whose samples nobody else has."""
    body = random.Random(seed).randbytes(size_bytes - size_bytes % 4)
    form = struct.pack("<IHHIIHH", 16, 1, 2, 44_100, 176_400, 4, 16)
    head = b"WAVEfmt " + form + b"data" + struct.pack("<I", len(body))
    return b"RIFF" + struct.pack("<I", len(head) + len(body)) + head + body


def tree(root: Path, count: int, size_bytes: int = 20_000) -> dict[str, bytes]:
    """Sounds in a directory tree, by their relative names."""
    sounds = {f"{n % 3}/sound {n}.wav": wav(size_bytes + 4 * n, n) for n in range(count)}
    for name, content in sounds.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return sounds
