"""Each wrapper adds its one concern to a store and no other."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing

import pytest

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import NotFound, Throttled, TimedOut, Unavailable
from soundkeep.stores.interface import Key, Receipt, Source, Store
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.wrappers import Bounded, Heard, Limited, Retrying, Watched, Wrapped
from soundkeep.testing import BytesSource, Fault, FaultyStore
from soundkeep.testing.contract import fails_with, listed, read
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
    store: Store = Watched(Retrying(Limited(Bounded(inner, 1), 1)), print)
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


# --- Retrying -------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retrying, "WAITS_SECONDS", (0.0, 0.0))


@pytest.mark.usefixtures("quick")
async def test_a_small_call_is_tried_again_after_a_passing_fault(faulty: FaultyStore) -> None:
    faulty.break_with(Fault.unavailable(), times=2)
    assert await Retrying(faulty).stat("x")


@pytest.mark.usefixtures("quick")
async def test_an_outage_is_not_hidden_for_long(faulty: FaultyStore) -> None:
    faulty.break_with(Fault.unavailable())
    faulty.calls.clear()
    await fails_with(Unavailable, Retrying(faulty).stat("x"))
    assert faulty.calls == ["stat"] * 3


@pytest.mark.usefixtures("quick")
async def test_puts_probes_and_lasting_faults_are_not_tried_again(faulty: FaultyStore) -> None:
    faulty.break_with(Fault.unavailable(), verbs={"put", "probe"})
    faulty.break_with(Fault.raising(NotFound("x")), verbs={"stat"})
    faulty.calls.clear()
    store = Retrying(faulty)
    await fails_with(Unavailable, store.put(Key("y"), BytesSource(b"y")))
    await fails_with(Unavailable, store.probe())
    await fails_with(NotFound, store.stat("x"))
    assert faulty.calls == ["put", "probe", "stat"]


@pytest.mark.parametrize(("asked", "waited"), [(0.5, 0.5), (3600.0, 2.0)])
async def test_a_store_that_asks_for_patience_is_obeyed_up_to_a_limit(
    faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch, asked: float, waited: float
) -> None:
    waits = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    faulty.break_with(Fault.raising(Throttled(retry_after=asked)), times=1)
    monkeypatch.setattr(asyncio, "sleep", note)
    assert await Retrying(faulty).stat("x")
    assert waited in waits
    assert max(waits) == waited


# --- Watched --------------------------------------------------------------------------------


async def test_every_outcome_is_heard_once(faulty: FaultyStore) -> None:
    heard: list[Heard] = []
    store = Watched(faulty, heard.append)
    await store.stat("x")
    await read(store, "x")
    await listed(store)
    faulty.break_with(Fault.truncating(at=10))
    await fails_with(Exception, read(store, "x"))
    faulty.heal()
    faulty.break_with(Fault.unavailable())
    await fails_with(Unavailable, store.delete("x"))
    assert [(one.verb, one.error and one.error.code) for one in heard] == [
        ("stat", None),
        ("open", None),
        ("list", None),
        ("open", "store_truncated"),
        ("delete", "store_unavailable"),
    ]
    assert {one.store for one in heard} == {"disk"}
    assert all(one.seconds >= 0 for one in heard)


async def test_an_absent_object_is_no_fault_of_the_store(faulty: FaultyStore) -> None:
    heard: list[Heard] = []
    await fails_with(NotFound, read(Watched(faulty, heard.append), "nothing"))
    assert [one.error for one in heard] == [None]


async def test_a_listener_who_goes_away_says_nothing_about_the_store(faulty: FaultyStore) -> None:
    heard: list[Heard] = []
    async with aclosing(Watched(faulty, heard.append).open("x")) as pieces:
        await anext(pieces)
    assert heard == []
