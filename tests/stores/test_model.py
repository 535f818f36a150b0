"""Stores against an independent oracle: a dictionary, under any order of calls."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import NotFound, Truncated
from soundkeep.stores.database import DatabaseStore
from soundkeep.stores.interface import Key, Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing import BytesSource
from soundkeep.testing.expecting import fails_with, read

T = TypeVar("T")

# No name is also a directory of another: no file system holds both.
NAMES = ("a", "a-", "a.b", "b/c", "b/d/e", "b0", "c d", "%", "_", "é", "e\u0301", "🎧/x", ".x/y")
names = st.sampled_from(NAMES)
sizes = st.sampled_from((0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1))
offsets = st.integers(0, CHUNK_BYTES + 3)
beginnings = st.sampled_from(("", "a", "b", "b/", "b/d", "e", "z", ".", ".x/", "%"))


class StoreMachine(RuleBasedStateMachine):
    """Every answer of the store is compared with what the dictionary says."""

    make: Any

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="store-")
        self.runner = asyncio.Runner()
        self.store: Store = type(self).make(Path(self.directory.name))
        self.oracle: dict[str, bytes] = {}
        self.run(self.store.write_marker("model"))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.store.close())
            self.runner.close()
            self.directory.cleanup()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @rule(name=names, size=sizes, letter=st.binary(min_size=1, max_size=3))
    def put(self, name: str, size: int, letter: bytes) -> None:
        data = (letter * size)[:size]
        receipt = self.run(self.store.put(Key(name), BytesSource(data)))
        assert receipt.locator == name
        self.oracle[name] = data

    @rule(name=names, announced=sizes)
    def put_a_lie(self, name: str, announced: int) -> None:
        lie = BytesSource(b"x" * 500, announced_bytes=announced)
        self.run(fails_with(Exception, self.store.put(Key(name), lie)))

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.run(self.store.delete(name))
        self.oracle.pop(name, None)

    @rule(name=names)
    def stat(self, name: str) -> None:
        found = self.run(self.store.stat(name))
        assert (found and found.size_bytes) == (
            len(self.oracle[name]) if name in self.oracle else None
        )

    @rule(name=names, start=offsets, stop=st.none() | offsets)
    def open(self, name: str, start: int, stop: int | None) -> None:
        body = read(self.store, name, start, stop)
        if name not in self.oracle:
            self.run(fails_with(NotFound, body))
            return
        data = self.oracle[name]
        if 0 <= start <= (len(data) if stop is None else stop) <= len(data):
            assert self.run(body) == data[start:stop]
        else:
            self.run(fails_with(Truncated, body))

    @rule(prefix=beginnings, after=st.none() | names | beginnings)
    def list_some(self, prefix: str, after: str | None) -> None:
        wanted = [name for name in self.oracle if name.startswith(prefix) and name > (after or "")]
        assert self.listed(prefix, after) == sorted(wanted, key=str.encode)

    @rule()
    def list_all(self) -> None:
        assert self.listed("", None) == sorted(self.oracle, key=str.encode)

    @invariant()
    def the_marker_stays(self) -> None:
        if hasattr(self, "store"):
            assert self.run(self.store.read_marker()) == "model"

    def listed(self, prefix: str, after: str | None) -> list[str]:
        async def collect() -> list[str]:
            return [stat.locator async for stat in self.store.list(prefix, after)]

        return self.run(collect())


class OnMemory(StoreMachine):
    make = staticmethod(lambda path: MemoryStore("memory"))


class OnLocal(StoreMachine):
    make = staticmethod(lambda path: LocalStore("local", path / "local"))


class OnSQLite(StoreMachine):
    make = staticmethod(lambda path: DatabaseStore("sqlite", f"sqlite:///{path / 's.db'}"))


@pytest.mark.parametrize("machine", [OnMemory, OnLocal, OnSQLite])
def test_a_store_answers_as_the_oracle_does(machine: type[StoreMachine]) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=12,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    case("runTest").debug()
