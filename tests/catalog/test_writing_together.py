"""Writes that wait for SQLite's one writer are committed together, and fail alone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from soundkeep.catalog import facts
from soundkeep.catalog.database import MOST_TOGETHER, Catalog, Tx
from soundkeep.catalog.migrating import migrate
from soundkeep.errors import CatalogUnavailable


@pytest.fixture
async def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    await catalog.upgrade(migrate)
    return catalog


class Held:
    """Keeps the writing thread busy until it is let go, so that what comes then waits."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._free = threading.Event()

    async def __aenter__(self) -> None:
        self._holding = asyncio.create_task(self._catalog.write(lambda _: self._free.wait(20)))
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self._free.set()
        await self._holding


def note(tx: Tx, name: str, connections: list[object]) -> str:
    facts.write(tx, name, "noted")
    connections.append(tx.connection)
    return name


def fall_after_writing(tx: Tx, name: str) -> None:
    facts.write(tx, name, "never")
    raise ValueError(name)


async def test_what_waited_is_one_transaction_and_each_has_its_own_answer(
    catalog: Catalog,
) -> None:
    connections: list[object] = []
    names = [f"fact {number}" for number in range(MOST_TOGETHER)]
    async with Held(catalog):
        writes = [asyncio.create_task(catalog.write(note, name, connections)) for name in names]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writes) == names
    assert len(set(map(id, connections))) == 1
    for name in names:
        assert await catalog.read(facts.read, name) == "noted"
    await catalog.close()


async def test_one_that_fails_takes_nobody_along_and_leaves_nothing(catalog: Catalog) -> None:
    async with Held(catalog):
        before = asyncio.create_task(catalog.write(note, "before", []))
        falls = asyncio.create_task(catalog.write(fall_after_writing, "falls"))
        after = asyncio.create_task(catalog.write(note, "after", []))
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="falls"):
        await falls
    assert [await before, await after] == ["before", "after"]
    assert await catalog.read(facts.read, "before") == "noted"
    assert await catalog.read(facts.read, "falls") is None
    assert await catalog.read(facts.read, "after") == "noted"
    await catalog.close()


async def test_a_statement_that_the_database_refuses_is_no_others_failure(
    catalog: Catalog,
) -> None:
    async with Held(catalog):
        before = asyncio.create_task(catalog.write(note, "before", []))
        falls = asyncio.create_task(
            catalog.write(lambda tx: tx.run(text("DELETE FROM nowhere")).rowcount)
        )
        after = asyncio.create_task(catalog.write(note, "after", []))
        await asyncio.sleep(0)
    with pytest.raises(CatalogUnavailable, match="nowhere"):
        await falls
    assert [await before, await after] == ["before", "after"]
    assert await catalog.read(facts.read, "after") == "noted"
    await catalog.close()


async def test_only_what_made_work_due_wakes_the_worker(catalog: Catalog) -> None:
    woken: list[bool] = []
    catalog.on_commit.append(lambda: woken.append(True))

    def wake(tx: Tx) -> None:
        tx.wakes = True

    async with Held(catalog):
        writes = [catalog.write(note, "quiet", []), catalog.write(wake)]
        tasks = [asyncio.create_task(write) for write in writes]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert woken == [True]
    await catalog.close()


async def test_a_caller_that_was_cancelled_stops_no_other(catalog: Catalog) -> None:
    async with Held(catalog):
        left = asyncio.create_task(catalog.write(note, "left", []))
        stays = asyncio.create_task(catalog.write(note, "stays", []))
        await asyncio.sleep(0)
        left.cancel()
    assert await stays == "stays"
    assert await catalog.read(facts.read, "left") == "noted"
    await catalog.close()


async def test_a_caller_that_was_cancelled_wakes_the_worker_all_the_same(
    catalog: Catalog,
) -> None:
    woken = asyncio.Event()
    catalog.on_commit.append(woken.set)

    def wake(tx: Tx) -> None:
        tx.wakes = True

    async with Held(catalog):
        left = asyncio.create_task(catalog.write(wake))
        await asyncio.sleep(0)
        left.cancel()
    async with asyncio.timeout(20):
        await woken.wait()
    await catalog.close()


async def test_a_fault_that_no_future_takes_keeps_nobody_waiting(catalog: Catalog) -> None:
    woken: list[bool] = []
    catalog.on_commit.append(lambda: woken.append(True))

    def find_none(tx: Tx) -> str:
        return next(iter(()))

    def wake(tx: Tx) -> str:
        tx.wakes = True
        return "woke"

    async with Held(catalog):
        falls = asyncio.create_task(catalog.write(find_none))
        after = asyncio.create_task(catalog.write(wake))
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await falls
        assert await after == "woke"
    assert woken == [True]
    await catalog.close()


async def test_who_writes_when_no_thread_is_to_be_had_is_told_and_the_next_is_served(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    fresh = Catalog(str(catalog.url))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="start new thread"):
            await fresh.write(note, "never", [])
    async with asyncio.timeout(20):
        assert await fresh.write(note, "served", []) == "served"
    assert await fresh.read(facts.read, "never") is None
    await fresh.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after shutdown"):
            await fresh.write(note, "too late", [])
    await catalog.close()
