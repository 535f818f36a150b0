"""Every verb of a store, tried under a fault: what came of it, in a word."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from servers.far_kinds import Far
from soundkeep.stores.interface import Key, Store
from soundkeep.testing import BytesSource
from soundkeep.testing.expecting import listed, read
from stores.shared import STORE_ID

SIZE = 150_000
RIGHT, ABSENT, SPOILT, OTHER_LENGTH = "right", "absent", "other bytes", "other length"
numbers = itertools.count()


def noise() -> bytes:
    return random.Random(next(numbers)).randbytes(SIZE)


@dataclass
class Bench:
    """A store, and past all faults the same one, where each verb has an object of its own."""

    far: Far
    store: Store
    direct: Store
    held: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # locator and bytes
    new: dict[str, bytes] = field(default_factory=dict)  # what a verb was to put
    locators: dict[str, str] = field(default_factory=dict)  # where it was said to have put it
    prefix: str = field(default_factory=lambda: f"blobs/{next(numbers)}/")

    def key(self, verb: str) -> Key:
        return Key(f"{self.prefix}{verb.replace(' ', '-')}")

    async def prepare(self, verb: str) -> None:
        data = noise()
        receipt = await self.direct.put(self.key(verb), BytesSource(data))
        self.held[verb] = receipt.locator, data

    async def put(self, verb: str) -> str:
        data = self.new[verb] = noise()
        receipt = await self.store.put(self.key(verb), BytesSource(data))
        self.locators[verb] = receipt.locator
        return RIGHT if await read(self.direct, receipt.locator) == data else SPOILT


# --- the verbs -----------------------------------------------------------------------------------

Verb = Callable[[Bench, str], Awaitable[str]]


async def probe(bench: Bench, verb: str) -> str:
    await bench.store.probe()
    return RIGHT


async def read_marker(bench: Bench, verb: str) -> str:
    if not bench.store.caps.marks:
        return RIGHT
    found = await bench.store.read_marker()
    return RIGHT if found == STORE_ID else ABSENT if found is None else SPOILT


async def write_marker(bench: Bench, verb: str) -> str:
    if bench.store.caps.marks:
        await bench.store.write_marker(STORE_ID)
    return RIGHT


async def put(bench: Bench, verb: str) -> str:
    return await bench.put(verb)


async def stat(bench: Bench, verb: str) -> str:
    locator, data = bench.held[verb]
    found = await bench.store.stat(locator)
    if found is None:
        return ABSENT
    return RIGHT if found.size_bytes == len(data) else OTHER_LENGTH


async def open_whole(bench: Bench, verb: str) -> str:
    locator, data = bench.held[verb]
    return _compared(await read(bench.store, locator), data)


async def open_range(bench: Bench, verb: str) -> str:
    locator, data = bench.held[verb]
    return _compared(await read(bench.store, locator, 70_000, 140_001), data[70_000:140_001])


async def delete(bench: Bench, verb: str) -> str:
    await bench.store.delete(bench.held[verb][0])
    return RIGHT


async def list_all(bench: Bench, verb: str) -> str:
    if not bench.store.caps.lists:
        return RIGHT
    locator = bench.held[verb][0]
    found = await listed(bench.store, locator)
    return RIGHT if found == [locator] else ABSENT if not found else SPOILT


async def sign(bench: Bench, verb: str) -> str:
    url = await bench.store.sign(bench.held[verb][0], timedelta(minutes=1))
    return RIGHT if (url is not None) == bench.store.caps.signs else ABSENT


async def reap(bench: Bench, verb: str) -> str:
    return RIGHT if await bench.store.reap(timedelta(days=1)) == 0 else SPOILT


def _compared(came: bytes, data: bytes) -> str:
    if came == data:
        return RIGHT
    return SPOILT if len(came) == len(data) else OTHER_LENGTH


VERBS: dict[str, Verb] = {
    "probe": probe,
    "read marker": read_marker,
    "write marker": write_marker,
    "put": put,
    "put in place": put,
    "stat": stat,
    "open": open_whole,
    "open a range": open_range,
    "delete": delete,
    "list": list_all,
    "sign": sign,
    "reap": reap,
}
BEGIN_WITHOUT = {"probe", "read marker", "write marker", "put", "reap"}
WITHOUT_ASKING = {"read marker", "write marker", "list", "sign", "reap"}  # in some kinds
READING = {"stat", "open", "open a range"}
