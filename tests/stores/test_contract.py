"""Every kind of store, and every wrapper around one, keeps the whole contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from soundkeep.stores.database import DatabaseStore
from soundkeep.stores.guarded import Guarded
from soundkeep.stores.interface import Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.wrappers import Bounded, Limited
from soundkeep.testing import Fault, FaultyStore, StoreContract
from stores.shared import STORE_ID, marked

WRAPPINGS = ("limited", "limited to two", "bounded", "guarded", "all")


class TestMemory(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with marked(MemoryStore("memory", max_bytes=50_000_000)) as store:
            yield store


class TestLocal(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        path = tmp_path / "not" / "there" / "yet"
        async with marked(LocalStore("local", path, max_bytes=50_000_000)) as store:
            yield store


class TestDatabase(StoreContract):
    """On SQLite and on PostgreSQL."""

    @pytest.fixture
    async def store(self, database_url: str) -> AsyncIterator[Store]:
        async with marked(DatabaseStore("database", database_url, max_bytes=50_000_000)) as store:
            yield store


class TestWrapped(StoreContract):
    """Each wrapper alone, and all of them as they are used."""

    @pytest.fixture(params=WRAPPINGS)
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
        inner = LocalStore("disk", tmp_path) if request.param == "all" else MemoryStore("memory")
        async with marked(wrapped(request.param, inner)) as store:
            yield store


class TestHealed(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = FaultyStore(MemoryStore("memory"))
        await store.write_marker(STORE_ID)
        store.break_with(Fault.unavailable())
        store.heal()
        yield store
        await store.close()


def wrapped(how: str, store: Store) -> Store:
    return {
        "limited": lambda: Limited(store, 4),
        "limited to two": lambda: Limited(store, 2),
        "bounded": lambda: Bounded(store, 30),
        "guarded": lambda: Guarded(store, expected_id),
        "all": lambda: Limited(Guarded(Bounded(store, 30), expected_id), 4),
    }[how]()


async def expected_id() -> str:
    return STORE_ID
