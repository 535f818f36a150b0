"""Speech over HTTP, by the offline voice and a real server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from servers.soundkeep import KEY, Answer, Server, eventually, running
from soundkeep.speech.asked import Asked
from soundkeep.speech.keys import segment_key
from sounds import wav

FIRST = "The keeper wound the clock. Then she slept."
SECOND = "It struck nine in the morning."
TEXT = f"{FIRST}\n\n{SECOND}"
FIELDS = {
    "key", "track_id", "url", "cached", "temporary", "cid", "engine", "voice", "model", "format",
    "words", "duration_seconds", "segments", "segments_generated", "characters_paid", "cost",
    "timing_source",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("speech") / "data") as server:
        yield server


def post(server: Server, text: str, /, accept: str = "*/*", **fields: Any) -> Answer:
    body = json.dumps({"text": text, **fields}).encode()
    return server.ask("POST", "/api/speech", body, Accept=accept)


def said(server: Server, text: str, **fields: Any) -> dict[str, Any]:
    answer = post(server, text, **fields)
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json
    return document


# --- saying ---------------------------------------------------------------------------------


def test_a_speech_answers_all_its_fields_and_is_a_hit_the_next_time(server: Server) -> None:
    first = said(server, TEXT)
    assert set(first) >= FIELDS
    assert (first["cached"], first["segments"], first["segments_generated"]) == (False, 2, 2)
    assert first["characters_paid"] == len(FIRST) + len(SECOND)
    assert (first["words"], first["timing_source"], first["format"]) == (14, "provider", "mp3")
    assert first["temporary"] is False

    second = said(server, TEXT)
    assert (second["cached"], second["segments_generated"], second["characters_paid"]) == (
        True,
        0,
        0,
    )
    assert {name: second[name] for name in ("key", "track_id", "url", "duration_seconds")} == {
        name: first[name] for name in ("key", "track_id", "url", "duration_seconds")
    }


def test_a_substitute_is_named_in_the_answer(server: Server) -> None:
    text = "Whoever can may say this."
    plain = said(server, text, engine="offline", substitutes=["offline/en-us"])
    assert (plain["substitute"], plain["engine"]) == (False, "offline")
    wrong = post(server, text, substitutes="offline")
    assert (wrong.status, wrong.json["code"]) == (400, "bad_speech")


def test_a_speech_is_a_track_of_its_owner_in_the_collection(server: Server) -> None:
    document = said(server, TEXT, collection="book/one", owner="anna", metadata={"chapter": 1})
    track = server.ask("GET", f"/api/tracks/{document['track_id']}").json
    assert (track["owner"], track["visibility"], track["metadata"]) == (
        "anna",
        "private",
        {"chapter": 1},
    )
    assert track["path"] == f"book/one/{document['key']}.mp3"
    assert track["url"] == document["url"]
    other = said(server, TEXT, collection="book/two", owner="anna")
    assert other["key"] == document["key"]
    assert other["track_id"] != document["track_id"]
    sound = server.sound(document["track_id"])
    assert sound == server.sound(other["track_id"])


def test_who_asks_for_audio_gets_the_same_bytes_as_are_kept(server: Server) -> None:
    text = "Nobody has asked for this before."
    spoken = post(server, text, accept="audio/*", format="wav")
    assert (spoken.status, spoken.headers["content-type"]) == (200, "audio/wav")
    assert spoken.headers["X-Soundkeep-Cache"] == "miss"
    document = said(server, text, format="wav")
    assert document["cached"]
    assert spoken.headers["X-Soundkeep-Key"] == document["key"]
    assert spoken.body == server.sound(document["track_id"])
    again = post(server, text, accept="audio/wav", format="wav")
    assert (again.headers["X-Soundkeep-Cache"], again.body) == ("hit", spoken.body)


def test_a_caller_who_hangs_up_cancels_nothing(server: Server) -> None:
    text = "\n\n".join(f"This is paragraph number {number} of them." for number in range(40))
    body = json.dumps({"text": text, "collection": "hung-up"}).encode()
    address = urlsplit(server.url)
    head = f"POST /api/speech HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    with socket.create_connection((address.hostname, address.port)) as caller:
        caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: server.ask("GET", "/api/speech/stats").json["calls"]["open"])

    def tracks() -> list[Any]:
        found: list[Any] = server.ask("GET", "/api/tracks?prefix=hung-up/").json["items"]
        return found

    eventually(tracks)
    document = said(server, text, collection="hung-up")
    assert document["cached"]
    assert document["track_id"] == tracks()[0]["id"]


# --- finding --------------------------------------------------------------------------------


def test_a_speech_is_found_by_its_key_as_json_and_as_sound(server: Server) -> None:
    document = said(server, TEXT)
    found = server.ask("GET", f"/api/speech/{document['key']}")
    assert found.status == 200
    assert found.json == {**document, "cached": True, "segments_generated": 0, "characters_paid": 0}
    sound = server.ask("GET", f"/api/speech/{document['key']}", Accept="audio/*")
    assert sound.headers["content-type"] == "audio/mpeg"
    assert sound.body == server.sound(document["track_id"])


def test_a_segment_is_found_by_its_own_key(server: Server) -> None:
    """One take in the engine's own format: its segment is a speech too."""
    text = "A segment by itself."
    said(server, text, format="wav")
    key = segment_key(Asked("offline", "espeak-ng", "en-us", text, None, 1, {}, "wav_22050"))
    found = server.ask("GET", f"/api/speech/{key}").json
    assert (found["key"], found["track_id"], found["segments"], found["format"]) == (
        key,
        None,
        1,
        "wav",
    )
    marks = server.ask("GET", f"/api/speech/{key}/timing").json
    assert next(text[word["start"] : word["end"]] for word in marks["words"]) == "A"


