"""Where a blob belongs, for any names and any stores: checked as a law, not by example."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers import make_blob, make_track
from soundkeep.catalog.copies import Place
from soundkeep.copies.placement import (
    DEFAULT_LAYOUT,
    Layout,
    Rules,
    StoreRule,
    allowed,
    place,
    refused,
)
from soundkeep.errors import SettingsError
from soundkeep.model import Asked, Track
from soundkeep.stores.interface import RESERVED_PREFIX, Caps

T = TypeVar("T")

BLOB = make_blob(b"a sound of some length")
OWNERS = ("carla", "olafur")
STORES = ("disk", "backup", "cdn", "spare")
LAYOUTS = (DEFAULT_LAYOUT, "audio/{track_id}.{ext}", "{digest}/{track_id}")
SECRET_LAYOUTS = (*LAYOUTS, "{owner}/{path}", "of-{owner}/{track_id}")

names = st.lists(
    st.builds(
        lambda name, owner, public, asked: replace(
            make_track(name, BLOB, owner=owner, public=public), asked=asked
        ),
        st.sampled_from(("one", "two", "three", "four")),
        st.sampled_from(OWNERS),
        st.booleans(),
        st.dictionaries(st.sampled_from(STORES), st.sampled_from(Asked), max_size=2),
    ),
    max_size=4,
    unique_by=lambda track: track.id,
)
limits = st.sampled_from((None, 1, BLOB.size_bytes - 1, BLOB.size_bytes, BLOB.size_bytes + 1))
types = st.sampled_from((None, frozenset({"audio/mpeg"}), frozenset({"audio/flac"}), frozenset()))


@st.composite
def store_rules(draw: st.DrawFn, name: str) -> StoreRule:
    public = draw(st.booleans())
    text = draw(st.sampled_from(LAYOUTS if public else SECRET_LAYOUTS))
    return StoreRule(name, Layout.parse(text, public=public), public, draw(limits), draw(types))


@st.composite
def any_rules(draw: st.DrawFn) -> Rules:
    stores = tuple(draw(store_rules(name)) for name in STORES)
    keep = draw(st.lists(st.sampled_from([store.name for store in stores]), unique=True))
    return Rules(tuple(keep), stores)


def keys_in(places: Iterable[Place], store: StoreRule) -> set[str]:
    return {place.key for place in places if place.store == store.name}


def takes(store: StoreRule) -> bool:
    small_enough = store.max_bytes is None or store.max_bytes >= BLOB.size_bytes
    return small_enough and (store.types is None or "audio/mpeg" in store.types)


@given(names, any_rules())
def test_a_public_store_holds_what_is_public_and_nothing_else(
    tracks: list[Track], rules: Rules
) -> None:
    shown = place(BLOB, [track for track in tracks if track.public], rules)
    for store in rules.stores:
        if store.public:
            assert keys_in(place(BLOB, tracks, rules), store) == keys_in(shown, store)


@given(names, any_rules())
def test_what_is_withdrawn_lies_nowhere_under_its_name_whatever_settings_say(
    tracks: list[Track], rules: Rules
) -> None:
    for store in rules.stores:
        left = [t for t in tracks if t.asked.get(store.name) is not Asked.WITHDRAWN]
        everywhere = Rules(STORES, rules.stores)
        assert keys_in(place(BLOB, tracks, everywhere), store) == keys_in(
            place(BLOB, left, everywhere), store
        )


@given(names, any_rules())
def test_whatever_is_placed_is_allowed_there(tracks: list[Track], rules: Rules) -> None:
    assert place(BLOB, tracks, rules) <= allowed(BLOB, tracks, rules)


@given(names, any_rules())
def test_no_public_store_tells_an_owners_name_or_a_private_tracks_id(
    tracks: list[Track], rules: Rules
) -> None:
    hidden = {*OWNERS, *(track.id for track in tracks if not track.public)}
    for store in rules.stores:
        if store.public:
            for key in keys_in(place(BLOB, tracks, rules), store):
                assert not [word for word in hidden if word in key]


@given(names, any_rules())
def test_a_store_gets_one_place_for_each_name_of_keep_or_pushed_and_not_withdrawn(
    tracks: list[Track], rules: Rules
) -> None:
    for store in rules.stores:
        if not store.public:
            by_default = Asked.PUSHED if store.name in rules.keep else None
            asked = [(track, track.asked.get(store.name, by_default)) for track in tracks]
            pushed = [track for track, what in asked if what is Asked.PUSHED]
            welcome = pushed if takes(store) else []
            expected = {str(store.layout.key(BLOB, track)) for track in welcome}
            assert keys_in(place(BLOB, tracks, rules), store) == expected


@given(names, any_rules())
def test_what_a_store_does_not_take_is_not_placed_there_and_is_said(
    tracks: list[Track], rules: Rules
) -> None:
    for store in rules.stores:
        if not takes(store):
            assert keys_in(place(BLOB, tracks, rules), store) == set()
    unable = {store.name for store in rules.stores if not takes(store)}
    assert set(refused(BLOB, rules)) == unable & set(rules.keep)


@given(names, any_rules(), st.randoms())
def test_the_order_of_names_stores_and_keep_says_nothing(
    tracks: list[Track], rules: Rules, dice: Random
) -> None:
    def shuffled(things: Iterable[T]) -> list[T]:
        return sorted(things, key=lambda _: dice.random())

    mixed = Rules(tuple(shuffled(rules.keep)), tuple(shuffled(rules.stores)))
    assert place(BLOB, shuffled(tracks), mixed) == place(BLOB, tracks, rules)


@given(names, any_rules())
def test_another_name_adds_places_and_takes_none_away(tracks: list[Track], rules: Rules) -> None:
    for fewer in itertools.combinations(tracks, max(len(tracks) - 1, 0)):
        assert place(BLOB, fewer, rules) <= place(BLOB, tracks, rules)
    assert place(BLOB, [], rules) == frozenset()


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("blobs/{digest}", True),
        ("audio/{track_id}.{ext}", True),
        ("{owner}/{path}", False),
        ("{path}/of/{owner}", False),
        ("{ext}/{digest}", True),
        ("{owner}-{path}-{digest}", False),
        ("{owner}/{track_id}.{ext}", False),
    ],
)
def test_a_layout_that_tells_blobs_apart_is_taken(text: str, public: bool) -> None:
    assert Layout.parse(text, public=public).text == text


@pytest.mark.parametrize(
    ("text", "public", "why"),
    [
        ("", False, "must hold"),
        ("always-the-same", False, "must hold"),
        ("{path}", False, "must hold"),
        ("{owner}/all.mp3", False, "must hold"),
        ("{ext}", False, "must hold"),
        ("{owner}-{path}", False, "run together"),
        ("{path}{track_id}", False, "run together"),
        ("{digset}", False, "no word {digset}"),
        ("{digest}/{}", False, "no word {}"),
        ("{owner}/{path}", True, "may not show {owner}"),
        ("{owner}/{digest}", True, "may not show {owner}"),
        (".soundkeep/{digest}", False, "reserved"),
        ("/{digest}", False, "no store takes"),
        ("{digest}/", False, "no store takes"),
        ("a//{digest}", False, "no store takes"),
        ("../{digest}", False, "no store takes"),
        ("a\\{digest}", False, "no store takes"),
        ("a\n{digest}", False, "no store takes"),
        ("x" * 256 + "{digest}", False, "no store takes"),
    ],
)
def test_a_layout_that_cannot_work_is_refused_in_one_sentence(
    text: str, public: bool, why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        Layout.parse(text, public=public)


@pytest.mark.parametrize("path", ["x/" * 500 + "y", f"{RESERVED_PREFIX}tmp/a"])
def test_a_name_that_makes_no_key_of_its_own_lies_where_the_digest_says(path: str) -> None:
    layout = Layout.parse("{path}/{owner}/of/{digest}", public=False)
    track = replace(make_track("t", BLOB), path=path)
    assert str(layout.key(BLOB, track)) == f"blobs/{BLOB.digest}"


@pytest.mark.parametrize("text", ["{owner}/{path}", "{track_id}", "{digest}"])
def test_two_names_never_share_a_key_unless_it_is_the_bytes_own(text: str) -> None:
    layout = Layout.parse(text, public=False)
    other = make_blob(b"another sound")
    tracks = [
        make_track(name, blob, owner=owner)
        for name, owner, blob in itertools.product("ab", OWNERS, (BLOB, other))
    ]
    for first, second in itertools.combinations(tracks, 2):
        same = layout.key(first.blob, first) == layout.key(second.blob, second)
        assert same == (words_of(text, first) == words_of(text, second))


def words_of(text: str, track: Track) -> tuple[object, ...]:
    return {
        "{owner}/{path}": (track.owner, track.path),
        "{track_id}": (track.id,),
        "{digest}": (track.blob.digest,),
    }[text]


# --- what the stores themselves take --------------------------------------------------------


SOUND, MP3, WEBM = (frozenset({one}) for one in ("audio/*", "audio/mpeg", "video/webm"))


@pytest.mark.parametrize(
    ("of_settings", "of_bucket", "both"),
    [
        (None, None, None),
        (None, SOUND, SOUND),
        (MP3 | WEBM, None, MP3 | WEBM),
        (MP3 | WEBM, SOUND, MP3),
        (SOUND, MP3 | WEBM, MP3),
        (MP3, WEBM, frozenset()),
    ],
)
def test_a_bucket_narrows_what_was_set(
    of_settings: frozenset[str] | None,
    of_bucket: frozenset[str] | None,
    both: frozenset[str] | None,
) -> None:
    of_settings = None if of_settings is None else frozenset(of_settings)
    rule = StoreRule("far", DEFAULT_LAYOUT, max_bytes=100, types=of_settings)
    caps = Caps(
        max_bytes=BLOB.size_bytes, types=None if of_bucket is None else frozenset(of_bucket)
    )
    narrowed = Rules(("far",), (rule,)).within({"far": caps}).stores[0]
    assert narrowed.types == (None if both is None else frozenset(both))
    assert narrowed.max_bytes == min(100, BLOB.size_bytes)
    assert narrowed.takes(BLOB) == (both is None or bool(both & {"audio/mpeg", "audio/*"}))


def test_a_store_that_holds_no_json_gets_no_sidecars() -> None:
    rule = StoreRule(
        "far",
        DEFAULT_LAYOUT,
        sidecars=Layout.parse_sidecars("tracks/{track_id}.json", public=False),
    )
    rules = Rules(("far",), (rule,))
    assert rules.within({"far": Caps()}).stores[0].sidecars is not None
    assert rules.within({"far": Caps(sidecars=False)}).stores[0].sidecars is None


class Turned(frozenset[str]):
    """A set whose members come in another order, as in another process."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), reverse=True))


def test_the_same_rules_have_the_same_fingerprint_in_every_process() -> None:
    """Else every start would place everything anew."""
    types = frozenset({"audio/mpeg", "audio/flac", "audio/ogg", "audio/wav"})
    here, there = (
        Rules((), (StoreRule("far", DEFAULT_LAYOUT, types=each, renditions=each),))
        for each in (types, Turned(types))
    )
    assert here.fingerprint() == there.fingerprint()
    other = Rules((), (StoreRule("far", DEFAULT_LAYOUT, types=frozenset({"audio/mpeg"})),))
    assert here.fingerprint() != other.fingerprint()
