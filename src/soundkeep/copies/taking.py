"""Takes in what lies in a store already, object by object: what `rebuild` and `adopt` share.

So many objects are in hand at once, each is taken in a transaction of its own, and one that cannot
be taken is left where it is and named with the reason. Memory does not grow with the store, nor
much with the size of the sidecars in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from soundkeep.catalog import copies, copy_work
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.copies.copying import READ_BACK
from soundkeep.errors import CatalogUnavailable, Conflict, DiskFull, SoundkeepError, TooLarge
from soundkeep.model import Blob, CopyState, Wish
from soundkeep.stores.interface import Store

AT_ONCE = 8  # objects in hand
MAX_SIDECAR_BYTES = 64 * 1024 * 1024
SMALL_SIDECAR_BYTES = 1024 * 1024
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


class SidecarReading:
    """Reads sidecars for many who take at once. Small ones lie side by side in memory; of large
    ones, and of what they become when they are understood, there is one at a time."""

    def __init__(self) -> None:
        self._large = asyncio.Lock()

    @asynccontextmanager
    async def sidecar(self, store: Store, locator: str) -> AsyncGenerator[bytes, None]:
        """All of it, as long as it is needed. Raises as `read_sidecar` does."""
        async with AsyncExitStack() as held:
            data = await _up_to(SMALL_SIDECAR_BYTES, store, locator)
            if data is None:  # read anew: no body is kept waiting for the others
                await held.enter_async_context(self._large)
                data = await read_sidecar(store, locator)
            yield data


async def read_sidecar(store: Store, locator: str) -> bytes:
    """All of it. Raises `TooLarge` for what can be none, and `StoreError`."""
    data = await _up_to(MAX_SIDECAR_BYTES, store, locator)
    if data is None:
        raise TooLarge(f"more than {MAX_SIDECAR_BYTES} bytes are no sidecar")
    return data


async def _up_to(most_bytes: int, store: Store, locator: str) -> bytes | None:
    """All of an object; None if it has more."""
    data = bytearray()
    async with aclosing(store.open(locator)) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > most_bytes:
                return None
    return bytes(data)


def is_recorded(tx: Tx, blob: Blob, place: Place) -> bool:
    """Whether the ledger has a copy of this blob there, in whatever state."""
    held = copies.of_blob(tx, blob.digest)
    return any((copy.store, copy.key) == (place.store, place.key) for copy in held)


def record_read(tx: Tx, blob: Blob, place: Place, locator: str) -> None:
    """Records the copy that was just read there; one that was to be made there is made. Raises
    `Conflict`, also for one that is just being removed: it proves nothing any more."""
    for copy in copies.of_blob(tx, blob.digest):
        if (copy.store, copy.key) == (place.store, place.key):
            if copy.state is CopyState.UNWANTED:
                raise Conflict(f"the sound at {place.key} is just being removed")
            copy_work.note_found(tx, copy, locator=locator, verified=READ_BACK)
            return
    if not copies.unknown_keys(tx, place.store, [place.key]):
        raise Conflict(f"the catalog has another sound at {place.key}")
    copies.record_present(
        tx, blob.digest, place, locator=locator, verified=READ_BACK, wish=Wish.KEEP, due_in=0
    )
