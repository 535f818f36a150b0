"""Keys: what changes the sound changes them, and nothing else ever does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.errors import BadInput
from soundkeep.speech.asked import Asked
from soundkeep.speech.keys import canonical, segment_key, speech_key

GOLDEN = json.loads((Path(__file__).parent / "golden_keys.json").read_text(encoding="utf-8"))

ASKED = Asked(
    engine="elevenlabs",
    model="eleven_multilingual_v2",
    voice="JBFqnCBsd6RMkjVDRZzb",
    text="The caf\xe9 is open.",
    language=None,
    speed=1,
    settings={"voice_settings": {"stability": 0.5, "style": 0}, "seed": 7},
    format="mp3_44100_128",
)


@pytest.mark.parametrize("case", GOLDEN["segments"], ids=lambda case: case["about"])
def test_segment_keys_are_what_they_were_when_the_form_was_made(case: dict[str, Any]) -> None:
    asked = Asked(**case["asked"])
    assert canonical(asked).decode() == case["canonical"]
    assert segment_key(asked) == case["key"]
    assert hashlib.sha256(case["canonical"].encode()).hexdigest() == case["key"]


@pytest.mark.parametrize("case", GOLDEN["speeches"], ids=lambda case: case["about"])
def test_speech_keys_are_what_they_were_when_the_form_was_made(case: dict[str, Any]) -> None:
    assert speech_key(case["segments"], case["format"]) == case["key"]


@pytest.mark.parametrize(
    "other",
    [
        {"engine": "openai"},
        {"model": "eleven_v3"},
        {"voice": "another"},
        {"text": "The caf\xe9 is open!"},
        {"text": "The cafe is open."},
        {"language": "fr"},
        {"speed": 1.1},
        {"settings": {}},
        {"settings": {"voice_settings": {"stability": 0.5, "style": 0}, "seed": "7"}},
        {"settings": {"voice_settings": {"stability": 0.5, "style": False}, "seed": 7}},
        {"settings": {"voice_settings": {"stability": 0.500001, "style": 0}, "seed": 7}},
        {"format": "mp3_44100_192"},
        {"owner": "ada"},
    ],
    ids=str,
)
def test_everything_that_changes_the_sound_changes_the_key(other: dict[str, Any]) -> None:
    assert segment_key(replace(ASKED, **other)) != segment_key(ASKED)


@pytest.mark.parametrize(
    "other",
    [
        {"speed": 1.0},
        {"speed": 1.0000000001},
        {"settings": {"seed": 7.0, "voice_settings": {"style": -0.0, "stability": 0.5}}},
        {"settings": {"seed": 7, "voice_settings": {"style": 0, "stability": 0.1 + 0.4}}},
        {"settings": {**ASKED.settings, "previous_text": None}},
    ],
    ids=str,
)
def test_another_spelling_of_the_same_request_has_the_same_key(other: dict[str, Any]) -> None:
    assert segment_key(replace(ASKED, **other)) == segment_key(ASKED)


def test_the_engine_is_asked_exactly_what_is_keyed() -> None:
    asked = replace(ASKED, speed=1.10000000001, settings={"stability": 0.30000000000000004})
    assert (asked.speed, asked.settings) == (1.1, {"stability": 0.3})


def test_owners_share_keys_unless_the_owner_is_named() -> None:
    assert "owner" not in json.loads(canonical(ASKED))
    assert segment_key(replace(ASKED, owner="ada")) != segment_key(replace(ASKED, owner="bob"))


def test_a_speech_is_its_segments_in_order_and_its_format() -> None:
    one, two = "1" * 64, "2" * 64
    keys = {
        speech_key([one, two], "mp3"),
        speech_key([two, one], "mp3"),
        speech_key([one], "mp3"),
        speech_key([one, two], "opus"),
    }
    assert len(keys) == 4
    assert one not in keys


@pytest.mark.parametrize(
    "setting", [float("nan"), float("inf"), "\ud800", {"\ud800": 1}, [[float("-inf")]]], ids=ascii
)
def test_what_json_cannot_hold_is_an_error(setting: Any) -> None:
    with pytest.raises(BadInput):
        replace(ASKED, settings={"setting": setting})


def test_settings_nested_without_end_are_an_error() -> None:
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(BadInput, match="nested"):
        replace(ASKED, settings={"deep": deep})


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_canonical_form_reads_back_as_what_was_asked(settings: dict[str, Any]) -> None:
    """So a kept request can be keyed anew in a later form."""
    asked = replace(ASKED, settings=settings)
    kept = json.loads(canonical(asked))
    assert kept.pop("form") == 1
    again = Asked(**kept)
    assert asdict(again) == asdict(asked)
    assert canonical(again) == canonical(asked)
