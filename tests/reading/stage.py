"""A catalog, a directory and a database with sounds in them, and ways to damage each."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import ledgers
from soundkeep.catalog import copies
from soundkeep.catalog.database import Catalog
from soundkeep.digest import CHUNK_BYTES
from soundkeep.model import Blob, CopyState, Track
from soundkeep.reading.reader import Reader
from soundkeep.settings.house import ReadingSettings
from soundkeep.stores.database import DatabaseStore
from soundkeep.stores.interface import Key, Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.faulty import FaultyStore
from soundkeep.testing.sources import BytesSource

PATIENT = ReadingSettings(hedge_seconds=30, stall_seconds=30)
SIZES = (1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17)


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


@dataclass
class Stage:
    """`disk` keeps files, `backup` rows, `one` and `two` cost as much as each other."""

    catalog: Catalog
    stores: dict[str, FaultyStore]
    folder: Path

    async def add(
        self, content: bytes, *stores: str, name: str = "sound", public: bool = False
    ) -> Track:
        """A track whose blob is present in these stores."""
        track = ledgers.make_track(name, ledgers.make_blob(content), public=public)
        for store in stores:
            await self.stores[store].put(self.key(track.blob), BytesSource(content))
        await self.catalog.write(ledgers.add_track, track)
        await self.catalog.write(ledgers.add_present, track.blob, *stores)
        return track

    def reader(self, settings: ReadingSettings = PATIENT) -> Reader:
        return Reader(self.catalog, dict[str, Store](self.stores), settings, list(self.stores))

    def key(self, blob: Blob) -> Key:
        return Key(f"blobs/{blob.digest}")

    def file(self, blob: Blob) -> Path:
        return self.folder / "disk" / str(self.key(blob))

    async def states(self, blob: Blob) -> dict[str, CopyState]:
        return await ledgers.states(self.catalog, blob)

    async def set_state(self, blob: Blob, store: str, state: CopyState) -> None:
        found = await self.catalog.read(copies.of_blob, blob.digest)
        copy_id = next(copy.id for copy in found if copy.store == store)
        if state is CopyState.DOUBTED:
            await self.catalog.write(copies.doubt, copy_id, "for a test")
        else:
            await self.catalog.write(copies.abandon, blob.digest)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Stage]:
    """A stage whose stores are empty, closed at the end."""
    inner: list[Store] = [
        LocalStore("disk", folder / "disk"),
        DatabaseStore("backup", f"sqlite:///{folder / 'backup.db'}"),
        MemoryStore("one"),
        MemoryStore("two"),
    ]
    stores = {store.name: FaultyStore(store) for store in inner}
    async with ledgers.opened(f"sqlite:///{folder / 'catalog.db'}") as catalog:
        try:
            for store in stores.values():
                await store.write_marker(store.name)
            yield Stage(catalog, stores, folder)
        finally:
            for store in stores.values():
                await store.close()


def flip(path: Path, at: int) -> None:
    """Changes one byte and restores size and mtime, as a failing disk would."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def open_files(folder: Path) -> list[str]:
    """What this process holds open of the sounds in a folder."""
    numbers = Path("/proc/self/fd").iterdir()
    targets = [str(number.readlink()) for number in numbers if number.is_symlink()]
    return [target for target in targets if target.startswith(str(folder / "disk" / "blobs"))]


async def read(reader: Reader, blob: Blob, start: int = 0, stop: int | None = None) -> bytes:
    """Everything a reader gives, to its end."""
    async with aclosing(reader.open(blob, start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


async def until(holds: Callable[[], bool], within_seconds: float = 10) -> None:
    """Waits for a condition, within a bound."""
    async with asyncio.timeout(within_seconds):
        while not holds():
            await asyncio.sleep(0.01)
