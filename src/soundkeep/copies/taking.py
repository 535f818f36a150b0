"""Takes in what lies in a store already, object by object: what `rebuild` and `adopt` share.

So many objects are in hand at once, each is taken in a transaction of its own, and one that cannot
be taken is left where it is and named with the reason. Memory does not grow with the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from soundkeep.catalog import copies, copy_work
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.copies.copying import READ_BACK
from soundkeep.errors import CatalogUnavailable, Conflict, DiskFull, SoundkeepError, TooLarge
from soundkeep.model import Blob, Wish
from soundkeep.stores.interface import Store

AT_ONCE = 8  # objects in hand
MAX_SIDECAR_BYTES = 64 * 1024 * 1024
REMEMBERED = 1000  # of those that were left, by name
ENDS_ALL = (CatalogUnavailable, DiskFull)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Left:
    """An object that was not taken, and why."""

    key: str
    why: str
    code: str


@dataclass(slots=True)
class Leftovers:
    """What was not taken: how many, and the first of them by name."""

    left: list[Left] = field(default_factory=list)
    left_count: int = 0

    def leave(self, key: str, error: SoundkeepError) -> None:
        self.left_count += 1
        if len(self.left) < REMEMBERED:
            self.left.append(Left(key, " ".join(str(error).split()), error.code))


async def each_of(
    objects: AsyncGenerator[T, None],
    take: Callable[[T], Awaitable[None]],
    done: Callable[[], object],
    at_once: int = AT_ONCE,
) -> None:
    """Takes each, so many at once, and calls `done` after it. What `take` raises ends all."""
    places = asyncio.Semaphore(at_once)

    async def taken(one: T) -> None:
        try:
            await take(one)
        finally:
            places.release()
        done()

    try:
        async with asyncio.TaskGroup() as group, aclosing(objects) as found:
            async for one in found:
                await places.acquire()
                group.create_task(taken(one))
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


async def read_sidecar(store: Store, key: str) -> bytes:
    """All of it. Raises `TooLarge` for what can be none, and `StoreError`."""
    data = bytearray()
    async with aclosing(store.open(key)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > MAX_SIDECAR_BYTES:
                raise TooLarge(f"more than {MAX_SIDECAR_BYTES} bytes are no sidecar")
    return bytes(data)


def is_recorded(tx: Tx, blob: Blob, place: Place) -> bool:
    """Whether the ledger has a copy of this blob there, in whatever state."""
    held = copies.of_blob(tx, blob.digest)
    return any((copy.store, copy.key) == (place.store, place.key) for copy in held)


def record_read(tx: Tx, blob: Blob, place: Place, locator: str) -> None:
    """Records the copy that was just read there; one that was to be made there is made. Raises
    `Conflict`."""
    for copy in copies.of_blob(tx, blob.digest):
        if (copy.store, copy.key) == (place.store, place.key):
            copy_work.note_found(tx, copy, locator=locator, verified=READ_BACK)
            return
    if not copies.unknown_keys(tx, place.store, [place.key]):
        raise Conflict(f"the catalog has another sound at {place.key}")
    copies.record_present(
        tx, blob.digest, place, locator=locator, verified=READ_BACK, wish=Wish.KEEP, due_in=0
    )
