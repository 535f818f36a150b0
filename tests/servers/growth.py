"""By how many MiB a process grows that puts one large object into a store and reads it back.

growth({"kind": "turso", "url": url}, 80)                in a process of its own, which never
growth({"kind": "cloud", …}, 80, closes=True)            closes the store unless it must
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from soundkeep.digest import Digest
from soundkeep.settings.stores import StoreSettings
from soundkeep.stores.interface import Bytes, Key, Store
from soundkeep.stores.kinds import make_store

TESTS = Path(__file__).resolve().parents[1]
PIECE = os.urandom(1_000_000)
ENDS_WITHIN_SECONDS = 300


def growth(table: dict[str, Any], megabytes: int, *, closes: bool = False) -> int:
    """`table` is the store's settings. The process must end by itself."""
    asked = json.dumps({"table": table, "megabytes": megabytes, "closes": closes})
    command = [sys.executable, "-m", "servers.growth", asked]
    done = subprocess.run(
        command, cwd=TESTS, capture_output=True, text=True, timeout=ENDS_WITHIN_SECONDS, check=True
    )
    return int(done.stdout)


class Large:
    """So many pieces, which take the memory of one."""

    media_type = "audio/mpeg"
    cache_seconds = None
    file: Path | None = None
    checked = True

    def __init__(self, megabytes: int) -> None:
        self._count = megabytes
        self.size_bytes = megabytes * len(PIECE)
        whole = hashlib.sha256()
        for _ in range(megabytes):
            whole.update(PIECE)
        self.digest = Digest(whole.digest())

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        for _ in range(self._count):
            yield PIECE


def store_of(table: dict[str, Any]) -> Store:
    parsed: StoreSettings = TypeAdapter(StoreSettings).validate_python(table)
    return make_store("large", parsed, data=Path("/nowhere"), catalog_url="sqlite:///c.db")


def peak() -> int:
    """The most KiB this program ever had. (`ru_maxrss` also counts who started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


async def main(table: dict[str, Any], megabytes: int, closes: bool) -> None:
    store, source = store_of(table), Large(megabytes)
    if store.caps.marks:
        await store.write_marker("id-1")
    before = peak()
    receipt = await store.put(Key("x"), source)
    seen = 0
    async for piece in store.open(receipt.locator):
        seen += len(piece)
    assert seen == source.size_bytes
    if closes:
        await store.close()
    print((peak() - before) // 1024)


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
