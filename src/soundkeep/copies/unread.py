"""Sidecars that nobody here has read: they lie where ours do, and tell of what the catalog does not
know, such as those that a rebuild had to leave.

What one of them tells of is no row's, and yet no rubbish: it may be the last copy of a sound.
`orphans` removes nothing in a store while one of these lies there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from soundkeep.catalog import subjects, tracks
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies.placement import Layout, StoreRule
from soundkeep.copies.taking import read_sidecar
from soundkeep.digest import Digest
from soundkeep.errors import NotFound, TooLarge
from soundkeep.model import Subject, SubjectKind
from soundkeep.stores.interface import Store


async def unread_among(
    catalog: Catalog, store: Store, rule: StoreRule, locators: Collection[str]
) -> list[str]:
    """Which of these objects, that no row knows, are such sidecars. Raises `StoreError`.

    The key says of whom one tells. Who was deleted here was known here, and nobody misses that
    sound; of who is known, it must be the sound that it tells of.
    """
    told = {locator: _subject(store, rule, locator) for locator in locators}
    asked = {locator: subject for locator, subject in told.items() if subject is not None}
    if not asked:
        return []
    known = await catalog.read(sounds_of, set(asked.values()))
    return [locator for locator in asked if not await _is_read(store, locator, asked, known)]


def sounds_of(tx: Tx, asked: Collection[Subject]) -> dict[Subject, Digest | None]:
    """The sound of each that the catalog knows, None of one that was deleted."""
    found = subjects.find_all(tx, list(asked))
    sounds: dict[Subject, Digest | None] = {
        subject: record.blob.digest for subject, record in found.items()
    }
    for subject in asked:
        is_track = subject.kind is SubjectKind.TRACK
        if subject not in sounds and is_track and tracks.tombstone(tx, subject.name):
            sounds[subject] = None
    return sounds


async def _is_read(
    store: Store, locator: str, asked: Mapping[str, Subject], known: Mapping[Subject, Digest | None]
) -> bool:
    if asked[locator] not in known:
        return False
    sound = known[asked[locator]]
    return sound is None or await _digest_told(store, locator) == sound.hex


def _subject(store: Store, rule: StoreRule, locator: str) -> Subject | None:
    """Of whom the sidecar tells that has this place; None if none could have it."""
    key = store.caps.spelling.key_of(locator)
    for layout, word, kind in (
        (rule.sidecars, "track_id", SubjectKind.TRACK),
        (rule.segment_sidecars, "segment_key", SubjectKind.SEGMENT),
    ):
        if key is not None and layout is not None:
            words = layout.words_of(key) or Layout(layout.otherwise).words_of(key)
            if word in words:
                return Subject(kind, words[word])
    return None


class _Sound(msgspec.Struct):
    digest: str


class _Told(msgspec.Struct):
    """As much of a sidecar as is asked for; the rest, which may be large, is passed over."""

    soundkeep: _Sound


async def _digest_told(store: Store, locator: str) -> str | None:
    """Of the sound that it tells of; None if that cannot be understood."""
    try:
        told = msgspec.json.decode(await read_sidecar(store, locator), type=_Told)
    except (NotFound, TooLarge, msgspec.DecodeError, RecursionError):
        return None
    return told.soundkeep.digest
