"""A new server has something to play: spoken where the offline voice is there, else a tune."""

from __future__ import annotations

from pathlib import Path

import pytest

from servers.soundkeep import Server, running
from soundkeep import build
from soundkeep.catalog.tracks import Query
from soundkeep.errors import EngineUnavailable
from soundkeep.settings import Settings
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.web.greeting import WORDS, greet


def sample(server: Server) -> dict[str, object]:
    [track] = server.ask("GET", "/api/tracks").json["items"]
    assert (track["path"], track["title"], track["visibility"]) == (
        "soundkeep/hello.mp3",
        "Hello from Soundkeep",
        "public",
    )
    assert server.ask("GET", f"/audio/{track['id']}", key=None).status == 200
    found: dict[str, object] = track
    return found


def test_the_sample_of_a_new_server_is_spoken_with_timings_and_made_once(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        track = sample(server)
        timing = server.ask("GET", f"/api/tracks/{track['id']}/timing").json
        assert timing["text"] == WORDS
        first = timing["words"][0]
        assert WORDS[first["start"] : first["end"]] == "Hello"
        server.stop()
        server.start()
        assert sample(server)["id"] == track["id"]


def test_without_an_offline_voice_the_sample_is_a_tune_and_no_provider_is_asked(
    tmp_path: Path,
) -> None:
    engines = '{"paid": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "voice": "x"}}'
    with running(tmp_path / "data", SPEECH__ENGINES=engines) as server:
        track = sample(server)
        assert track["bit_rate"] == 96_000
        assert server.ask("GET", f"/api/tracks/{track['id']}/timing").json["code"] == "no_timing"
        assert not any(server.ask("GET", "/api/speech/stats").json["calls"].values())


async def test_a_voice_that_is_not_installed_is_no_reason_to_have_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def absent(*_: object) -> None:
        raise EngineUnavailable("the extra `voice` is not installed")

    monkeypatch.setattr(EspeakEngine, "check", absent)
    async with build.opened(Settings(data=tmp_path)) as house:
        await greet(house)
        [view] = (await house.keep.list(Query())).views
        assert view.track.blob.sound.bit_rate == 96_000
