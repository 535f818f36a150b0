"""ElevenLabs' own SDK against a real server: only its base URL and its key are changed."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import VoiceSettings

from servers.fake_provider import Fake
from servers.soundkeep import KEY, Server
from soundkeep.audio.sniff import sniff

NUMBERS = itertools.count(1)
RACHEL = "21m00Tcm4TlvDq8ikWAM"
MODEL = "eleven_multilingual_v2"
LONG = "A long tale goes on and on, sentence after sentence, and nobody minds. " * 14


def fresh_text(words: str = "Nobody has told this before: number") -> str:
    return f"{words} {next(NUMBERS)}."


@pytest.fixture
def client(server: Server) -> Iterator[ElevenLabs]:
    with httpx.Client(timeout=60) as http:
        yield ElevenLabs(base_url=f"{server.url}/elevenlabs", api_key=KEY, httpx_client=http)


def convert(client: ElevenLabs, text: str, voice: str = RACHEL, **more: Any) -> Any:
    """The sound, and the headers with which it came."""
    asked = {"model_id": MODEL, "text": text, **more}
    with client.text_to_speech.with_raw_response.convert(voice, **asked) as answer:
        return b"".join(answer.data), answer.headers


def stream(client: ElevenLabs, text: str, **more: Any) -> bytes:
    return b"".join(client.text_to_speech.stream(RACHEL, text=text, model_id=MODEL, **more))


# --- sound ----------------------------------------------------------------------------------


def test_what_was_said_once_is_never_paid_for_again(
    client: ElevenLabs, fake_elevenlabs: Fake
) -> None:
    text = fresh_text()
    (first, told), (second, told_again) = convert(client, text), convert(client, text)
    assert first == second == stream(client, text)
    assert sniff(first).media_type == "audio/mpeg"
    assert (told["x-soundkeep-cache"], told_again["x-soundkeep-cache"]) == ("miss", "hit")
    assert (told["character-cost"], told_again["character-cost"]) == (str(len(text)), "0")
    assert told["request-id"]
    assert told["x-soundkeep-cost"] == f"{len(text) / 10:g} USD"
    assert int(told["content-length"]) == len(first)
    assert fake_elevenlabs.charges()["charges"] == 1


def test_sound_is_heard_while_it_is_still_spoken(client: ElevenLabs, fake_elevenlabs: Fake) -> None:
    fake_elevenlabs.behave(piece_seconds=0.2, piece_bytes=100_000)
    text = fresh_text(LONG)
    pieces = client.text_to_speech.stream(RACHEL, text=text, model_id=MODEL)
    heard = next(pieces)
    assert fake_elevenlabs.charges()["running"] == 1
    assert heard + b"".join(pieces) == convert(client, text)[0]


@pytest.mark.parametrize("expected", ["miss", "hit"])
def test_every_character_has_its_time(
    client: ElevenLabs, fake_elevenlabs: Fake, expected: str
) -> None:
    text = fresh_text("Two  spaces, and a number:")
    if expected == "hit":
        convert(client, text)
    asked = {"text": text, "model_id": MODEL}
    answer = client.text_to_speech.with_raw_response.convert_with_timestamps(RACHEL, **asked)
    assert answer.headers["x-soundkeep-cache"] == expected
    assert base64.b64decode(answer.data.audio_base_64) == convert(client, text)[0]
    check_times(answer.data.alignment, text)
    check_times(answer.data.normalized_alignment, text.replace("  ", " "))
    assert fake_elevenlabs.charges()["charges"] == 1


@pytest.mark.parametrize("expected", ["miss", "hit"])
def test_lines_bring_the_same_sound_and_the_same_times(
    client: ElevenLabs, fake_elevenlabs: Fake, expected: str
) -> None:
    text = fresh_text(LONG)
    if expected == "hit":
        convert(client, text)
    lines = list(client.text_to_speech.stream_with_timestamps(RACHEL, text=text, model_id=MODEL))
    heard = b"".join(base64.b64decode(line.audio_base_64) for line in lines)
    assert heard == convert(client, text)[0]
    [alignment] = [line.alignment for line in lines if line.alignment]
    check_times(alignment, text)
    whole = client.text_to_speech.convert_with_timestamps(RACHEL, text=text, model_id=MODEL)
    assert whole.alignment == alignment
    assert fake_elevenlabs.charges()["charges"] == 1


def check_times(alignment: Any, text: str) -> None:
    """A time for each character, none before the one before it, spread over the sound."""
    assert "".join(alignment.characters) == text
    starts = alignment.character_start_times_seconds
    ends = alignment.character_end_times_seconds
    assert len(starts) == len(ends) == len(text)
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert len(set(starts)) > len(text) / 2


def test_every_field_that_can_be_heard_is_sent_on_and_keyed(
    client: ElevenLabs, fake_elevenlabs: Fake
) -> None:
    text = fresh_text()
    more: dict[str, Any] = {
        "voice_settings": VoiceSettings(stability=0.5, style=0.25, speed=1.1),
        "seed": 7,
        "language_code": "en",
        "previous_text": "Before.",
        "next_text": "After.",
        "apply_text_normalization": "off",
        "use_pvc_as_ivc": True,
        "pronunciation_dictionary_locators": [],
    }
    keys = {convert(client, text, **{n: v})[1]["x-soundkeep-key"] for n, v in more.items()}
    assert len(keys) == len(more)
    fake_elevenlabs.reset()
    _, told = convert(client, text, **more)
    assert told["x-soundkeep-key"] not in keys
    [asked] = fake_elevenlabs.charges()["asked"]
    settings = {"stability": 0.5, "style": 0.25, "speed": 1.1}
    assert asked["body"]["voice_settings"] == settings
    sent = {name: asked["body"][name] for name in more if name != "voice_settings"}
    assert sent == {name: value for name, value in more.items() if name != "voice_settings"}


def test_what_cannot_be_heard_is_not_sent_on(client: ElevenLabs, fake_elevenlabs: Fake) -> None:
    text = fresh_text()
    _, plain = convert(client, text)
    _, silent = convert(client, text, optimize_streaming_latency=3, enable_logging=True)
    assert silent["x-soundkeep-key"] == plain["x-soundkeep-key"]
    assert silent["x-soundkeep-cache"] == "hit"


def test_who_asks_that_nothing_be_logged_is_obeyed(
    client: ElevenLabs, fake_elevenlabs: Fake
) -> None:
    convert(client, fresh_text(), enable_logging=False)
    [asked] = fake_elevenlabs.charges()["asked"]
    assert "enable_logging=false" in asked["path"]


@pytest.mark.parametrize(
    ("name", "media_type"), [("opus_48000_64", "audio/ogg"), ("mp3_22050_32", "audio/mpeg")]
)
def test_every_format_comes_as_it_was_asked_for(
    client: ElevenLabs, fake_elevenlabs: Fake, name: str, media_type: str
) -> None:
    text = fresh_text()
    sound, told = convert(client, text, output_format=name)
    assert told["content-type"] == media_type
    assert sniff(sound).media_type == media_type
    assert convert(client, text, output_format=name)[0] == sound


def test_the_offline_voice_speaks_through_this_door_too(
    client: ElevenLabs, fake_elevenlabs: Fake
) -> None:
    text = fresh_text()
    sped = VoiceSettings(speed=1.5)
    sound, _ = convert(client, text, voice="storyteller", model_id="offline", voice_settings=sped)
    assert sniff(sound).media_type == "audio/mpeg"
    timed = client.text_to_speech.convert_with_timestamps(
        "en-us", text=text, model_id="offline", voice_settings=sped
    )
    assert base64.b64decode(timed.audio_base_64) == sound
    check_times(timed.alignment, text)
    assert fake_elevenlabs.charges()["calls"] == 0


# --- lists ----------------------------------------------------------------------------------


def test_voices_of_every_engine_are_listed_page_by_page(client: ElevenLabs) -> None:
    page = client.voices.search(page_size=100)
    found = list(page.voices)
    while page.has_more:
        page = client.voices.search(page_size=100, next_page_token=page.next_page_token)
        found += page.voices
    names = {voice.voice_id: voice for voice in found}
    assert len(names) == len(found) == page.total_count
    assert names[RACHEL].name == "Rachel"
    assert names[RACHEL].labels["engine"] == "eleven"
    assert {"en-us", "nova", "storyteller"} <= set(names)
    assert [each.voice_id for each in client.voices.search(search="Rachel").voices] == [RACHEL]
    assert len(client.voices.get_all().voices) == len(found)
    assert client.voices.get("en-us").voice_id == "en-us"


def test_the_models_of_every_engine_are_listed(client: ElevenLabs) -> None:
    models = {model.model_id: model for model in client.models.list()}
    assert models[MODEL].maximum_text_length_per_request == 10_000
    assert models["eleven_flash_v2_5"].model_rates.character_cost_multiplier == 0.5
    assert "espeak-ng" in models


# --- errors ---------------------------------------------------------------------------------


def test_a_wrong_key_is_told_as_elevenlabs_tells_it(server: Server) -> None:
    with httpx.Client() as http:
        wrong = ElevenLabs(base_url=f"{server.url}/elevenlabs", api_key="no", httpx_client=http)
        for call in (wrong.voices.search, wrong.models.list, lambda: convert(wrong, "Hello.")):
            with pytest.raises(ApiError) as told:
                call()
            assert told.value.status_code == 401
            assert told.value.body["detail"]["status"] == "invalid_api_key"


def test_a_key_may_come_as_a_bearer_too(server: Server) -> None:
    assert server.ask("GET", "/elevenlabs/v1/models").status == 200
    assert server.ask("GET", "/elevenlabs/v1/models", key=None).status == 401
    assert server.ask("GET", "/openai/v1/models", key=None, xi_api_key=KEY).status == 200


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"voice": "nobody"}, 404, "voice_not_found"),
        ({"model_id": "eleven/v9"}, 400, "model_not_found"),
        ({"output_format": "mp3_7"}, 400, "invalid_output_format"),
        ({"model_id": "dear/tts-1", "voice": "nova"}, 402, "quota_exceeded"),
        ({"model_id": "offline", "voice": "en-us", "seed": 1}, 400, "engine_refused"),
        ({"text": "word " * 2_000_000}, 400, "max_character_limit_exceeded"),
    ],
)
def test_what_cannot_be_said_is_refused_before_any_call(
    client: ElevenLabs, fake_elevenlabs: Fake, fake_openai: Fake, more: Any, status: int, code: str
) -> None:
    for call in (convert, timestamped):
        with pytest.raises(ApiError) as told:
            call(client, **{"text": fresh_text(), **more})
        assert told.value.status_code == status
        detail = told.value.body["detail"]
        assert (detail["status"], detail["code"]) == (code, code)
        assert detail["message"]
    assert fake_elevenlabs.charges()["calls"] == fake_openai.charges()["calls"] == 0


def timestamped(client: ElevenLabs, text: str, voice: str = RACHEL, **more: Any) -> Any:
    asked = {"model_id": MODEL, "text": text, **more}
    return client.text_to_speech.convert_with_timestamps(voice, **asked)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"text": ""}, ["body", "text"]),
        ({"text": "\U0001f600"}, ["body", "text"]),
        ({"text": None}, ["body", "text"]),
        ({"language_code": "no language"}, ["body"]),
        ({"model_id": 7}, ["body"]),
        ({"voice_settings": VoiceSettings(speed=-1)}, ["body"]),
    ],
)
def test_what_is_not_understood_is_told_as_a_list(
    client: ElevenLabs, fake_elevenlabs: Fake, more: Any, place: list[str]
) -> None:
    with pytest.raises(ApiError) as told:
        convert(client, **{"text": fresh_text(), **more})
    assert told.value.status_code == 422
    [detail] = told.value.body["detail"]
    assert detail["loc"] == place
    assert detail["msg"]
    assert fake_elevenlabs.charges()["calls"] == 0


def test_other_paths_are_refused_in_the_same_shape(server: Server) -> None:
    for method, path, status in (
        ("GET", "/v1/user/subscription", 404),
        ("POST", f"/v1/text-to-speech/{RACHEL}/sideways", 404),
        ("GET", f"/v1/text-to-speech/{RACHEL}", 405),
        ("POST", "/v1/models", 405),
    ):
        body = b'{"text": "Hi."}' if method == "POST" else None
        answer = server.ask(method, f"/elevenlabs{path}", body)
        assert answer.status == status
        assert answer.json["detail"]["message"]


FAULTS = [
    ("invalid_api_key", 424, 0),
    ("quota_exceeded", 402, 0),
    ("unprocessable", 400, 0),
    ("internal", 424, 0),
    ("html", 424, 1),
    ("empty", 424, 1),
    ("cut_off", 424, 1),
    ("reset", 424, 0),
    ("silent", 424, 1),
]


@pytest.mark.parametrize(("fault", "status", "charges"), FAULTS)
def test_a_retry_that_may_be_paid_for_is_not_made(
    client: ElevenLabs, fake_elevenlabs: Fake, fault: str, status: int, charges: int
) -> None:
    """The SDK retries calls with timestamps by itself after 429 and 5xx."""
    fake_elevenlabs.behave(fault=fault, piece_bytes=512)
    with pytest.raises(ApiError) as told:
        timestamped(client, fresh_text())
    assert told.value.status_code == status
    assert fake_elevenlabs.charges()["calls"] == 1
    assert fake_elevenlabs.charges()["charges"] == charges


@pytest.mark.parametrize(
    "fault", ["rate_limit_exceeded", "system_busy", "too_many_concurrent_requests", "unavailable"]
)
def test_what_cost_nothing_is_tried_again_and_paid_for_once(
    client: ElevenLabs, fake_elevenlabs: Fake, fault: str
) -> None:
    fake_elevenlabs.behave(fault=fault, times=1, retry_after="1")
    text = fresh_text()
    assert timestamped(client, text).audio_base_64
    assert fake_elevenlabs.charges()["charges"] == 1
    assert fake_elevenlabs.charges()["calls"] == 2


def test_too_many_calls_are_told_as_such(client: ElevenLabs, fake_elevenlabs: Fake) -> None:
    fake_elevenlabs.behave(fault="rate_limit_exceeded")
    with pytest.raises(ApiError) as told:
        convert(client, fresh_text())
    assert told.value.status_code == 429
    assert told.value.body["detail"]["status"] == "rate_limit_exceeded"
    assert int(told.value.headers["retry-after"]) >= 1


@pytest.mark.parametrize("with_times", [False, True])
def test_a_stream_that_fails_is_cut_and_never_ended(
    client: ElevenLabs, fake_elevenlabs: Fake, with_times: bool
) -> None:
    fake_elevenlabs.behave(fault="cut_off", piece_bytes=150_000, piece_seconds=0.5)
    speaking = client.text_to_speech
    call: Any = speaking.stream_with_timestamps if with_times else speaking.stream
    with pytest.raises(httpx.RemoteProtocolError):
        list(call(RACHEL, text=fresh_text(LONG), model_id=MODEL))