def test_the_sound_of_a_key_has_ranges(server: Server) -> None:
    path = f"/api/speech/{said(server, TEXT)['key']}"
    whole = server.ask("GET", path, Accept="audio/*")
    part = server.ask("GET", path, Accept="audio/*", Range="bytes=100-199")
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.body)}"
    same = server.ask("GET", path, Accept="audio/*", If_None_Match=whole.headers["ETag"])
    assert (same.status, same.body) == (304, b"")
    beyond = server.ask("GET", path, Accept="audio/*", Range=f"bytes={len(whole.body)}-")
    assert (beyond.status, beyond.json["code"]) == (416, "range_not_satisfiable")


def test_an_unknown_key_has_a_code_of_its_own(server: Server) -> None:
    for path in ("/api/speech/nothing", "/api/speech/nothing/timing", "/api/speech/a%00b"):
        refused = server.ask("GET", path)
        assert (refused.status, refused.json["code"]) == (404, "no_such_speech")


def test_what_is_revoked_is_gone_and_is_paid_for_anew(server: Server) -> None:
    text = "Take this back.\n\nAnd keep this."
    document = said(server, text, owner="revoker")
    revoked = server.ask("DELETE", f"/api/speech/{document['key']}")
    assert revoked.status == 202
    assert revoked.json["speeches"] == [document["key"]]
    assert revoked.json["tracks"] == [document["track_id"]]
    assert len(revoked.json["segments"]) == 2
    assert server.ask("GET", f"/audio/{document['track_id']}").status == 404
    assert server.ask("GET", f"/api/speech/{document['key']}").json["code"] == "no_such_speech"
    again = server.ask("DELETE", f"/api/speech/{document['key']}")
    assert (again.status, again.json["speeches"]) == (202, [])
    anew = said(server, text, owner="revoker")
    assert (anew["key"], anew["segments_generated"]) == (document["key"], 2)
    assert anew["track_id"] != document["track_id"]


# --- timings --------------------------------------------------------------------------------


def test_timings_of_a_track_mark_the_text_that_was_sent(server: Server) -> None:
    document = said(server, TEXT)
    timing = server.ask("GET", f"/api/tracks/{document['track_id']}/timing").json
    assert (timing["text"], timing["timing_source"]) == (TEXT, "provider")
    sentences = [TEXT[mark["start"] : mark["end"]] for mark in timing["sentences"]]
    assert sentences == ["The keeper wound the clock.", "Then she slept.", SECOND]
    assert len(timing["words"]) == document["words"]
    assert timing == server.ask("GET", f"/api/speech/{document['key']}/timing").json


def test_timings_are_webvtt_for_who_asks_for_it(server: Server) -> None:
    path = f"/api/tracks/{said(server, TEXT)['track_id']}/timing"
    by_query = server.ask("GET", f"{path}?format=vtt")
    assert by_query.headers["content-type"].startswith("text/vtt")
    assert by_query.body.startswith(b"WEBVTT\n")
    assert by_query.body.count(b" --> ") == 3
    assert server.ask("GET", path, Accept="text/vtt").body == by_query.body
    assert server.ask("GET", f"{path}?format=srt").json["code"] == "bad_input"


