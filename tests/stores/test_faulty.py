"""Faulty stores fail exactly as they were told, for as long, and then keep the contract."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing

import pytest

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import PermissionDenied, Truncated, Unavailable
from soundkeep.stores.interface import Key
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing import BytesSource, Fault, FaultyStore
from soundkeep.testing.expecting import fails_with, listed, read

BODY = os.urandom(2 * CHUNK_BYTES + 9)


@pytest.fixture
async def store() -> FaultyStore:
    store = FaultyStore(MemoryStore("disk"))
    await store.put(Key("x"), BytesSource(BODY))
    return store


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


async def test_only_the_named_verbs_fail_and_only_so_often(store: FaultyStore) -> None:
    store.break_with(Fault.unavailable(), verbs={"stat"}, times=1)
    assert await read(store, "x") == BODY
    await fails_with(Unavailable, store.stat("x"))
    assert await store.stat("x")


async def test_the_fault_set_last_comes_first(store: FaultyStore) -> None:
    store.break_with(Fault.unavailable())
    store.break_with(Fault.raising(PermissionDenied()), times=1)
    await fails_with(PermissionDenied, store.probe())
    await fails_with(Unavailable, store.probe())
    await fails_with(Unavailable, listed(store))


async def test_a_healed_store_works_again(store: FaultyStore) -> None:
    store.break_with(Fault.unavailable())
    store.heal()
    assert await read(store, "x") == BODY


@pytest.mark.parametrize("at", [0, 1, CHUNK_BYTES, len(BODY) - 1])
@pytest.mark.parametrize("start", [0, 5, CHUNK_BYTES])
async def test_a_body_is_cut_at_the_byte(store: FaultyStore, at: int, start: int) -> None:
    store.break_with(Fault.truncating(at=at))
    got = bytearray()

    async def listen() -> None:
        async with aclosing(store.open("x", start)) as pieces:
            async for piece in pieces:
                got.extend(piece)

    await fails_with(Truncated, listen())
    assert got == BODY[start:at]


@pytest.mark.parametrize("at", [0, CHUNK_BYTES - 1, CHUNK_BYTES, len(BODY) - 1])
async def test_one_byte_is_turned_when_it_is_read(store: FaultyStore, at: int) -> None:
    store.break_with(Fault.corrupting(at=at))
    assert await read(store, "x") == flipped(BODY, at)
    assert await read(store, "x", at, at + 1) == flipped(BODY, at)[at : at + 1]
    assert await read(store, "x", at + 1) == BODY[at + 1 :]


async def test_one_byte_is_turned_when_it_is_put(store: FaultyStore) -> None:
    store.break_with(Fault.corrupting(at=300_000), verbs={"put"})
    await store.put(Key("y"), BytesSource(BODY))
    assert await read(store, "y") == flipped(BODY, 300_000)


@pytest.mark.parametrize(("surplus", "data"), [(3, BODY + b"\0\0\0"), (-3, BODY[:-3])])
async def test_a_lying_store_gives_another_length_without_a_word(
    store: FaultyStore, surplus: int, data: bytes
) -> None:
    store.break_with(Fault.wrong_length(surplus))
    assert await read(store, "x") == data
    stat = await store.stat("x")
    assert stat is not None
    assert stat.size_bytes == len(data)


@pytest.mark.parametrize("at", [0, 1, CHUNK_BYTES + 1])
async def test_a_stalled_body_goes_on_when_the_store_is_healed(store: FaultyStore, at: int) -> None:
    store.break_with(Fault.stalling(at=at))
    got = bytearray()

    async def listen() -> None:
        async with aclosing(store.open("x")) as pieces:
            async for piece in pieces:
                got.extend(piece)

    listening = asyncio.ensure_future(listen())
    done, _ = await asyncio.wait([listening], timeout=0.05)
    assert not done
    assert got == BODY[:at]
    store.heal()
    await listening
    assert got == BODY


async def test_an_applied_call_may_be_answered_with_an_error(store: FaultyStore) -> None:
    store.break_with(Fault.lost_answers())
    await fails_with(Unavailable, store.put(Key("y"), BytesSource(b"y")))
    await fails_with(Unavailable, store.delete("x"))
    store.heal()
    assert await listed(store) == ["y"]


async def test_a_slow_store_answers_rightly(store: FaultyStore) -> None:
    store.break_with(Fault.slow(0.001))
    assert await read(store, "x") == BODY
    assert await store.stat("x")
