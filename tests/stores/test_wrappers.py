"""Each wrapper adds its one concern to a store and no other."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing

import pytest

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import TimedOut, Unavailable
from soundkeep.stores.interface import Key, Receipt, Source, Store
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.wrappers import Bounded, Limited, Pace, Paced, Wrapped
from soundkeep.testing import BytesSource, Fault, FaultyStore
from soundkeep.testing.expecting import fails_with, listed, read
from soundkeep.testing.sources import WaitingSource

BODY = os.urandom(3 * CHUNK_BYTES)


@pytest.fixture
async def faulty() -> FaultyStore:
    store = FaultyStore(MemoryStore("disk"))
    await store.put(Key("x"), BytesSource(BODY))
    return store


class Counting(Wrapped):
    """Knows how many puts ran at once; each takes a few turns of the loop."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.running = 0
        self.most = 0

    async def put(self, key: Key, source: Source) -> Receipt:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        return await self.inner.put(key, source)


def test_a_wrapped_store_is_a_store_of_the_same_name_and_caps() -> None:
    inner = MemoryStore("disk", public=True)
    store: Store = Limited(Bounded(inner, 1), 1)
    assert isinstance(store, Store)
    assert (store.name, store.caps) == (inner.name, inner.caps)


# --- Limited --------------------------------------------------------------------------------


async def test_no_more_calls_run_at_once_than_allowed() -> None:
    counting = Counting(MemoryStore("disk"))
    store = Limited(counting, 3)
    await asyncio.gather(*(store.put(Key(f"{n}"), BytesSource(b"x")) for n in range(20)))
    assert counting.most == 3


async def test_listeners_who_pause_do_not_shut_the_store(faulty: FaultyStore) -> None:
    store = Limited(faulty, 1)
    async with aclosing(store.open("x")) as paused:
        await anext(paused)
        assert await read(store, "x") == BODY


async def test_a_store_limited_to_one_can_be_copied_onto_itself(faulty: FaultyStore) -> None:
    class FromTheStore(BytesSource):
        def open(self, start: int = 0, stop: int | None = None):  # type: ignore[no-untyped-def]
            return store.open("x", start, stop)

    store = Limited(faulty, 1)
    await store.put(Key("y"), FromTheStore(BODY))
    assert await read(store, "y") == BODY


async def test_a_failed_call_gives_its_place_back(faulty: FaultyStore) -> None:
    store = Limited(faulty, 1)
    faulty.break_with(Fault.unavailable(), times=2)
    await fails_with(Unavailable, store.stat("x"))
    await fails_with(Unavailable, read(store, "x"))
    async with asyncio.timeout(10):
        assert await store.stat("x")
        assert await read(store, "x") == BODY


# --- Bounded --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["probe", "read_marker", "stat", "put", "delete", "list", "open"])
async def test_a_store_that_stalls_is_timed_out(faulty: FaultyStore, verb: str) -> None:
    store = Bounded(faulty, 0.02)
    faulty.break_with(Fault.stalling())
    call = {
        "probe": store.probe,
        "read_marker": store.read_marker,
        "stat": lambda: store.stat("x"),
        "put": lambda: store.put(Key("y"), BytesSource(BODY)),
        "delete": lambda: store.delete("x"),
        "list": lambda: listed(store),
        "open": lambda: read(store, "x"),
    }[verb]
    await fails_with(TimedOut, call())


async def test_a_body_that_stalls_in_the_middle_is_timed_out(faulty: FaultyStore) -> None:
    store = Bounded(faulty, 0.02)
    faulty.break_with(Fault.stalling(at=CHUNK_BYTES + 7))
    async with aclosing(store.open("x")) as pieces:
        assert await anext(pieces) + await anext(pieces) == BODY[: CHUNK_BYTES + 7]
        await fails_with(TimedOut, anext(pieces))


async def test_a_listener_may_take_longer_than_the_store(faulty: FaultyStore) -> None:
    async with aclosing(Bounded(faulty, 0.02).open("x")) as pieces:
        got = b""
        async for piece in pieces:
            await asyncio.sleep(0.03)  # longer than the store is given
            got += piece
    assert got == BODY


async def test_the_time_of_the_source_does_not_count_against_the_store() -> None:
    store = Bounded(MemoryStore("disk"), 0.02)
    source = WaitingSource(BODY)
    putting = asyncio.ensure_future(store.put(Key("x"), source))
    await source.half_given.wait()
    done, _ = await asyncio.wait([putting], timeout=0.06)
    assert not done
    source.may_go_on.set()
    await putting
    assert await read(store, "x") == BODY


# --- Paced ----------------------------------------------------------------------------------


async def test_a_pace_makes_everybody_wait_for_what_was_taken_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pace = Pace(bytes_per_second=1000)
    monkeypatch.setattr("soundkeep.stores.wrappers.asyncio.sleep", sleep)
    for size_bytes in (500, 1000, 1):
        await pace.pay(size_bytes)
    assert waits == pytest.approx([0, 0.5, 1.5], abs=0.1)


async def test_what_is_put_at_a_pace_is_put_whole() -> None:
    inner = MemoryStore("disk")
    await Paced(inner, Pace(10_000_000)).put(Key("x"), BytesSource(BODY))
    assert await read(inner, "x") == BODY
