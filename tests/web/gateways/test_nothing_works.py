"""No engine and no store working: both gateways say what failed, and send no sound in its place."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.soundkeep import Server, eventually, running
from soundkeep.web.gateways.shelf import MAX_AGE_SECONDS

# Nothing listens on port 1.
SETTINGS = """
data = "{data}"
[policy]
keep = ["vault"]
[stores.vault]
kind = "local"
path = "vault"
[inbox]
linger_seconds = 0
[speech.engines.offline]
kind = "espeak"
[speech.engines.faraway]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
models = ["tts-1"]
voices = ["nova"]
captions = false
tries = 1
"""
SAID = {"model": "offline", "voice": "en-us", "input": "This was said while all was well."}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    config = tmp_path / "soundkeep.toml"
    config.write_text(SETTINGS.format(data=tmp_path / "data"))
    with running(tmp_path / "data", CONFIG=str(config)) as server:
        yield server


def test_an_engine_and_a_store_that_are_out_are_named(server: Server) -> None:
    body = json.dumps(SAID).encode()
    assert server.ask("POST", "/openai/v1/audio/speech", body).status == 200
    eventually(lambda: server.check()["passed"])
    for folder in ("vault", "inbox"):
        shutil.rmtree(server.data / folder)
    deadline = time.monotonic() + 10 * MAX_AGE_SECONDS  # what is held open is let go in a second
    while (answer := server.ask("POST", "/openai/v1/audio/speech", body)).status == 200:
        assert time.monotonic() < deadline
    assert answer.status == 503
    assert "vault" in answer.json["error"]["message"]
    assert answer.headers["Retry-After"]

    new = json.dumps({"model": "faraway/tts-1", "voice": "nova", "input": "Never said."}).encode()
    answer = server.ask("POST", "/openai/v1/audio/speech", new)
    assert answer.status == 503
    assert "faraway" in answer.json["error"]["message"]

    new = json.dumps({"model_id": "faraway/tts-1", "text": "Never said."}).encode()
    for form in ("", "/stream", "/with-timestamps", "/stream/with-timestamps"):
        answer = server.ask("POST", f"/elevenlabs/v1/text-to-speech/nova{form}", new)
        assert answer.status == 503
        assert "faraway" in answer.json["detail"]["message"]
