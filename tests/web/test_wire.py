"""The short way on one connection: answers in order, kept alive, and never cut by the next."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reading.stage import Stage, noise, opened, until
from soundkeep.digest import CHUNK_BYTES
from soundkeep.web.delivery import Delivery
from web.test_delivery import Served, serving

LONG = noise(40 * CHUNK_BYTES + 17)  # more than the sockets between us take in
SHORT = noise(CHUNK_BYTES + 5, seed=1)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as stage:
        yield stage


class Counting(Delivery):
    """Counts the answers that went each way."""

    short = long = 0


@pytest.fixture
async def served(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    await stage.add(LONG, "disk", name="long", public=True)
    await stage.add(SHORT, "disk", name="short", public=True)
    begin, call = Delivery.begin_at_once, Delivery.__call__

    def counted_begin(self: Delivery, *arguments: object) -> object:
        begun = begin(self, *arguments)  # type: ignore[arg-type]
        Counting.short += begun is not None
        return begun

    async def counted_call(self: Delivery, *arguments: object) -> None:
        Counting.long += 1
        await call(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Delivery, "begin_at_once", counted_begin)
    monkeypatch.setattr(Delivery, "__call__", counted_call)
    async with serving(stage) as served:
        for name in ("long", "short"):  # from now on they are known, and their chunks trusted
            assert (await served.get(f"/audio/{name}")).status == 200
        Counting.short = Counting.long = served.delivery.sent_bytes = 0
        yield served


@asynccontextmanager
async def connected(
    served: Served,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=CHUNK_BYTES)
    try:
        yield reader, writer
    finally:
        writer.close()


def request(name: str, more: str = "") -> bytes:
    return f"GET /audio/{name} HTTP/1.1\r\nHost: here\r\n{more}\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    return await reader.readexactly(int(lines["content-length"]))


async def test_one_connection_asks_again_and_again(served: Served) -> None:
    async with connected(served) as (reader, writer):
        for start in (0, 1, CHUNK_BYTES, len(SHORT) - 1):
            writer.write(request("short", f"Range: bytes={start}-\r\n"))
            assert await answer(reader) == SHORT[start:]
    assert (Counting.short, Counting.long) == (4, 0)


async def test_requests_sent_together_are_answered_in_order(served: Served) -> None:
    """Also when the first fills the sockets, and when another way lies between two short ones."""
    async with connected(served) as (reader, writer):
        writer.write(
            request("short")
            + request("long")
            + request("none")
            + request("short", "Range: bytes=7-99\r\n")
        )
        assert await answer(reader) == SHORT
        assert await answer(reader) == LONG
        assert b"no_such_track" in await answer(reader)
        assert await answer(reader) == SHORT[7:100]
        assert served.delivery.running == 0


async def test_many_requests_of_one_who_does_not_read_take_no_memory(served: Served) -> None:
    """What was not taken is not read: one answer is under way, the rest are only requests."""
    async with connected(served) as (reader, writer):
        writer.write(request("long") * 500)
        await until(lambda: served.delivery.sent_bytes > CHUNK_BYTES)
        assert served.delivery.running == 1
        assert await answer(reader) == LONG


async def test_an_answer_outlives_the_timer_of_an_idle_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer, given at once, sets that timer while the second request is read."""
    begun = asyncio.Event()

    async def slow(self: Delivery, *arguments: object) -> None:
        begun.set()
        await asyncio.sleep(5.5)  # longer than an idle connection is kept
        await original(self, *arguments)  # type: ignore[arg-type]

    original = Delivery.__call__
    monkeypatch.setattr(Delivery, "__call__", slow)
    async with connected(served) as (reader, writer):
        writer.write(request("short") + request("short", 'If-Range: "other"\r\n'))
        assert await answer(reader) == SHORT
        await begun.wait()
        assert await answer(reader) == SHORT


async def test_what_is_wrong_in_mid_answer_is_made_good_from_another_copy(
    served: Served, stage: Stage
) -> None:
    content = noise(40 * CHUNK_BYTES, seed=3)
    track = await stage.add(content, "disk", "backup", name="both", public=True)
    assert (await served.get("/audio/both")).body == content
    taken = Counting.short
    async with connected(served) as (reader, writer):
        writer.write(request("both"))
        await until(lambda: served.delivery.running == 1)
        os.truncate(stage.file(track.blob), CHUNK_BYTES)
        assert await answer(reader) == content
    assert Counting.short == taken + 1


async def test_a_fault_of_ours_goes_the_long_way(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Delivery, "begin_at_once", broken)
    assert (await served.get("/audio/short")).body == SHORT
