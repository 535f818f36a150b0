"""Sidecars that are taken many at once: what they hold of memory does not grow with their sizes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from copies.lost import SEGMENT, TRACK, a_house, about_to_be_lost
from soundkeep.copies import taking
from soundkeep.copies.taking import SidecarReading
from soundkeep.errors import NotFound, TooLarge
from soundkeep.stores.interface import Key
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.expecting import fails_with
from soundkeep.testing.sources import BytesSource

SMALL = 100
MANY = 8


class Readers:
    """Many who each hold a sidecar until all may go."""

    def __init__(self, store: MemoryStore) -> None:
        self.reading = SidecarReading()
        self.store = store
        self.holding = dict[str, bytes]()
        self.most = 0
        self.may_go = asyncio.Event()

    async def hold(self, locator: str) -> bytes:
        async with self.reading.sidecar(self.store, locator) as data:
            self.holding[locator] = data
            self.most = max(self.most, sum(map(len, self.holding.values())))
            await self.may_go.wait()
            return self.holding.pop(locator)


@pytest.fixture
async def readers(monkeypatch: pytest.MonkeyPatch) -> Readers:
    monkeypatch.setattr(taking, "SMALL_SIDECAR_BYTES", SMALL)
    monkeypatch.setattr(taking, "MAX_SIDECAR_BYTES", 10 * SMALL)
    store = MemoryStore("memory")
    for number in range(MANY):
        await store.put(Key(f"small/{number}"), BytesSource(bytes([number]) * SMALL))
        await store.put(Key(f"large/{number}"), BytesSource(bytes([number]) * 10 * SMALL))
    await store.put(Key("huge"), BytesSource(bytes(10 * SMALL + 1)))
    return Readers(store)


async def test_of_large_sidecars_one_at_a_time_is_in_memory_beside_the_small(
    readers: Readers,
) -> None:
    names = [f"{size}/{number}" for size in ("large", "small") for number in range(MANY)]
    held = [asyncio.create_task(readers.hold(name)) for name in names]
    async with asyncio.timeout(10):
        while len(readers.holding) < MANY + 1:
            await asyncio.sleep(0)
    for _ in range(100):  # whoever could come in has come
        await asyncio.sleep(0)
    assert sorted(name[:5] for name in readers.holding) == ["large", *["small"] * MANY]
    readers.may_go.set()
    bodies = await asyncio.gather(*held)
    sizes = [10 * SMALL] * MANY + [SMALL] * MANY
    numbers = [*range(MANY), *range(MANY)]
    assert bodies == [bytes([n]) * size for n, size in zip(numbers, sizes, strict=True)]
    assert readers.most == 10 * SMALL + MANY * SMALL


async def test_what_is_too_large_or_absent_holds_up_nobody(readers: Readers) -> None:
    readers.may_go.set()
    await fails_with(TooLarge, readers.hold("huge"))
    await fails_with(NotFound, readers.hold("nowhere"))
    assert len(await readers.hold("large/1")) == 10 * SMALL


async def test_a_rebuild_of_large_sidecars_takes_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "SMALL_SIDECAR_BYTES", SMALL)
    async with about_to_be_lost(tmp_path) as lost:
        await a_house(lost)
        tally = await lost.run()
        assert (tally.taken, tally.left) == ({TRACK: 4, SEGMENT: 1}, [])
        assert (await lost.compared()).losses == []
