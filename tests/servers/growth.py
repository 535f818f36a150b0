"""By how many MiB a process grows that puts one large object into a store and reads it back.

growth("turso", url, 40)    in a process of its own, which never closes the store
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

from soundkeep.digest import Digest
from soundkeep.stores.interface import Bytes, Key, Store

TESTS = Path(__file__).resolve().parents[1]
PIECE = os.urandom(1_000_000)
ENDS_WITHIN_SECONDS = 300


def growth(kind: str, url: str, megabytes: int) -> int:
    """The process must end by itself."""
    command = [sys.executable, "-m", "servers.growth", kind, url, str(megabytes)]
    done = subprocess.run(
        command, cwd=TESTS, capture_output=True, text=True, timeout=ENDS_WITHIN_SECONDS, check=True
    )
    return int(done.stdout)


class Large:
    """So many pieces, which take the memory of one."""

    digest = Digest(bytes(32))
    media_type = "audio/mpeg"
    cache_seconds = None
    file: Path | None = None
    checked = True

    def __init__(self, megabytes: int) -> None:
        self._count = megabytes
        self.size_bytes = megabytes * len(PIECE)

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        for _ in range(self._count):
            yield PIECE


def store_of(kind: str, url: str) -> Store:
    if kind == "turso":
        from soundkeep.stores.turso import TursoStore

        return TursoStore("large", url)
    from soundkeep.stores.database import DatabaseStore

    return DatabaseStore("large", url)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(kind: str, url: str, megabytes: int) -> None:
    store, source = store_of(kind, url), Large(megabytes)
    await store.write_marker("id-1")
    before = peak()
    await store.put(Key("x"), source)
    seen = 0
    async for piece in store.open("x"):
        seen += len(piece)
    assert seen == source.size_bytes
    print((peak() - before) // 1024)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
