"""The contract of a store: a place that keeps bytes under keys.

This page is the whole of what the rest of Soundkeep knows about any store, and what
`soundkeep.testing.StoreContract` proves of each. `memory.py` is the shortest example.

**Whole or nothing.** What `put` leaves visible under a key is the complete object. While a put
runs, and after one that failed, a reader finds the former object or none, never a part.

**A put always writes.** It replaces at once what lay there, even if that looks the same, so a
put also repairs. Putting twice, or deleting twice, is the same as once.

**Absent, unreachable and corrupt are three facts.** `stat` answers None only when the store
itself says that nothing is there; a store that cannot be asked raises `Unavailable` or
`TimedOut`. A store that is not the one we mean (an unmounted directory, another bucket) raises
`Misconfigured` from `probe`, and must never look like an empty one: see the marker below.

**Keys and locators.** A locator is the store's own name for an object and opaque above it. Most
stores take the key for it; one that cannot write every letter says in `caps.spelling` what a key
becomes, so that an object can be found of which nothing but the key was ever noted.

**Exact length or an error.** `open` yields exactly the bytes of the half-open range that the
object has, and raises `Truncated` otherwise. It does not verify hashes: `reading` does, for
every store alike.

**The marker.** Each store holds its own id under `MARKER_KEY`. The catalog remembers the id, so
a swapped or unmounted store is noticed before it is believed. `read_marker` and `write_marker`
are all a store owes; who decides what they mean is `copies.marking`.

**Errors** are those of `soundkeep.errors` under `StoreError`, translated beside the foreign call
with their cause kept. `NotFound` comes only from `open`, and from nothing else.

**Who closes.** A store is closed by whoever built it, once, with `close`. The iterator that
`open` returns is closed by its consumer (`aclosing`); leaving it early releases everything.

**Cancellation** leaves nothing visible and nothing open; what it leaves hidden, `reap` removes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

from soundkeep.digest import Digest
from soundkeep.errors import BadPath

Bytes = AsyncGenerator[bytes, None]  # pieces in order, each of at least one byte

RESERVED_PREFIX = ".soundkeep/"
MARKER_KEY = ".soundkeep/store.json"
MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where an object lies in a store: segments joined by `/`, none of which can point upwards.

    Up to 1,024 bytes of UTF-8 (the limit of S3), each segment up to 255 (the limit of most file
    systems), no empty segment, no `.` or `..`, no backslash, no control characters.
    """

    text: str

    def __post_init__(self) -> None:
        try:
            size = len(self.text.encode())
        except UnicodeEncodeError:
            raise BadPath("a key must be valid Unicode") from None
        if not self.text or size > MAX_KEY_BYTES:
            raise BadPath(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {size}")
        if _FORBIDDEN.search(self.text):
            raise BadPath("a key holds no control characters and no backslash")
        for segment in self.text.split("/"):
            if segment in ("", ".", "..") or len(segment.encode()) > MAX_SEGMENT_BYTES:
                raise BadPath("a key's segments are not empty, '.', '..' or over 255 bytes")

    def __str__(self) -> str:
        return self.text


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a store writes keys: letter by letter, so that the beginning of a key gives the beginning
    of its locator, and so that no two keys have one locator.

    Where only the bytes tell the locator (a store without `lists`), a key gives one at which
    nothing ever lies.
    """

    locator_of: Callable[[str], str] = _as_it_is
    key_of: Callable[[str], str | None] = _as_it_is  # None: no put of any key gives this locator


AS_IT_IS = Spelling()


@dataclass(frozen=True, slots=True)
class Caps:
    """What a store can do and will take. The rest of the system asks these, never the kind."""

    ranges: bool = True  # `open` can start in the middle at no extra cost
    verifies_sha256: bool = False  # `put` is refused by the store itself on a wrong SHA-256
    signs: bool = False  # `sign` gives URLs
    lists: bool = True
    sidecars: bool = True  # it can hold JSON beside the audio
    public: bool = False  # anybody may read what it holds
    marks: bool = True  # a marker can be written; without it absence never proves loss
    links: bool = False  # a first put may take over a local file without reading it
    max_bytes: int | None = None  # of one object
    types: frozenset[str] | None = None  # media types it takes, maybe as `audio/*`; None is all
    spelling: Spelling = AS_IT_IS

    def within(self, max_bytes: int | None, types: Collection[str] | None) -> Caps:
        """The same with further limits, such as a bucket's own."""
        limits = [limit for limit in (self.max_bytes, max_bytes) if limit is not None]
        ours, theirs = self.types, None if types is None else frozenset(types)
        both = ours if theirs is None else theirs
        if ours is not None and theirs is not None:
            both = frozenset(
                [each for each in ours if is_among(each, theirs)]
                + [each for each in theirs if is_among(each, ours)]
            )
        return replace(self, max_bytes=min(limits, default=None), types=both)


def is_among(media_type: str, types: Collection[str] | None) -> bool:
    """Whether the types, some of them maybe as `audio/*`, hold this one. None holds all."""
    if types is None:
        return True
    return media_type in types or f"{media_type.partition('/')[0]}/*" in types


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store says of one object. `sha256` only if the store itself computed it."""

    locator: str
    size_bytes: int
    etag: str | None = None
    modified_at: float | None = None  # seconds since the epoch, by the store's clock
    sha256: Digest | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a put achieved. `verified` names the proof the store gave by itself, else None."""

    locator: str
    etag: str | None = None
    verified: str | None = None


@runtime_checkable
class Source(Protocol):
    """Bytes to be put. It can be opened any number of times, also from the middle."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def digest(self) -> Digest: ...
    @property
    def media_type(self) -> str: ...
    @property
    def cache_seconds(self) -> int | None: ...
    @property
    def file(self) -> Path | None:
        """The same bytes as a local file, synced, that nobody will ever change, if there is one."""
        ...

    @property
    def checked(self) -> bool:
        """Whether `open` compares what it gives with the digest or with hashes recorded with it,
        so that nobody needs to hash the whole again."""
        ...

    def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of the half-open range, in pieces of any size. Close it with `aclosing`."""
        ...


@runtime_checkable
class Store(Protocol):
    """A place that keeps bytes. The module's docstring is the contract."""

    @property
    def name(self) -> str: ...
    @property
    def caps(self) -> Caps: ...

    async def probe(self) -> None:
        """Succeeds if the store is reachable, lets us in, and is a place where bytes can be kept.

        Raises `Unavailable`, `TimedOut`, `PermissionDenied` or `Misconfigured`. Cheap enough to
        be called every five seconds.
        """
        ...

    async def read_marker(self) -> str | None:
        """The id written here, or None if none ever was. Raises as `probe` does."""
        ...

    async def write_marker(self, store_id: str) -> None:
        """Writes the id, preparing the place (directory, tables) if it does not exist yet.

        A store need not work before this was called once.
        """
        ...

    async def put(self, key: Key, source: Source) -> Receipt:
        """Writes the whole object durably before it returns. The locator finds it from then on; it
        is the one that `caps.spelling` gives, unless the store has no `lists`."""
        ...

    async def stat(self, locator: str) -> Stat | None:
        """What is there, or None when the store says that nothing is."""
        ...

    def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of the half-open range; `stop=None` is the end. Close it with `aclosing`.

        Raises `NotFound`, `Truncated` if fewer bytes came than the object or range has, and every
        other `StoreError`. A range that lies outside the object is `Truncated`.
        """
        ...

    async def delete(self, locator: str) -> None:
        """Removes the object. Absent is success."""
        ...

    def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        """Every visible object whose locator starts with `prefix`, in the order of locators' UTF-8
        bytes, those after `after` only; never anything under `.soundkeep/`."""
        ...

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        """A URL that plays without a key until it expires, or None if the store cannot."""
        ...

    async def reap(self, older_than: timedelta) -> int:
        """Removes what interrupted puts left hidden and is older; answers how many there were."""
        ...

    async def close(self) -> None:
        """Gives back connections, threads and files. Calling it twice is fine."""
        ...


class Recorded(Protocol):
    """A row of the ledger about one object."""

    @property
    def key(self) -> str: ...
    @property
    def locator(self) -> str | None:
        """As the store told it; None if nobody heard."""
        ...


def lies_at(store: Store, row: Recorded) -> str:
    """Where the object of a row lies, or would lie, in its store."""
    return row.locator or store.caps.spelling.locator_of(row.key)


@runtime_checkable
class Preparable(Protocol):
    """A store whose place is made by whoever sets it up, and not by `write_marker`."""

    async def prepare(self) -> str:
        """Makes the place if it is missing; answers what a person may still do there."""
        ...
