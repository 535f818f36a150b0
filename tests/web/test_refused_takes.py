"""A take that was refused is listed, can be heard, and becomes the segment if a person says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.fake_provider import API_KEY, Fake
from servers.soundkeep import Answer, Server, running

SETTINGS = """
data = "{data}"
[speech.engines.compatible]
kind = "openai"
base_url = "{url}/v1"
api_key = "env:PROVIDER_KEY"
voices = ["nova"]
captions = false
tries = 1
"""


@pytest.fixture
def server(
    tmp_path: Path, openai_process: Fake, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    config = tmp_path / "soundkeep.toml"
    config.write_text(SETTINGS.format(data=tmp_path / "data", url=openai_process.url))
    monkeypatch.setenv("PROVIDER_KEY", API_KEY)
    with running(tmp_path / "data", CONFIG=str(config)) as server:
        yield server


def say(server: Server) -> Answer:
    body = json.dumps({"text": "A very quiet sentence.", "model": "tts-1", "voice": "nova"})
    return server.ask("POST", "/api/speech", body.encode())


def test_an_operator_hears_a_refused_take_and_accepts_it(
    server: Server, openai_process: Fake
) -> None:
    openai_process.behave(fault="silent")
    refused = say(server)
    assert (refused.status, refused.json["code"]) == (502, "take_refused")
    [take] = server.ask("GET", "/api/speech/refused").json["items"]
    assert take["reason"] == "it is silent"

    sound = server.ask("GET", f"/api/speech/refused/{take['id']}")
    assert (sound.status, sound.headers["Content-Type"]) == (200, "audio/mpeg")
    accepted = server.ask("POST", f"/api/speech/refused/{take['id']}/accept")
    assert (accepted.status, accepted.json["segment_key"]) == (200, take["segment_key"])

    charged = openai_process.charges()["charges"]
    said = say(server)
    assert (said.status, said.json["segments_generated"]) == (200, 0)
    assert server.sound(said.json["track_id"]) == sound.body
    assert openai_process.charges()["charges"] == charged
    assert server.ask("GET", "/api/speech/refused").json["items"] == []


def test_a_take_that_is_not_kept_is_said_to_be_so(server: Server) -> None:
    for method, path in (("GET", "/7"), ("POST", "/7/accept")):
        answer = server.ask(method, f"/api/speech/refused{path}")
        assert (answer.status, answer.json["code"]) == (404, "no_such_take")
    answer = server.ask("GET", "/api/speech/refused?cursor=x")
    assert (answer.status, answer.json["code"]) == (400, "bad_cursor")