def test_a_track_that_nobody_had_spoken_has_no_timing(server: Server) -> None:
    track = server.upload("music.wav", wav(5_000, seed=1))
    refused = server.ask("GET", f"/api/tracks/{track['id']}/timing")
    assert (refused.status, refused.json["code"]) == (404, "no_timing")
    assert server.ask("GET", "/api/tracks/nobody/timing").json["code"] == "no_such_track"


# --- figures --------------------------------------------------------------------------------


def test_statistics_tell_hits_misses_voices_and_times(server: Server) -> None:
    said(server, "For the statistics.", owner="counted")
    said(server, "For the statistics.", owner="counted")

    def counted() -> bool:
        stats = server.ask("GET", "/api/speech/stats?owner=counted").json
        return (stats["hits"], stats["misses"], stats["hit_rate"]) == (1, 1, 0.5)

    eventually(counted)
    stats = server.ask("GET", "/api/speech/stats").json
    assert set(stats) >= {"hits", "misses", "hit_rate", "spent", "saved", "currency", "unknown"}
    assert (stats["unknown"], stats["spent"]) == (0, 0)
    assert stats["voices"][0]["voice"] == "en-us"
    assert stats["voices"][0]["first_byte_seconds"] > 0
    assert stats["engine_seconds"]["offline"] > 0
    eventually(
        lambda: (
            set(server.ask("GET", "/api/speech/stats").json["store_seconds"]) == {"disk", "backup"}
        )
    )


def test_voices_are_listed_with_their_engine(server: Server) -> None:
    listed = server.ask("GET", "/api/speech/voices?engine=offline").json["items"]
    assert {"engine": "offline", "id": "en-us"}.items() <= next(
        voice for voice in listed if voice["id"] == "en-us"
    ).items()
    assert server.ask("GET", "/api/speech/voices").json["items"] == listed
    assert server.ask("GET", "/api/speech/voices?engine=nobody").json["code"] == "bad_speech"


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"text": ""}, 400, "bad_text"),
        ({"text": "\U0001f600"}, 400, "bad_text"),
        ({"text": "<b></b>"}, 400, "bad_text"),
        ({"text": "a\u0000b"}, 400, "bad_text"),
        ({"text": "x" * 10_000_000}, 400, "bad_text"),
        ({"text": "Hello.", "voice": "Rachel"}, 400, "unknown_voice"),
        ({"text": "Hello.", "format": "mp3_1"}, 400, "unknown_format"),
        ({"text": "Hello.", "speed": -1}, 400, "bad_speech"),
        ({"text": "Hello.", "speeed": 1}, 400, "bad_speech"),
        ({"text": "Hello.", "engine": "nobody"}, 400, "bad_speech"),
        ({"text": "Hello.", "model": "nothing"}, 400, "unknown_model"),
        ({"text": "Hello.", "collection": "../up"}, 400, "bad_path"),
    ],
)
def test_what_cannot_be_said_is_refused_by_a_code(
    server: Server, fields: dict[str, Any], status: int, code: str
) -> None:
    for accept in ("application/json", "audio/*"):
        answer = server.ask("POST", "/api/speech", json.dumps(fields).encode(), Accept=accept)
        assert (answer.status, answer.json["code"]) == (status, code)


def test_speech_needs_the_key(server: Server) -> None:
    for method, path in (("POST", ""), ("GET", "/stats"), ("GET", "/voices"), ("GET", "/x")):
        assert server.ask(method, f"/api/speech{path}", b"{}", key=None).status == 401


def test_a_server_without_an_engine_says_what_is_missing(tmp_path: Path) -> None:
    with running(tmp_path / "data", SPEECH__ENGINES="{}") as server:
        refused = post(server, TEXT)
        assert (refused.status, refused.json["code"]) == (503, "engine_unavailable")
        assert "speech.engines" in refused.json["detail"]
        assert refused.headers["Retry-After"]


def test_a_provider_that_is_out_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    engines = json.dumps(
        {"paid": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "voice": "x", "tries": 1}}
    )
    with running(tmp_path / "data", SPEECH__ENGINES=engines) as server:
        for accept in ("application/json", "audio/*"):
            refused = post(server, TEXT, accept=accept)
            assert (refused.status, refused.json["code"]) == (503, "engine_unavailable")
            assert "paid" in refused.json["detail"]
        assert not server.ask("GET", "/api/tracks?prefix=speech/").json["items"]
