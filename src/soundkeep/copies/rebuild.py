"""Makes a catalog anew from one store: from the sidecars there, and the sounds beside them; or
takes in what a catalog that lives, such as one restored from an older backup, does not know.

Nothing else is needed, and nothing is believed that a sound does not prove: each is read once, in
pieces, and taken only if its digest is the one that its sidecar names. What is taken is a row with
a proven copy in that store, and placement wants the others'; whatever cannot be taken is left where
it is and said so. Sidecars are taken one by one, each in a transaction of its own, so a rebuild
that was broken off goes on where it was, and one that is repeated changes nothing. Memory does not
grow with the store.

Of a catalog that lives the store must be its own, by the marker. What it knows of tracks, speech
and segments is never changed, and what was deleted there stays deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from soundkeep.catalog import (
    blobs,
    copies,
    facts,
    orphans,
    restoring,
    sidecar_work,
    subjects,
    tracks,
)
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.subjects import Record, TrackRecord
from soundkeep.catalog.tracks import MAX_PAGE, Query
from soundkeep.copies import planning
from soundkeep.copies.placement import Layout, Rules, StoreRule
from soundkeep.copies.sidecar_form import Form, TrackForm, parse, sidecar_bytes
from soundkeep.copies.sidecar_reading import blob_of, record_of
from soundkeep.copies.taking import (
    ENDS_ALL,
    Leftovers,
    SidecarReading,
    each_of,
    read_sidecar,
    record_read,
)
from soundkeep.digest import Digest, Fingerprint, Hasher
from soundkeep.errors import BadInput, Conflict, NotFound, SoundkeepError
from soundkeep.model import Asked, Blob, CopyState, Lane, SubjectKind, Track
from soundkeep.stores.interface import RESERVED_PREFIX, Key, Store

FACT = "rebuilt"  # its presence says that the catalog was made by a rebuild


@dataclass(slots=True)
class Tally(Leftovers):
    """What became of the sidecars of a store."""

    taken: dict[SubjectKind, int] = field(default_factory=lambda: dict.fromkeys(SubjectKind, 0))
    there: dict[SubjectKind, int] = field(default_factory=lambda: dict.fromkeys(SubjectKind, 0))
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """An object of the store."""

    place: Place
    locator: str


class Rebuild:
    """One rebuild, from one store into one catalog. The store is read, and nothing else."""

    def __init__(self, catalog: Catalog, store: Store, rule: StoreRule, rules: Rules) -> None:
        self._catalog = catalog
        self._store = store
        self._rule = rule
        self._rules = rules
        self._reading = SidecarReading()
        self._turns = WeakValueDictionary[str, asyncio.Lock]()  # of those in hand, by their sounds
        self._lives = False  # the catalog was not lost: `check` finds out
        self.tally = Tally()

    async def check(self) -> None:
        """Raises `Conflict` if the catalog has tracks and neither did a rebuild make them, nor is
        the store its own, nor does the store tell of each alike: two catalogs are not mixed."""
        if await self._catalog.read(facts.read, FACT) is not None:
            return
        async with aclosing(_all_tracks(self._catalog)) as known:
            async for track in known:
                self._lives = self._lives or await self._is_own()
                if self._lives:
                    return
                await self._check_alike(track)

    async def run(self, done: Callable[[], object]) -> Tally:
        """Takes everything that can be taken; calls `done` after each sidecar.

        Raises what keeps the store from being listed, `CatalogUnavailable` and `DiskFull`.
        """
        if not self._lives:
            await self._catalog.write(facts.write, FACT, {"from": self._store.name})
        await each_of(self._sidecars(), self._take, done)
        return self.tally

    # --- finding ----------------------------------------------------------------------------

    async def _sidecars(self) -> AsyncGenerator[str, None]:
        """Every key in the store that a sidecar could have."""
        layouts, spelling = _layouts(self._rule), self._store.caps.spelling
        for folder in _outermost({folder for layout in layouts for folder in layout.folders()}):
            async for stat in self._store.list(spelling.locator_of(folder)):
                key = spelling.key_of(stat.locator)
                if key is not None and any(layout.could_make(key) for layout in layouts):
                    yield key

    async def _is_own(self) -> bool:
        """Whether the store holds the marker that the catalog remembers of it."""
        known = (await self._catalog.read(store_rows.known)).get(self._store.name)
        if known is None or not known.marked or not self._store.caps.marks:
            return False
        return await self._store.read_marker() == known.store_id

    async def _check_alike(self, track: Track) -> None:
        key = self._rule.sidecar_key(track)
        assert key is not None
        try:
            form = parse(await read_sidecar(self._store, self._locator(str(key)))).form
            alike = isinstance(form, TrackForm) and _tells_of(form, track)
        except (NotFound, BadInput):
            alike = False
        if not alike:
            raise Conflict(
                f"the catalog has tracks, and {self._store.name} does not tell the same of "
                f"{track.id}: a rebuild wants an empty catalog, one that a rebuild began, or a "
                "store that holds this catalog's marker"
            )

    # --- taking -----------------------------------------------------------------------------

    async def _take(self, key: str) -> None:
        try:
            await self._taken(key)
        except ENDS_ALL:
            raise
        except SoundkeepError as error:
            self.tally.leave(key, error)

    async def _taken(self, key: str) -> None:
        """Sidecars that tell of one sound take turns: it is read for the first of them."""
        async with self._reading.sidecar(self._store, self._locator(key)) as data:
            parsed = parse(data)
            async with self._turns.setdefault(parsed.form.key, asyncio.Lock()):
                record = record_of(parsed, await self._blob(parsed.form))
                here = self._found(parsed.form.key)
                is_ours = sidecar_bytes(record, here.place.key, public=False) == data
                beside = self._found(key) if is_ours else None
                is_new = await self._catalog.write(
                    _write, record, here, beside, self._rules, lives=self._lives
                )
        counted = self.tally.taken if is_new else self.tally.there
        counted[record.subject.kind] += 1

    def _found(self, key: str) -> _Found:
        return _Found(Place(self._store.name, key), self._locator(key))

    def _locator(self, key: str) -> str:
        return self._store.caps.spelling.locator_of(key)

    async def _blob(self, form: Form) -> Blob:
        """The blob that a sidecar tells of, once its sound was read, now or before."""
        self._check_key(form.key)
        digest = Digest.parse(form.digest)
        place = Place(self._store.name, form.key)
        known = await self._catalog.read(_proven, digest, place)
        if known is not None:
            return known
        return blob_of(form, await self._hashed(form.key))

    def _check_key(self, key: str) -> None:
        """Raises `BadInput` for a key where no sound can be: who deletes a track later deletes what
        lies at its key."""
        beside = any(layout.could_make(key) for layout in _layouts(self._rule))
        if beside or str(Key(key)).startswith(RESERVED_PREFIX):
            raise BadInput(f"no sound has the key {key}")

    async def _hashed(self, key: str) -> Fingerprint:
        hasher = Hasher()
        try:
            async with aclosing(self._store.open(self._locator(key))) as pieces:
                async for piece in pieces:
                    hasher.update(piece)
        except NotFound:
            raise NotFound(f"there is no sound at {key}") from None
        self.tally.bytes_read += hasher.size_bytes
        return hasher.finish()


def _layouts(rule: StoreRule) -> list[Layout]:
    return [layout for layout in (rule.sidecars, rule.segment_sidecars) if layout is not None]


def _outermost(folders: set[str]) -> list[str]:
    """Those that lie in no other, so that nothing is listed twice."""
    inside = {one for one in folders for other in folders if one != other and one.startswith(other)}
    return sorted(folders - inside)


def _tells_of(form: TrackForm, track: Track) -> bool:
    told = (form.id, form.owner, form.path, form.digest)
    return told == (track.id, track.owner, track.path, track.blob.digest.hex)


async def _all_tracks(catalog: Catalog) -> AsyncGenerator[Track, None]:
    query: Query | None = Query(limit=MAX_PAGE)
    while query is not None:
        page = await catalog.read(tracks.page, query)
        for track in page.items:
            yield track
        cursor = page.next_cursor
        query = Query(limit=MAX_PAGE, cursor=cursor) if cursor is not None else None


# --- transactions ---------------------------------------------------------------------------


def _proven(tx: Tx, digest: Digest, place: Place) -> Blob | None:
    """The blob, if the catalog has a proven copy of it there: then it was read already."""
    blob = blobs.find(tx, digest)
    held = copies.of_blob(tx, digest) if blob is not None else ()
    here = (copy for copy in held if (copy.store, copy.key) == (place.store, place.key))
    return blob if any(copy.state is CopyState.PRESENT for copy in here) else None


def _write(
    tx: Tx, record: Record, sound: _Found, sidecar: _Found | None, rules: Rules, *, lives: bool
) -> bool:
    """Takes what a sidecar tells of, with the copy that was found; answers whether it is new.

    `sidecar` is where it lies, if it is as we would write it; of a catalog that `lives` only what
    is new is taken. Raises `Conflict`, `IdTaken`, `PathTaken`.
    """
    blobs.ensure(tx, record.blob)
    if isinstance(record, TrackRecord):
        is_new = _write_track(tx, record, lives=lives)
    else:
        is_new = restoring.add_segment(tx, record)
    if lives and not is_new:
        _check_not_later(tx, record)
        _check_not_withdrawn(tx, record, sound.place.store)
    record_read(tx, record.blob, sound.place, sound.locator)
    planning.replan(tx, record.blob, rules, lane=Lane.BULK)
    orphans.forget(tx, sound.place.store, sound.locator)
    if sidecar is not None:
        beside = sidecar.place
        orphans.forget(tx, beside.store, sidecar.locator)
        sidecar_work.found_written(tx, beside.store, beside.key, sidecar.locator, record.revision)
    return is_new


def _write_track(tx: Tx, record: TrackRecord, *, lives: bool) -> bool:
    is_new = restoring.add_track(tx, record.track)
    if lives and not is_new:
        return False
    for each in record.speeches:
        restoring.add_speech(tx, each, record.track)
    if record.rendition_of is not None:
        restoring.add_rendition(tx, record.rendition_of, record.track.id)
    return is_new


def _check_not_later(tx: Tx, record: Record) -> None:
    """Raises `Conflict` if the sidecar tells of changes that the catalog does not know."""
    known = subjects.find_all(tx, [record.subject])[record.subject]
    if record.revision > known.revision:
        raise Conflict(
            f"it tells of the {record.subject.kind} as it was later (revision {record.revision}) "
            f"than the catalog knows it (revision {known.revision}), which is not changed"
        )


def _check_not_withdrawn(tx: Tx, record: Record, store: str) -> None:
    """Raises `Conflict` if the track is to lie there no more: a sound that came back there, with a
    disk, would be a copy that rests for ever."""
    track = tracks.find(tx, record.track.id) if isinstance(record, TrackRecord) else None
    if track is not None and track.asked.get(store) is Asked.WITHDRAWN:
        raise Conflict(f"the track {track.id} was withdrawn from {store}")
