"""A sidecar never gets the key of a sound, nor a sound that of a sidecar."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ledgers import make_blob, make_track
from soundkeep.copies.placement import Layout, Rules
from soundkeep.errors import SettingsError
from soundkeep.settings import Settings

BLOB = make_blob(b"sound")
UNDER_ITS_DIGEST = f"blobs/{BLOB.digest}"


def key(audio: str, sidecars: str, track_id: str, path: str | None = None) -> str:
    beside = Layout.parse_sidecars(sidecars, public=False)
    layout = Layout.parse(audio, public=False).sparing(beside)
    track = replace(make_track(track_id, BLOB), owner="ann", path=path or track_id)
    return str(layout.key(BLOB, track))


@pytest.mark.parametrize(
    ("audio", "sidecars"),
    [
        ("blobs/{digest}", "tracks/{track_id}.json"),
        ("audio/{track_id}.{ext}", "metadata/{track_id}.json"),
        ("{track_id}.{ext}", "{track_id}.json"),
        ("{track_id}/sound.{ext}", "{track_id}/about.json"),
        ("{track_id}", "{track_id}.json"),
        ("{owner}/{path}", "tracks/{track_id}.json"),
    ],
)
def test_layouts_go_together_whose_keys_are_apart_but_for_odd_names(
    audio: str, sidecars: str
) -> None:
    assert key(audio, sidecars, "one", "a/b.mp3") == audio.format(
        track_id="one", digest=BLOB.digest, ext=BLOB.sound.extension, owner="ann", path="a/b.mp3"
    )


def test_a_sound_whose_name_makes_the_key_of_a_sidecar_lies_under_its_digest() -> None:
    assert key("{track_id}", "{track_id}.json", "one.json") == UNDER_ITS_DIGEST
    assert key("{path}/{owner}", "{path}/{track_id}.json", "x", "a") == "a/ann"
    assert key("{owner}/{path}", "ann/{track_id}.json", "x", "b.json") == UNDER_ITS_DIGEST
    assert key("{owner}/{path}", "ann/{track_id}.json", "x", "b.mp3") == "ann/b.mp3"


@pytest.mark.parametrize(
    ("audio", "sidecars"),
    [
        ("blobs/{digest}", "blobs/{track_id}"),
        ("tracks/{track_id}.json", "tracks/{track_id}.json"),
        ("{path}/{digest}", "{path}/{track_id}"),
        ("audio/{track_id}", "{track_id}"),
    ],
)
def test_a_layout_that_leaves_no_key_for_sounds_is_refused(audio: str, sidecars: str) -> None:
    with pytest.raises(SettingsError, match="could get the key of a sound"):
        key(audio, sidecars, "x")


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
        Layout.parse_sidecars(text, public=public)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("said/all.json", "must hold {segment_key}"),
        ("{owner}/{segment_key}.json", "and no other word"),
        ("tracks/{segment_key}.json", "could give the key of a track's sidecar"),
        ("blobs/{segment_key}", "could get the key of a sound"),
        (".soundkeep/{segment_key}.json", "is reserved"),
    ],
)
def test_a_layout_that_makes_no_good_keys_for_segments_is_refused(text: str, why: str) -> None:
    disk = {"kind": "local", "path": "audio", "segment_sidecar_key": text}
    stores = {"disk": disk, "backup": {"kind": "database"}}
    with pytest.raises(SettingsError, match=re.escape(why)):
        Rules.of(Settings(stores=stores))  # type: ignore[arg-type]


def test_a_sound_whose_name_makes_the_key_of_a_segments_sidecar_lies_under_its_digest() -> None:
    disk = {"kind": "local", "path": "audio", "key": "{path}/{owner}"}
    rules = Rules.of(Settings(stores={"disk": disk}, policy={"keep": ("disk",)}))  # type: ignore[arg-type]
    track = replace(make_track("x", BLOB), owner="a.json", path="segments/b")
    assert str(rules.stores[0].key(BLOB, track)) == UNDER_ITS_DIGEST


def test_settings_name_the_layout_and_a_way_out() -> None:
    disk = {"kind": "local", "path": "audio", "sidecar_key": "{track_id}"}
    stores = {"disk": disk, "backup": {"kind": "database"}}
    with pytest.raises(SettingsError, match="name another folder, or set sidecars = false"):
        Rules.of(Settings(stores=stores))  # type: ignore[arg-type] # as a file has them
    for way_out in ({"sidecars": False}, {"sidecar_key": "tracks/{track_id}.json"}):
        stores = {**stores, "disk": {**disk, **way_out}}
        assert Rules.of(Settings(stores=stores))  # type: ignore[arg-type]
