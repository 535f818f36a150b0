"""A request for speech: understood at the edge, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.errors import BadInput, BadMetadata, BadPath, BadSpeech, BadText
from soundkeep.speech.asked import Asked
from soundkeep.speech.request import FIELDS, Substitute, speech_request


def test_a_text_is_enough() -> None:
    request = speech_request({"text": "  Hello\u200b there.  "})
    assert request.shown == "  Hello\u200b there.  "
    assert request.normalised.text == "Hello there."
    assert (request.voice, request.engine, request.model, request.language) == (None,) * 4
    assert (request.speed, request.format, request.settings) == (1, "mp3", {})
    assert (request.collection, request.owner, request.metadata) == (None, "admin", {})
    assert (request.segment_by, request.timings) == ("paragraph", True)


def test_every_field_is_kept() -> None:
    fields = {
        "text": "Hello.",
        "voice": "JBFqnCBsd6RMkjVDRZzb",
        "engine": "elevenlabs",
        "model": "eleven_multilingual_v2",
        "language": "pt-BR",
        "speed": 1.25,
        "format": "mp3_44100_128",
        "settings": {"seed": 7, "voice_settings": {"stability": 0.5}},
        "collection": "alice/chapter 1",
        "owner": "ada",
        "metadata": {"chapterId": 7},
        "segment_by": "sentence",
        "timings": False,
    }
    request = speech_request({**fields, "substitutes": ["offline", "openai/nova"]})
    assert {*fields, "substitutes"} == set(FIELDS)
    assert {name: getattr(request, name) for name in set(fields) - {"text"}} | {
        "text": request.shown
    } == fields
    assert request.substitutes == (Substitute("offline", None), Substitute("openai", "nova"))


def test_a_field_of_null_is_as_good_as_none() -> None:
    nulls = dict.fromkeys(set(FIELDS) - {"text"})
    assert speech_request({"text": "Hello.", **nulls}) == speech_request({"text": "Hello."})


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("text", None, BadText),
        ("text", 7, BadText),
        ("text", "", BadText),
        ("text", "\U0001f600", BadText),
        ("voice", "", BadSpeech),
        ("voice", 7, BadSpeech),
        ("voice", "x" * 201, BadSpeech),
        ("voice", "a\nb", BadSpeech),
        ("voice", "\ud800", BadSpeech),
        ("engine", [], BadSpeech),
        ("model", " edged ", BadSpeech),
        ("language", "English", BadSpeech),
        ("language", "e", BadSpeech),
        ("speed", -1, BadSpeech),
        ("speed", 0, BadSpeech),
        ("speed", 1e-9, BadSpeech),
        ("speed", 10.1, BadSpeech),
        ("speed", 10**400, BadSpeech),
        ("speed", float("nan"), BadInput),
        ("speed", float("inf"), BadInput),
        ("speed", True, BadSpeech),
        ("speed", "1.0", BadSpeech),
        ("format", "mp4", BadSpeech),
        ("format", "MP3", BadSpeech),
        ("format", "mp3_0", BadSpeech),
        ("format", "mp3_44100_128_2", BadSpeech),
        ("format", "mp3\n", BadSpeech),
        ("settings", [], BadSpeech),
        ("settings", {"seed": float("nan")}, BadInput),
        ("collection", "../up", BadPath),
        ("collection", 7, BadSpeech),
        ("owner", "a b", BadInput),
        ("metadata", [], BadMetadata),
        ("metadata", {"nul": "\x00"}, BadMetadata),
        ("segment_by", "page", BadSpeech),
        ("segment_by", ["paragraph"], BadSpeech),
        ("timings", "yes", BadSpeech),
        ("txet", "Hello.", BadSpeech),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_field_that_cannot_be_understood_is_a_clear_error(
    field: str, value: object, error: type[BadInput]
) -> None:
    with pytest.raises(error) as caught:
        speech_request({"text": "Hello.", field: value})
    assert type(caught.value) is error
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


def test_what_the_engine_is_asked_is_the_request_and_what_was_chosen_for_it() -> None:
    request = speech_request(
        {"text": "One.\n\nTwo.", "speed": 1.1, "language": "en", "settings": {"pitch": 60.0}}
    )
    _, segment = request.segments(4096)
    chosen = {"engine": "espeak", "model": "espeak-ng", "voice": "en-us", "master": "wav_22050"}
    expected = Asked(
        engine="espeak",
        model="espeak-ng",
        voice="en-us",
        text="Two.",
        language="en",
        speed=1.1,
        settings={"pitch": 60},
        format="wav_22050",
    )
    assert request.asked(segment, **chosen, shared=True) == expected
    assert request.asked(segment, **chosen, shared=False).owner == "admin"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(FIELDS), anything))
def test_whatever_is_sent_is_a_request_or_bad_input(fields: dict[str, Any]) -> None:
    try:
        request = speech_request({"text": "Hello.", **fields})
    except BadInput:
        return
    assert request.segments(100)
