"""The real server in a process of its own, and a small client for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import warm

START_SECONDS = 40
KEY = "a-key-for-tests-only"

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`soundkeep serve` on a port of its own, over one data directory."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        kept = {name: text for name, text in os.environ.items() if "SOUNDKEEP" not in name}
        self.environment = {**kept, "SOUNDKEEP_ADMIN_KEY": KEY, "SOUNDKEEP_DATA": str(data)}
        self.environment |= {f"SOUNDKEEP_{name}": value for name, value in settings.items()}
        self.program: list[str] = ["-m", "soundkeep"]
        self.url = ""
        self.said: list[str] = []

    def start(self) -> None:
        self.process = warm.Popen[str](
            [sys.executable, *self.program, "serve", "--port", "0"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(START_SECONDS) or not self.url:
            self.kill()
            raise RuntimeError("the server did not start:\n" + "".join(self.said))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"answers on (http://\S+)", line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    def kill(self) -> None:
        """kill -9, as a power cut for the process."""
        self.process.send_signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self._reader.join(10)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        key: str | None = KEY,
        **headers: str,
    ) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            given["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, body, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, refusal.headers, refusal.read())

    def upload(self, path: str, sound: bytes, **parameters: str) -> Json:
        query = "&".join(f"{name}={value}" for name, value in {"path": path, **parameters}.items())
        answer = self.ask("POST", f"/api/tracks?{query}", sound)
        assert answer.status in (200, 201), answer.body
        found: Json = answer.json
        return found

    def sound(self, track_id: str) -> bytes:
        answer = self.ask("GET", f"/audio/{track_id}")
        assert answer.status == 200, answer.body
        return answer.body

    def check(self) -> Json:
        found: Json = self.ask("GET", "/api/check").json
        return found


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    """Waits until it holds; fails with the time that was given."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def running(data: Path, **settings: str) -> Iterator[Server]:
    """A server that is ended by its pid, whatever happens."""
    server = Server(data, **settings)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
