"""OpenAI's own SDK against a real server: only its base URL and its key are changed."""

from __future__ import annotations

import base64
import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx2
import openai
import pytest

from servers.fake_provider import Fake
from servers.soundkeep import KEY, Server, eventually
from soundkeep.audio.sniff import sniff

NUMBERS = itertools.count(1)
LONG = "A long tale goes on and on, sentence after sentence, and nobody minds. " * 14

OFFLINE_HUMS = {"model": "offline", "voice": "en-us", "instructions": "Hum."}


def fresh_text(words: str = "Nobody has said this before: number") -> str:
    return f"{words} {next(NUMBERS)}."


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY) as client:
        yield client


def say(client: openai.OpenAI, text: str, **more: Any) -> Any:
    """The SDK's answer with its headers."""
    asked = {"model": "tts-1", "voice": "nova", "input": text, **more}
    return client.audio.speech.with_raw_response.create(**asked)


def hear(client: openai.OpenAI, text: str, **more: Any) -> bytes:
    """All of it, as it comes."""
    asked = {"model": "tts-1", "voice": "nova", "input": text, **more}
    with client.audio.speech.with_streaming_response.create(**asked) as answer:
        return b"".join(answer.iter_bytes())


# --- sound ----------------------------------------------------------------------------------


def test_what_was_said_once_is_never_paid_for_again(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    text = fresh_text()
    first, second, third = (say(client, text) for _ in range(3))
    assert first.content == second.content == third.content
    assert sniff(first.content).media_type == "audio/mpeg"
    told = [answer.headers["x-soundkeep-cache"] for answer in (first, second, third)]
    assert told == ["miss", "hit", "hit"]
    assert first.headers["x-soundkeep-cost"] == f"{len(text) * 0.015:g} USD"
    assert second.headers["x-soundkeep-cost"] == third.headers["x-soundkeep-cost"] == "0"
    assert first.headers["x-soundkeep-key"] == third.headers["x-soundkeep-key"]
    assert fake_openai.charges()["charges"] == 1


def test_sound_is_heard_while_it_is_still_spoken(client: openai.OpenAI, fake_openai: Fake) -> None:
    fake_openai.behave(piece_seconds=0.2, piece_bytes=100_000)
    text = fresh_text(LONG)
    asked = {"model": "tts-1", "voice": "nova", "input": text, "response_format": "mp3"}
    with client.audio.speech.with_streaming_response.create(**asked) as answer:
        pieces = answer.iter_bytes(1024)
        heard = next(pieces)
        assert fake_openai.charges()["running"] == 1
        heard += b"".join(pieces)
    assert heard == say(client, text).content


def test_sound_comes_as_events_with_the_same_bytes(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    text = fresh_text(LONG)
    asked = {"model": "tts-1", "voice": "nova", "input": text, "stream_format": "sse"}
    for expected in ("miss", "hit"):
        with client.audio.speech.with_streaming_response.create(**asked) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-soundkeep-cache"] == expected
            lines = [line for line in answer.iter_lines() if line]
        *pieces, done = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert {piece["type"] for piece in pieces} == {"speech.audio.delta"}
        assert done["type"] == "speech.audio.done"
        assert set(done["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
        heard = b"".join(base64.b64decode(piece["audio"]) for piece in pieces)
        assert heard == say(client, text).content
    assert fake_openai.charges()["charges"] == 1


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("opus", "audio/ogg"), ("aac", "audio/aac"), ("flac", "audio/flac"), ("wav", "audio/wav")],
)
def test_every_format_comes_as_it_was_asked_for(
    client: openai.OpenAI, fake_openai: Fake, name: str, media_type: str
) -> None:
    text = fresh_text()
    answer = say(client, text, response_format=name)
    assert answer.headers["content-type"] == media_type
    assert sniff(answer.content).media_type == media_type
    assert say(client, text, response_format=name).content == answer.content


def test_raw_samples_have_24_khz_and_no_head(client: openai.OpenAI, fake_openai: Fake) -> None:
    text = fresh_text()
    samples = say(client, text, response_format="pcm").content
    again = say(client, text, response_format="pcm")
    assert again.content == samples
    assert int(again.headers["content-length"]) == len(samples)
    assert not samples.startswith(b"RIFF")
    wav = say(client, text, response_format="wav_24000").content
    assert wav[44:] == samples


def test_every_field_that_can_be_heard_is_sent_on_and_keyed(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    text = fresh_text()
    more = {"instructions": "Whisper.", "speed": 1.25, "extra_body": {"tone": {"warm": 1}}}
    first = say(client, text, **more)
    plain = say(client, text)
    silent = say(client, text, extra_body={"user": "anna", "stream": True})
    bodies = [each["body"] for each in fake_openai.charges()["asked"]]
    assert len(bodies) == 2
    assert bodies[0]["instructions"] == "Whisper."
    assert bodies[0]["speed"] == 1.25
    assert bodies[0]["tone"] == {"warm": 1}
    keys = [answer.headers["x-soundkeep-key"] for answer in (first, plain, silent)]
    assert keys[0] != keys[1] == keys[2]


def test_a_voice_may_be_an_object_and_may_have_another_name(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    text = fresh_text()
    answers = [say(client, text, voice=voice) for voice in ("nova", {"id": "nova"}, "robot")]
    assert len({answer.headers["x-soundkeep-key"] for answer in answers}) == 1
    assert fake_openai.charges()["charges"] == 1


def test_a_model_chooses_its_engine_and_the_default_one_serves_the_rest(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    text = fresh_text()
    for model in ("gpt-9-audio", "offline", "offline/espeak-ng", "espeak-ng"):
        assert say(client, text, model=model, voice="storyteller").content
    assert fake_openai.charges()["calls"] == 0
    assert say(client, text, model="compatible/tts-1-hd").content
    assert fake_openai.charges()["asked"][0]["body"]["model"] == "tts-1-hd"


def test_a_collection_that_is_named_gets_a_track(
    client: openai.OpenAI, server: Server, fake_openai: Fake
) -> None:
    for collection in ("tales", "news"):
        text = fresh_text()
        for _ in range(2):
            heard = say(client, text, extra_headers={"X-Soundkeep-Collection": collection})
        found = server.ask("GET", f"/api/tracks?prefix={collection}/").json["items"]
        assert [track["title"] for track in found] == [text]
        assert server.sound(found[0]["id"]) == heard.content
    known = say(client, text, extra_headers={"X-Soundkeep-Collection": "tales"})
    assert known.headers["x-soundkeep-cache"] == "hit"
    assert len(server.ask("GET", "/api/tracks?prefix=tales/").json["items"]) == 2


def test_a_substitute_that_was_named_speaks_for_an_engine_that_cannot(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    text = fresh_text()
    asked = {"model": "dear/tts-1", "voice": "nova", "response_format": "wav"}
    with pytest.raises(openai.APIStatusError):
        say(client, text, **asked)
    named = {"X-Soundkeep-Substitutes": "nobody/at-all, offline/en-us"}
    heard = [say(client, text, **asked, extra_headers=named) for _ in range(2)]
    own = say(client, text, model="offline", voice="en-us", response_format="wav")
    assert [answer.headers["x-soundkeep-substitute"] for answer in heard] == ["offline"] * 2
    assert "x-soundkeep-substitute" not in own.headers
    told = [answer.headers["x-soundkeep-cache"] for answer in (*heard, own)]
    assert told == ["miss", "hit", "hit"]
    assert heard[0].content == heard[1].content == own.content
    assert fake_openai.charges()["calls"] == 0


# --- lists ----------------------------------------------------------------------------------


def test_the_models_of_every_engine_are_listed(client: openai.OpenAI) -> None:
    listed = {model.id: model.owned_by for model in client.models.list()}
    assert listed["tts-1"] == "compatible"
    assert listed["dear/tts-1"] == "dear"
    assert listed["eleven_flash_v2_5"] == "eleven"
    assert listed["espeak-ng"] == "offline"
    assert client.models.retrieve("tts-1-hd").id == "tts-1-hd"
    assert client.models.retrieve("dear/tts-1").owned_by == "dear"
    with pytest.raises(openai.NotFoundError) as told:
        client.models.retrieve("gpt-9")
    assert told.value.code == "model_not_found"


# --- errors ---------------------------------------------------------------------------------


def test_a_wrong_key_is_told_as_openai_tells_it(server: Server, fake_openai: Fake) -> None:
    wrong = openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY + "x")
    with wrong as client:
        with pytest.raises(openai.AuthenticationError) as told:
            say(client, "Hello.")
        assert told.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert fake_openai.charges()["calls"] == 0


def test_a_budget_refuses_before_the_call_and_is_not_asked_again(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    with pytest.raises(openai.APIStatusError) as told:
        say(client, fresh_text(), model="dear/tts-1")
    assert told.value.status_code == 402
    assert told.value.code == "insufficient_quota"
    assert told.value.response.headers["x-soundkeep-error"] == "over_budget"
    assert fake_openai.charges()["calls"] == 0


@pytest.mark.parametrize(
    ("more", "kind", "code", "param"),
    [
        ({"voice": "nobody"}, openai.BadRequestError, "unknown_voice", "voice"),
        ({"model": "dear/gpt-9"}, openai.NotFoundError, "model_not_found", "model"),
        ({"response_format": "zip"}, openai.BadRequestError, "bad_speech", None),
        ({"response_format": "mp3_7"}, openai.BadRequestError, "unknown_format", "response_format"),
        ({"stream_format": "smoke"}, openai.BadRequestError, "bad_speech", None),
        ({"speed": -1}, openai.BadRequestError, "bad_speech", None),
        ({"speed": "fast"}, openai.BadRequestError, "bad_speech", None),
        ({"input": ""}, openai.BadRequestError, "bad_text", "input"),
        ({"input": "\U0001f600"}, openai.BadRequestError, "bad_text", "input"),
        ({"input": None}, openai.BadRequestError, "bad_text", "input"),
        ({"input": "word " * 2_000_000}, openai.APIStatusError, "upload_too_large", None),
        (OFFLINE_HUMS, openai.BadRequestError, "engine_refused", None),
    ],
)
def test_what_cannot_be_said_is_refused_before_any_call(
    client: openai.OpenAI, fake_openai: Fake, more: Any, kind: Any, code: str, param: str | None
) -> None:
    with pytest.raises(kind) as told:
        say(client, fresh_text(), **more)
    assert told.value.code == code
    assert told.value.param == param
    assert fake_openai.charges()["calls"] == 0


def test_a_voice_that_nobody_has_says_how_to_give_it_one(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"speech\.voices"):
        say(client, fresh_text(), model="offline", voice="alloy")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"1"])
def test_a_body_that_is_no_object_is_refused(server: Server, body: bytes) -> None:
    answer = server.ask("POST", "/openai/v1/audio/speech", body)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_other_paths_and_methods_are_refused_in_the_same_shape(server: Server) -> None:
    for method, path, status in (
        ("GET", "/audio/speech", 405),
        ("POST", "/models", 405),
        ("POST", "/chat/completions", 404),
    ):
        answer = server.ask(method, f"/openai/v1{path}", b"{}" if method == "POST" else None)
        assert answer.status == status
        assert answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fault", "kind", "status", "calls"),
    [
        ("invalid_api_key", openai.InternalServerError, 502, 1),
        ("payment_required", openai.APIStatusError, 402, 1),
        ("insufficient_quota", openai.APIStatusError, 402, 1),
        ("unprocessable", openai.BadRequestError, 400, 1),
        ("internal", openai.InternalServerError, 503, 1),
        ("html", openai.InternalServerError, 502, 1),
        ("empty", openai.InternalServerError, 502, 1),
        ("wrong_type", openai.InternalServerError, 502, 1),
        ("cut_off", openai.InternalServerError, 502, 1),
        ("reset", openai.InternalServerError, 503, 1),
    ],
)
def test_a_retry_that_may_be_paid_for_is_not_made(
    client: openai.OpenAI, fake_openai: Fake, fault: str, kind: Any, status: int, calls: int
) -> None:
    fake_openai.behave(fault=fault, piece_bytes=512)
    with pytest.raises(kind) as told:
        say(client, fresh_text())
    assert told.value.status_code == status
    assert told.value.response.headers["x-should-retry"] == "false"
    assert fake_openai.charges()["calls"] == calls
    assert fake_openai.charges()["charges"] <= 1


@pytest.mark.parametrize("fault", ["rate_limit_exceeded", "unavailable"])
def test_what_cost_nothing_is_tried_again_and_paid_for_once(
    client: openai.OpenAI, fake_openai: Fake, fault: str
) -> None:
    fake_openai.behave(fault=fault, times=1, retry_after="1")
    assert say(client, fresh_text()).content
    assert fake_openai.charges()["charges"] == 1
    assert fake_openai.charges()["calls"] == 2


def test_too_many_calls_are_told_as_such(client: openai.OpenAI, fake_openai: Fake) -> None:
    fake_openai.behave(fault="rate_limit_exceeded")
    with pytest.raises(openai.RateLimitError) as told:
        say(client.with_options(max_retries=0), fresh_text())
    assert told.value.code == "rate_limit_exceeded"
    assert int(told.value.response.headers["retry-after"]) >= 1
    assert fake_openai.charges()["charges"] == 0


def test_a_stream_that_fails_is_cut_and_never_ended(
    client: openai.OpenAI, fake_openai: Fake
) -> None:
    fake_openai.behave(fault="cut_off", piece_bytes=150_000, piece_seconds=0.5)
    for stream_format in ("audio", "sse"):
        with pytest.raises((httpx2.RemoteProtocolError, openai.APIConnectionError)):
            hear(client, fresh_text(LONG), stream_format=stream_format)


def test_an_engine_that_is_out_is_named(client: openai.OpenAI, fake_openai: Fake) -> None:
    fake_openai.behave(fault="unavailable")
    with pytest.raises(openai.InternalServerError, match="compatible") as told:
        say(client.with_options(max_retries=0), fresh_text())
    assert told.value.status_code == 503


def test_hits_are_counted(client: openai.OpenAI, server: Server, fake_openai: Fake) -> None:
    def hits() -> int:
        with closing(sqlite3.connect(server.data / "catalog.db")) as catalog:
            [[number]] = catalog.execute("select coalesce(sum(hits), 0) from segments")
        return int(number)

    text = fresh_text()
    say(client, text)
    before = hits()
    for _ in range(5):
        say(client, text)
    eventually(lambda: hits() >= before + 5)
