"""Adopts what lies in a store already: objects become tracks where they are, under their own keys.

Each object is read once, hashed and probed as an upload is, and recorded with a proven copy there;
placement then wants the copies of other stores. What it is called follows from its key by the
store's layout (track id, owner, path), else its key is its path; the JSON beside it is its
metadata, and if one of our sidecars lies there, that says it all. The store is only read. One that
was adopted is known by its key and not read again, so an adoption that was broken off goes on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from soundkeep.catalog import blobs, orphans, sidecars, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies import planning, syncing
from soundkeep.copies.placement import Layout, Rules, StoreRule, place
from soundkeep.copies.sidecar_form import FIELD, TrackForm, parse
from soundkeep.copies.taking import (
    ENDS_ALL,
    Leftovers,
    SidecarReading,
    each_of,
    is_recorded,
    record_read,
)
from soundkeep.digest import Digest
from soundkeep.errors import (
    BadInput,
    BadMetadata,
    Conflict,
    IdTaken,
    NotFound,
    PathTaken,
    SoundkeepError,
    Unsupported,
    UploadTooLarge,
)
from soundkeep.intake import recording
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.recording import NewTrack
from soundkeep.intake.spool import Announced, Landed, Spool
from soundkeep.model import Blob, Lane, Track, Visibility
from soundkeep.names import (
    DEFAULT_OWNER,
    metadata_object,
    owner_name,
    title_text,
    track_id,
    track_path,
)
from soundkeep.stores.interface import RESERVED_PREFIX, Key, Stat, Store

JSON = ".json"


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is to be adopted of a store, and what holds for all of it."""

    store: str
    prefix: str = ""
    keys: Collection[str] = ()  # these alone, if any are named
    owner: str = DEFAULT_OWNER  # of those whose key and sidecar name none
    visibility: Visibility | None = None  # None: public in a public store, else private
    sidecars: Layout | None = None  # where the JSON beside a track lies, if the key tells its id
    dry_run: bool = False


class Became(StrEnum):
    """What became of an object that is a track now."""

    ADOPTED = "adopted"
    THERE = "there already"


@dataclass(slots=True)
class Adopted(Leftovers):
    """What became of the objects of a store."""

    adopted: int = 0
    there: int = 0
    bytes: int = 0  # of what was adopted, or would be


@dataclass(frozen=True, slots=True)
class _Told:
    """What an object's key and the JSON beside it say of it."""

    new: NewTrack
    digest: Digest | None = None  # it must have this one


class Adopter:
    """Adopts objects of the stores of one house."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        rules: Rules,
        spool: Spool,
        examiner: Examiner,
        file_bytes: int,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._rules = {rule.name: rule for rule in rules.stores}
        self._all_rules = rules
        self._spool = spool
        self._examiner = examiner
        self._file_bytes = file_bytes
        self._reading = SidecarReading()

    async def run(self, what: Adoption, done: Callable[[int], object] = lambda _: None) -> Adopted:
        """Adopts everything that can be; calls `done` with the bytes of each object.

        Raises what keeps the store from being listed, `Unsupported` if it never can be and no keys
        are named, `CatalogUnavailable` and `DiskFull`.
        """
        adopted = Adopted()

        async def take(found: Stat) -> None:
            try:
                became = await self.take(what, found)
            except ENDS_ALL:
                raise
            except SoundkeepError as error:
                adopted.leave(found.locator, error)
            else:
                if became is Became.ADOPTED:
                    adopted.adopted += 1
                    adopted.bytes += found.size_bytes
                else:
                    adopted.there += 1
            done(found.size_bytes)

        await each_of(self._objects(what, adopted), take, lambda: None)
        return adopted

    async def take(self, what: Adoption, found: Stat) -> Became:
        """Adopts one object. Raises the `SoundkeepError` that says why it cannot be; then nothing
        was recorded."""
        key_of = self._stores[what.store].caps.spelling.key_of
        if not await self._catalog.read(orphans.unknown, what.store, [found.locator], key_of):
            return Became.THERE
        told = await self._told(what, found.locator)
        if found.size_bytes > self._file_bytes:
            raise UploadTooLarge(f"it is larger than {self._file_bytes} bytes (limits.file_bytes)")
        if what.dry_run:
            return Became.ADOPTED
        store = self._stores[what.store]
        announced = Announced(found.size_bytes, told.digest)
        async with aclosing(store.open(found.locator)) as pieces:
            landed = await self._spool.receive(pieces, announced)
        try:
            return await self._adopt(what, found.locator, told, landed)
        finally:
            self._spool.discard(landed)

    async def _adopt(self, what: Adoption, locator: str, told: _Told, landed: Landed) -> Became:
        blob = await known_or_examined(self._catalog, self._examiner, landed)
        key = self._key(what, locator) if self._stores[what.store].caps.lists else None
        found = _Found(locator, key, told.new, blob, self._rules[what.store])
        return await self._catalog.write(_write, found, self._all_rules)

    # --- finding ----------------------------------------------------------------------------

    async def _objects(self, what: Adoption, adopted: Adopted) -> AsyncGenerator[Stat, None]:
        """The objects that may be sounds: neither ours nor JSON."""
        store = self._stores[what.store]
        for key in what.keys:
            stat = await store.stat(key)
            if stat is None:
                adopted.leave(key, NotFound(f"there is no object {key}"))
            else:
                yield stat
        if what.keys:
            return
        if not store.caps.lists:
            raise Unsupported(f"{what.store} cannot list what it holds: name the keys")
        async for stat in store.list(what.prefix):
            is_aside = stat.locator.endswith((JSON, "/"))  # consoles make folders that are objects
            if not is_aside and not stat.locator.startswith(RESERVED_PREFIX):
                yield stat

    # --- what it is called ------------------------------------------------------------------

    def _key(self, what: Adoption, locator: str) -> str:
        """The key under which a put would have laid it there; a name that no put gives is one."""
        key = self._stores[what.store].caps.spelling.key_of(locator)
        return locator if key is None else key

    async def _told(self, what: Adoption, locator: str) -> _Told:
        """Raises `BadInput` for a key that nothing here can have, and for JSON that is none."""
        rule, key = self._rules[what.store], self._key(what, locator)
        str(Key(key))
        words = rule.layout.words_of(key)
        told = _by_key(what, rule, key, words)
        for beside in self._beside(what, locator, words):
            try:
                async with self._reading.sidecar(self._stores[what.store], beside) as data:
                    return _by_sidecar(told, data)
            except NotFound:
                continue
            except BadInput as error:
                raise BadMetadata(f"the JSON beside it, {beside}: {error}") from None
        return told

    def _beside(self, what: Adoption, locator: str, words: Mapping[str, str]) -> list[str]:
        """Where the JSON of this object may lie: where the layout says, else under its own name."""
        by_layout = what.sidecars.filled(words) if what.sidecars is not None else None
        by_name = str(PurePosixPath(locator).with_suffix(JSON))
        if by_layout is None:
            return [by_name]
        return [self._stores[what.store].caps.spelling.locator_of(str(by_layout)), by_name]


def _by_key(what: Adoption, rule: StoreRule, key: str, words: Mapping[str, str]) -> _Told:
    visibility = what.visibility or (Visibility.PUBLIC if rule.public else Visibility.PRIVATE)
    digest, id_ = words.get("digest"), words.get("track_id")
    new = NewTrack(
        id=track_id(id_) if id_ is not None else None,
        owner=owner_name(words["owner"]) if "owner" in words else what.owner,
        path=track_path(words.get("path", key)),
        visibility=visibility,
    )
    return _Told(new, Digest.parse(digest) if digest is not None else None)


def _by_sidecar(told: _Told, data: bytes) -> _Told:
    """What the JSON beside it says: ours everything, another's its metadata. Raises `BadInput`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadInput("it is not valid JSON") from None
    if isinstance(document, dict) and FIELD in document:
        return _by_our_sidecar(told, data)
    metadata = metadata_object(document)
    title = metadata.get("title")
    named = title_text(title) if isinstance(title, str) else None
    return replace(told, new=replace(told.new, metadata=metadata, title=named))


