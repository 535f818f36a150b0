"""What clients of other systems call, answered by a real server, as their players would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.commands import program
from servers.soundkeep import Answer, Server, eventually, running
from soundkeep.access.rates import Rate
from soundkeep.errors import TooManyRequests
from sounds import wav

TEXT = "The ferry leaves at ten. Bring a coat."
ENABLED = {
    "ALIASES__ENABLED": '["vocalize", "temp-audio", "voice"]',
    "ALIASES__PUBLIC": "true",
}
VOCALIZE, VOICE = "/api/agents/vocalize", "/api/voice"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("aliases") / "data", **ENABLED) as server:
        yield server


def post(server: Server, path: str, key: str | None = "", /, **body: Any) -> Answer:
    """As text/plain, as some of their callers do."""
    given = {} if key == "" else {"key": key}
    return server.ask("POST", path, json.dumps(body).encode(), Content_Type="text/plain", **given)


def play(server: Server, url: str, **headers: str) -> Answer:
    """As a bare `<audio>`: an absolute address, and no key."""
    assert url.startswith(server.url)
    return server.ask("GET", url.removeprefix(server.url), key=None, **headers)


# --- vocalize -------------------------------------------------------------------------------


def test_vocalize_answers_an_address_that_plays_for_everybody(server: Server) -> None:
    answer = post(server, VOCALIZE, text=TEXT, voiceId="en-us")
    assert (answer.status, answer.json["success"]) == (200, True)
    data = answer.json["data"]
    assert set(data) == {"audioUrl", "key"}
    sound = play(server, data["audioUrl"])
    assert (sound.status, sound.headers["content-type"]) == (200, "audio/mpeg")
    assert post(server, VOCALIZE, text=TEXT, voiceId="en-us").json == answer.json
    kept = server.ask("GET", f"/api/speech/{data['key']}", Accept="audio/*")
    assert kept.body == sound.body


def test_what_no_store_has_taken_yet_is_temporary_and_goes_on_playing(tmp_path: Path) -> None:
    """The one store is out: a file lies where its directory should be."""
    in_the_way = tmp_path / "data/audio"
    in_the_way.parent.mkdir()
    in_the_way.touch()
    keeps = {"POLICY__KEEP": '["disk"]', "POLICY__ACK_SECONDS": "1", "WORKER__PROBE_SECONDS": "1"}
    with running(tmp_path / "data", **ENABLED, **keeps) as server:
        answer = post(server, VOCALIZE, text=TEXT, voiceId="en-us")
        data = answer.json["data"]
        assert (data["isTemporary"], answer.status) == (True, 200)
        assert data["note"]
        assert "/api/temp-audio/" in data["audioUrl"]
        sound = play(server, data["audioUrl"])
        assert sound.status == 200
        assert sound.headers["Cache-Control"] == "public, max-age=3600"

        in_the_way.unlink()
        stored = {}

        def held() -> bool:
            nonlocal stored
            stored = post(server, VOCALIZE, text=TEXT, voiceId="en-us").json["data"]
            return "isTemporary" not in stored

        eventually(held, 60)
        assert play(server, stored["audioUrl"]).body == sound.body
        assert play(server, data["audioUrl"]).body == sound.body
        assert stored["key"] == data["key"]


# --- temp-audio -----------------------------------------------------------------------------


def test_temporary_audio_has_ranges_and_conditions(server: Server) -> None:
    data = post(server, VOCALIZE, text=TEXT, voiceId="en-us").json["data"]
    track_id = data["audioUrl"].rpartition("/")[2].removesuffix(".mp3")
    url = f"{server.url}/api/temp-audio/{track_id}"
    whole = play(server, url)
    part = play(server, url, Range="bytes=10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert play(server, url, If_None_Match=whole.headers["ETag"]).status == 304
    head = server.ask("HEAD", url.removeprefix(server.url), key=None)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(whole.body)))


def test_a_private_track_and_an_unknown_id_are_the_same_404(server: Server) -> None:
    body = json.dumps({"text": "A private matter."}).encode()
    private = server.ask("POST", "/api/speech", body).json["track_id"]
    for track_id in (private, "nobody"):
        refused = server.ask("GET", f"/api/temp-audio/{track_id}", key=None)
        assert refused.status == 404
        assert refused.json == {"success": False, "error": f"there is no audio {track_id}"}


# --- voice ----------------------------------------------------------------------------------


def test_the_same_text_in_two_books_is_one_sound_and_two_tracks(server: Server) -> None:
    one, two = (
        post(server, VOICE, text=TEXT, voiceId="en-us", bookId=book, chapterId=7).json
        for book in ("first", "second")
    )
    assert set(one) == {"success", "audioUrl", "contentHash", "cached", "wordCount", "durationSec"}
    assert (one["wordCount"], one["success"]) == (8, True)
    assert two == {**one, "audioUrl": two["audioUrl"], "cached": True}
    assert two["audioUrl"] != one["audioUrl"]
    sound = play(server, one["audioUrl"])
    assert sound.headers["content-type"] == "audio/mpeg"
    assert sound.body == play(server, two["audioUrl"]).body
    [track] = server.ask("GET", "/api/tracks?prefix=second/").json["items"]
    assert track["metadata"] == {"bookId": "second", "chapterId": 7}


def test_a_voice_is_found_by_its_hash(server: Server) -> None:
    said = post(server, VOICE, text=TEXT, voiceId="en-us", bookId="found").json
    found = server.ask("GET", f"{VOICE}?contentHash={said['contentHash']}").json
    assert {**found, "audioUrl": ""} == {**said, "cached": True, "audioUrl": ""}
    assert play(server, found["audioUrl"]).body == play(server, said["audioUrl"]).body
    unknown = server.ask("GET", f"{VOICE}?contentHash=nothing")
    assert (unknown.status, unknown.json["success"]) == (404, False)
    assert server.ask("GET", VOICE).json == {
        "success": False,
        "error": "contentHash: Field required",
    }


def test_a_voice_that_came_with_an_import_is_found_by_its_old_hash(
    server: Server, tmp_path: Path
) -> None:
    """Once its track is public; nobody knows its text."""
    (tmp_path / "old.wav").write_bytes(wav(5_000, seed=4))
    table = tmp_path / "audio_assets.csv"
    table.write_text("content_hash,storage_url,book_id\nold-hash,old.wav,moved\n")
    program(server.data)("import", "--csv", table)
    url = f"{VOICE}?contentHash=old-hash"
    assert server.ask("GET", url).status == 404
    [track] = server.ask("GET", "/api/tracks?prefix=moved/").json["items"]
    server.ask("PATCH", f"/api/tracks/{track['id']}", b'{"visibility": "public"}')
    found = server.ask("GET", url).json
    assert (found["contentHash"], found["wordCount"], found["cached"]) == ("old-hash", None, True)
    assert play(server, found["audioUrl"]).body == (tmp_path / "old.wav").read_bytes()

    record = server.ask("GET", "/api/speech/old-hash").json
    assert (record["track_id"], record["engine"], record["segments"]) == (track["id"], None, 1)
    assert server.ask("GET", "/api/speech/old-hash/timing").json["code"] == "no_timing"


def test_only_a_public_voice_is_found_by_its_hash(server: Server) -> None:
    body = json.dumps({"text": "Only for me.", "format": "mp3_44100_128"}).encode()
    key = server.ask("POST", "/api/speech", body).json["key"]
    assert server.ask("GET", f"{VOICE}?contentHash={key}").status == 404


# --- for all --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        (VOCALIZE, {}, 400, "text"),
        (VOCALIZE, {"text": "Hi.", "voiceId": "nobody"}, 400, "nobody"),
        (VOICE, {"text": "Hi."}, 400, "voiceId"),
        (VOICE, {"text": "Hi.", "voiceId": "en-us", "bookId": "../up"}, 400, "path"),
        (VOICE, {"text": "Hi.", "voiceId": "en-us", "speakingRate": -1}, 400, "speed"),
    ],
)
def test_errors_are_told_in_their_shape(
    server: Server, path: str, body: dict[str, Any], status: int, word: str
) -> None:
    refused = post(server, path, **body)
    assert refused.status == status
    assert set(refused.json) == {"success", "error"}
    assert not refused.json["success"]
    assert word in refused.json["error"]


def test_pages_elsewhere_may_call(server: Server) -> None:
    for path in (VOCALIZE, VOICE, "/api/temp-audio/x"):
        asked = server.ask("OPTIONS", path, key=None, Origin="https://app.example")
        assert asked.status == 204
        assert asked.headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Type" in asked.headers["Access-Control-Allow-Headers"]
    refused = server.ask("GET", "/api/temp-audio/x", key=None, Origin="https://app.example")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


def test_nothing_is_open_unless_the_settings_name_it(server: Server, tmp_path: Path) -> None:
    for path in (VOCALIZE, VOICE):
        refused = post(server, path, None, text="Hi.", voiceId="en-us")
        assert (refused.status, refused.json["success"]) == (401, False)
    opened = {"ALIASES__ANONYMOUS": '["vocalize"]', "ALIASES__ANONYMOUS_PER_MINUTE": "2"}
    with running(tmp_path / "data", **ENABLED, **opened) as other:
        for _ in range(2):
            assert post(other, VOCALIZE, None, text="Hi.", voiceId="en-us").status == 200
        refused = post(other, VOCALIZE, None, text="Hi.", voiceId="en-us")
        assert (refused.status, refused.json["success"]) == (429, False)
        assert refused.headers["Retry-After"]
        assert post(other, VOICE, None, text="Hi.", voiceId="en-us").status == 401
        assert post(other, VOCALIZE, text="Hi.", voiceId="en-us").status == 200


def test_an_alias_that_is_not_switched_on_is_not_there(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        for path in (VOCALIZE, VOICE, "/api/temp-audio/x"):
            assert server.ask("GET", path).status == 404


def test_a_server_does_not_start_before_somebody_has_confirmed_that_answers_are_public(
    tmp_path: Path,
) -> None:
    run = program(tmp_path / "data", SOUNDKEEP_ALIASES__ENABLED='["voice"]')
    assert b"aliases.public = true" in run("serve", "--port", 0, fails=2).stderr


def test_without_an_engine_vocalize_says_what_failed(tmp_path: Path) -> None:
    with running(tmp_path / "data", **ENABLED, SPEECH__ENGINES="{}") as server:
        refused = post(server, VOCALIZE, text=TEXT, voiceId="en-us")
        assert (refused.status, refused.json["success"]) == (503, False)
        assert "no engine" in refused.json["error"]


# --- the rate -------------------------------------------------------------------------------


def test_a_minute_has_so_many_calls_for_each_caller() -> None:
    now = 0.0
    rate = Rate(2, lambda: now)
    for _ in range(2):
        rate.admit("a")
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            rate.admit("a")
    rate.admit("b")
    now = 30.0
    rate.admit("a")
    with pytest.raises(TooManyRequests):
        rate.admit("a")
