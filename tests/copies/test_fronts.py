"""Where the world reads a track: its own copies, present and placed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledgers import make_blob, make_track
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import Rules
from soundkeep.model import Asked, Copy, CopyState, Sidecar, Subject, SubjectKind, Visibility, Wish
from soundkeep.settings import Settings

SETTINGS = Settings(
    stores={
        "disk": {"kind": "local", "path": "audio"},
        "backup": {"kind": "database"},
        "first": {
            "kind": "memory",
            "public": True,
            "public_url": "https://first.example.org/a/",
            "key": "{path}/{track_id}",
            "cache_seconds": 60,
        },
        "second": {
            "kind": "memory",
            "public": True,
            "public_url": "https://second.example.org",
            "sidecars": False,
        },
        "unseen": {"kind": "memory", "public": True},
    }  # type: ignore[arg-type]
)
FRONTS = Fronts.of(SETTINGS, Rules.of(SETTINGS))
BLOB = make_blob(b"a sound")
TRACK = replace(make_track("t1", BLOB, public=True), path="x y/é?#%+&.mp3", created_at=50.0)
OWN_KEY = f"{TRACK.path}/t1"


def copy_in(store: str, key: str, **changes: object) -> Copy:
    copy = Copy(1, BLOB.digest, store, key, key, CopyState.PRESENT, Wish.KEEP, since=100.0)
    return replace(copy, **changes)  # type: ignore[arg-type]


IN_FIRST = copy_in("first", OWN_KEY)
BESIDE = Sidecar(
    id=1,
    digest=BLOB.digest,
    subject=Subject(SubjectKind.TRACK, "t1"),
    store="first",
    key="tracks/t1.json",
    audio_key=OWN_KEY,
    public=True,
    locator="tracks/t1.json",
    wish=Wish.KEEP,
    wanted=1,
    revision=1,
    chore=None,
    attempts=0,
    due_at=None,
    last_error=None,
)
IN_SECOND = copy_in("second", f"blobs/{BLOB.digest}")


def test_public_copies_come_in_the_order_of_settings_and_every_odd_letter_is_spelt_out() -> None:
    first, second = FRONTS.published(TRACK, [IN_SECOND, IN_FIRST], [BESIDE])
    assert first.url == "https://first.example.org/a/x%20y/%C3%A9%3F%23%25%2B%26.mp3/t1"
    assert first.sidecar_url == "https://first.example.org/a/tracks/t1.json"
    assert (first.store, first.since) == ("first", 100.0)
    assert second.url == f"https://second.example.org/blobs/{BLOB.digest}"
    assert second.sidecar_url is None


def test_a_sidecar_that_shows_an_earlier_revision_is_there_all_the_same() -> None:
    [public] = FRONTS.published(TRACK, [IN_FIRST], [replace(BESIDE, wanted=2)])
    assert public.sidecar_url == "https://first.example.org/a/tracks/t1.json"


@pytest.mark.parametrize(
    "sidecar",
    [
        replace(BESIDE, revision=None, locator=None),
        replace(BESIDE, wish=Wish.LEAVE),
        replace(BESIDE, store="second"),
        replace(BESIDE, subject=Subject(SubjectKind.TRACK, "t2")),
    ],
)
def test_the_address_of_a_sidecar_is_not_told_before_it_is_there(sidecar: Sidecar) -> None:
    [public] = FRONTS.published(TRACK, [IN_FIRST], [sidecar])
    assert public.sidecar_url is None


def test_the_address_is_made_from_what_the_store_calls_it() -> None:
    [public] = FRONTS.published(TRACK, [replace(IN_FIRST, locator="elsewhere/1")], [])
    assert public.url == "https://first.example.org/a/elsewhere/1"


def test_it_was_never_there_before_the_track_was_made() -> None:
    [public] = FRONTS.published(TRACK, [replace(IN_FIRST, since=10.0)], [])
    assert public.since == TRACK.created_at


@pytest.mark.parametrize(
    "copy",
    [
        copy_in("unseen", f"blobs/{BLOB.digest}"),
        copy_in("disk", f"blobs/{BLOB.digest}"),
        copy_in("first", f"{TRACK.path}/another"),
        replace(IN_FIRST, state=CopyState.WANTED),
        replace(IN_FIRST, state=CopyState.DOUBTED),
        replace(IN_FIRST, state=CopyState.UNWANTED),
        replace(IN_FIRST, wish=Wish.LEAVE),
        replace(IN_FIRST, wish=Wish.REST),
    ],
)
def test_what_is_not_the_tracks_own_or_not_there_for_good_is_not_shown(copy: Copy) -> None:
    assert FRONTS.published(TRACK, [copy], []) == ()


def test_a_private_or_withdrawn_track_is_not_shown_whatever_still_lies_there() -> None:
    private = replace(TRACK, visibility=Visibility.PRIVATE)
    withdrawn = replace(TRACK, asked={"first": Asked.WITHDRAWN})
    held = [IN_FIRST, IN_SECOND]
    assert FRONTS.published(private, held, []) == ()
    assert [public.store for public in FRONTS.published(withdrawn, held, [])] == ["second"]


def test_caches_are_told_of_public_stores_only() -> None:
    assert FRONTS.cache_seconds == {"first": 60, "second": 86_400, "unseen": 86_400}
