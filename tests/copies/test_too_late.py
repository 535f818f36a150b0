"""Who acts on a store after its lease ran out leaves neither unknown bytes nor a false claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from ledgers import add_present, make_blob, make_track, opened
from soundkeep.catalog import blobs, copies, copy_work, tracks
from soundkeep.catalog.copy_law import Law
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies import planning
from soundkeep.copies.copying import Copier
from soundkeep.copies.dropping import Dropper, InboxManners
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.errors import LeaseLost
from soundkeep.intake import recording
from soundkeep.model import Chore, CopyState, Lane
from soundkeep.reading.reader import Reader
from soundkeep.settings.house import ReadingSettings
from soundkeep.stores.interface import Key, Receipt, Source, Store
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.wrappers import Wrapped
from soundkeep.testing.sources import BytesSource

SOUND = b"a sound that is late"
BLOB = make_blob(SOUND)
PLACE = Key(f"blobs/{BLOB.digest}")
LAYOUT = Layout(DEFAULT_LAYOUT)
RULES = Rules(("disk",), (StoreRule("disk", LAYOUT), StoreRule("cdn", LAYOUT, public=True)))


async def nothing() -> None:
    return None


class Slow(Wrapped):
    """A store in which much happens before a put or a delete gets through."""

    before: Callable[[], Awaitable[None]] = staticmethod(nothing)

    async def put(self, key: Key, source: Source) -> Receipt:
        async with aclosing(source.open()) as pieces:
            taken = b"".join([piece async for piece in pieces])
        await self.before()
        return await self.inner.put(key, BytesSource(taken))

    async def delete(self, locator: str) -> None:
        await self.before()
        await self.inner.delete(locator)


@dataclass
class Scene:
    catalog: Catalog
    cdn: MemoryStore
    slow: Slow
    copier: Copier
    dropper: Dropper

    async def claim(self, chore: Chore, lease_seconds: float = 60) -> Claimed:
        [claimed] = await self.catalog.write(
            copy_work.claim, chore, "cdn", holder="h/1/1", limit=1, lease_seconds=lease_seconds
        )
        return claimed

    async def state(self) -> CopyState | None:
        held = await self.catalog.read(copies.of_blob, BLOB.digest)
        return next((copy.state for copy in held if copy.store == "cdn"), None)


@pytest.fixture
async def scene(sqlite_url: str) -> AsyncIterator[Scene]:
    """A public track whose copy in `cdn` is to be written."""
    disk, cdn = MemoryStore("disk"), MemoryStore("cdn")
    await disk.put(PLACE, BytesSource(SOUND))
    slow = Slow(cdn)
    stores: dict[str, Store] = {"disk": disk, "cdn": cdn}
    async with opened(sqlite_url) as catalog:
        copier = Copier(catalog, Reader(catalog, stores, ReadingSettings(), ["disk"]))
        law = Law(frozenset(stores), 1, 3600)
        dropper = Dropper(catalog, copier, stores, RULES, law, InboxManners(0, 1))
        await catalog.write(keep_public)
        yield Scene(catalog, cdn, slow, copier, dropper)


def keep_public(tx: Tx) -> None:
    blobs.ensure(tx, BLOB)
    if not copies.of_blob(tx, BLOB.digest):
        add_present(tx, BLOB, "disk")
    tracks.add(tx, make_track("t", BLOB, public=True))
    planning.replan(tx, BLOB, RULES, lane=Lane.BULK)


async def test_a_put_that_ends_after_the_deletion_was_confirmed_is_removed(scene: Scene) -> None:
    async def deleted_by_others() -> None:
        await scene.catalog.write(recording.remove, "t", RULES)
        await scene.dropper.drop(scene.cdn, await scene.claim(Chore.DROP))

    scene.slow.before = deleted_by_others
    with pytest.raises(LeaseLost):
        await scene.copier.copy(scene.slow, await scene.claim(Chore.COPY, lease_seconds=0))
    assert await scene.cdn.stat(str(PLACE)) is not None
    await scene.dropper.drop(scene.cdn, await scene.claim(Chore.DROP))
    assert await scene.cdn.stat(str(PLACE)) is None
    assert await scene.state() is None


async def test_a_put_that_ends_after_another_made_the_copy_is_verified_again(
    scene: Scene,
) -> None:
    async def made_by_another() -> None:
        await scene.copier.copy(scene.cdn, await scene.claim(Chore.COPY))

    scene.slow.before = made_by_another
    with pytest.raises(LeaseLost):
        await scene.copier.copy(scene.slow, await scene.claim(Chore.COPY, lease_seconds=0))
    assert await scene.state() is CopyState.DOUBTED


@pytest.fixture
async def late_delete(scene: Scene) -> Claimed:
    """A lease on removing the copy, and what others do while the removal is on its way."""
    await scene.copier.copy(scene.cdn, await scene.claim(Chore.COPY))
    await scene.catalog.write(recording.remove, "t", RULES)

    async def removed_and_brought_again() -> None:
        await scene.dropper.drop(scene.cdn, await scene.claim(Chore.DROP))
        await scene.catalog.write(keep_public)
        await scene.copier.copy(scene.cdn, await scene.claim(Chore.COPY))

    scene.slow.before = removed_and_brought_again
    return await scene.claim(Chore.DROP, lease_seconds=0)


async def test_a_delete_that_comes_too_late_is_noticed(scene: Scene, late_delete: Claimed) -> None:
    with pytest.raises(LeaseLost):
        await scene.dropper.drop(scene.slow, late_delete)
    assert await scene.state() is CopyState.DOUBTED


async def test_a_delete_that_comes_too_late_is_noticed_also_when_it_is_cancelled(
    scene: Scene, late_delete: Claimed
) -> None:
    others, gone_on = scene.slow.before, asyncio.Event()

    async def and_then_hangs() -> None:
        await others()
        gone_on.set()
        await asyncio.Event().wait()

    scene.slow.before = and_then_hangs
    dropping = asyncio.create_task(scene.dropper.drop(scene.slow, late_delete))
    await gone_on.wait()
    dropping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dropping
    assert await scene.state() is CopyState.DOUBTED