def _by_our_sidecar(told: _Told, data: bytes) -> _Told:
    parsed = parse(data)
    form = parsed.form
    if not isinstance(form, TrackForm):
        raise BadInput("it is of a segment of speech: `soundkeep rebuild` takes those")
    new = replace(
        told.new,
        id=track_id(form.id),
        owner=owner_name(form.owner) if form.owner is not None else told.new.owner,
        path=track_path(form.path),
        title=title_text(form.title),
        visibility=form.visibility,
        metadata=metadata_object(parsed.metadata),
    )
    return _Told(new, Digest.parse(form.digest))


# --- writing down ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """An object that was read."""

    locator: str
    key: str | None  # None where keys tell nothing: the layout's is as good as any
    new: NewTrack
    blob: Blob
    rule: StoreRule

    def place(self, track: Track) -> Place:
        key = str(self.rule.layout.key(self.blob, track)) if self.key is None else self.key
        return Place(self.rule.name, key)


def _write(tx: Tx, found: _Found, rules: Rules) -> Became:
    """Raises `Conflict` and its kind; then nothing was recorded."""
    rules = planning.as_of(tx, rules)
    blob, rule = found.blob, found.rule
    blobs.ensure(tx, blob)
    track = _track(tx, found.new, blob)
    refusal = syncing.refusal_to_push(track, rule, rules.drained)
    if refusal is not None:
        raise refusal
    here = found.place(track)
    if is_recorded(tx, blob, here):
        return Became.THERE
    before = str(rule.key(blob, track))
    if before != here.key and is_recorded(tx, blob, Place(rule.name, before)):
        raise Conflict(f"the track {track.id} lies in {rule.name} at {before} already")
    record_read(tx, blob, here, found.locator)
    track = tracks.lies_at(tx, track, rule.name, here.key)
    sidecars.follow(tx, blob.digest, track.subject, track.revision)
    if here not in place(blob, [track], rules):
        raise Conflict(f"the track {track.id} was withdrawn from {rule.name}")
    planning.replan(tx, blob, rules, lane=Lane.BULK)
    orphans.forget(tx, rule.name, found.locator)
    return Became.ADOPTED


def _track(tx: Tx, new: NewTrack, blob: Blob) -> Track:
    """The track that this sound is already, by its id or its path, or a new one."""
    there = recording.of_id(tx, new.id, blob) if new.id is not None else None
    if there is None:
        there = tracks.at_path(tx, new.owner, new.path) if new.path is not None else None
        if there is not None and there.blob.digest != blob.digest:
            raise PathTaken(f"{there.path!r} holds other audio ({there.id})")
        if there is not None and new.id is not None:
            raise IdTaken(f"{there.path!r} with this audio is already the track {there.id}")
    if there is None:
        return tracks.add(tx, recording.wished(new, blob), reborn=new.id is not None)
    return _with_metadata(tx, there, new.metadata)


def _with_metadata(tx: Tx, track: Track, metadata: dict[str, Any]) -> Track:
    """What stands beside it is not lost when our sidecar takes its place."""
    if not metadata or metadata == track.metadata:
        return track
    if track.metadata:
        raise Conflict(f"the JSON beside it says something else than the metadata of {track.id}")
    return tracks.change(
        tx, track, title=track.title, visibility=track.visibility, metadata=metadata
    )
