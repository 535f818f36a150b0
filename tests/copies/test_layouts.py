"""A sidecar never gets the key of a sound: layouts in which it could are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers import make_blob
from soundkeep.copies.layouts import may_meet
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules
from soundkeep.errors import SettingsError
from soundkeep.settings import Settings

APART = [
    ("blobs/{digest}", "tracks/{track_id}.json"),
    ("audio/{track_id}.{ext}", "metadata/{track_id}.json"),
    ("{track_id}.{ext}", "{track_id}.json"),
    ("{track_id}/sound.{ext}", "{track_id}/about.json"),
    ("{owner}/{path}", ".tracks/{track_id}.json"),
    ("{owner}/{path}", "{track_id}.json"),
    ("{digest}", "{track_id}.json"),
]
TOGETHER = [
    ("blobs/{digest}", "blobs/{track_id}"),
    ("{track_id}", "{track_id}.json"),
    ("{owner}/{path}", "tracks/{track_id}.json"),
    ("{path}/of/{owner}", "{owner}/of/{track_id}"),
    ("tracks/{track_id}", "tracks/{track_id}.json"),
    ("{path}/{digest}", "{path}/{track_id}"),
]


@pytest.mark.parametrize(("audio", "sidecars"), APART)
def test_keys_that_differ_for_all_tracks_are_told_to(audio: str, sidecars: str) -> None:
    assert not may_meet(audio, sidecars)
    assert not may_meet(sidecars, audio)
    assert Layout.parse_sidecars(sidecars, Layout.parse(audio, public=False), public=False)


@pytest.mark.parametrize(("audio", "sidecars"), TOGETHER)
def test_keys_that_could_be_one_are_refused(audio: str, sidecars: str) -> None:
    assert may_meet(audio, sidecars)
    assert may_meet(sidecars, audio)
    with pytest.raises(SettingsError, match="could get the key of a sound"):
        Layout.parse_sidecars(sidecars, Layout.parse(audio, public=False), public=False)


words = {
    "digest": st.sampled_from([make_blob(b"a").digest.hex, make_blob(b"b").digest.hex]),
    "track_id": st.sampled_from(["a", "tracks", "a.json", "a.mp3", "9" * 64]),
    "owner": st.sampled_from(["tracks", "a", "a.json", "b@c"]),
    "path": st.sampled_from(["a", "a.json", "tracks/a.json", "a/a.mp3", ".tracks/a", "a/of/a"]),
    "ext": st.sampled_from(["mp3", "opus"]),
}
layouts = st.sampled_from(sorted({layout for pair in (*APART, *TOGETHER) for layout in pair}))


@given(layouts, layouts, st.fixed_dictionaries(words), st.fixed_dictionaries(words))
def test_two_keys_that_are_equal_were_never_said_to_be_apart(
    one: str, other: str, these: dict[str, str], those: dict[str, str]
) -> None:
    if filled(one, these) == filled(other, those):
        assert may_meet(one, other)


def filled(layout: str, given: dict[str, str]) -> str:
    return re.sub(r"\{([a-z_]*)\}", lambda match: given[match[1]], layout)


@pytest.mark.parametrize(
    ("text", "public", "why"),
    [
        ("{digest}.json", False, "must hold {track_id}"),
        ("all.json", False, "must hold"),
        ("{path}{track_id}.json", False, "run together"),
        ("{owner}/{track_id}.json", True, "may not show {owner}"),
        (".soundkeep/{track_id}.json", False, "is reserved"),
        ("{track}.json", False, "no word {track}"),
    ],
)
def test_a_layout_that_makes_no_good_sidecar_keys_is_refused(
    text: str, public: bool, why: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(why)):
        Layout.parse_sidecars(text, Layout(DEFAULT_LAYOUT), public=public)


def test_a_layout_that_may_fall_back_to_the_default_must_be_apart_from_that_too() -> None:
    """A path may be too long for a key; a track's id never is."""
    by_id = Layout.parse("tracks/{track_id}", public=False)
    assert Layout.parse_sidecars("beside/{track_id}", by_id, public=False)
    with pytest.raises(SettingsError, match=re.escape("'tracks/{track_id}.json'")):
        Layout.parse_sidecars("beside/{path}/{track_id}", by_id, public=False)


def test_settings_name_the_layout_and_a_way_out() -> None:
    disk = {"kind": "local", "path": "audio", "key": "{owner}/{path}"}
    stores = {"disk": disk, "backup": {"kind": "database"}}
    with pytest.raises(SettingsError, match="name another folder, or set sidecars = false"):
        Rules.of(Settings(stores=stores))  # type: ignore[arg-type] # as a file has them
    for way_out in ({"sidecars": False}, {"sidecar_key": ".tracks/{track_id}.json"}):
        stores = {**stores, "disk": {**disk, **way_out}}
        assert Rules.of(Settings(stores=stores))  # type: ignore[arg-type]
