"""A guarded store changes nothing and admits no absence unless it is the one that is meant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from soundkeep.errors import Misconfigured, NotFound, Unavailable
from soundkeep.stores.guarded import Guarded
from soundkeep.stores.interface import Key
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing import BytesSource, Fault, FaultyStore
from soundkeep.testing.expecting import fails_with, listed, read

Call = Callable[[Guarded], Awaitable[object]]

CHANGES: dict[str, Call] = {
    "put": lambda store: store.put(Key("y"), BytesSource(b"y")),
    "delete": lambda store: store.delete("x"),
}
ABSENCES: dict[str, Call] = {
    "stat": lambda store: store.stat("nothing"),
    "open": lambda store: read(store, "nothing"),
    "list": listed,
}


@pytest.fixture
async def inner() -> FaultyStore:
    store = FaultyStore(MemoryStore("disk"))
    await store.write_marker("ours")
    await store.put(Key("x"), BytesSource(b"x"))
    return store


def guarded(inner: FaultyStore, store_id: str | None = "ours") -> Guarded:
    async def expected_id() -> str | None:
        return store_id

    return Guarded(inner, expected_id)


async def test_the_right_store_does_what_is_asked(inner: FaultyStore) -> None:
    store = guarded(inner)
    await store.put(Key("y"), BytesSource(b"y"))
    await store.delete("x")
    assert await listed(store) == ["y"]
    assert await store.stat("x") is None
    await fails_with(NotFound, read(store, "x"))


@pytest.mark.parametrize("call", [*CHANGES, *ABSENCES])
@pytest.mark.parametrize("marker", [None, "another"])
async def test_an_empty_store_and_another_one_are_misconfigured(
    inner: FaultyStore, call: str, marker: str | None
) -> None:
    inner.inner._marker = marker  # type: ignore[attr-defined] # what a swapped disk would say
    await fails_with(Misconfigured, (CHANGES | ABSENCES)[call](guarded(inner)))
    assert await listed(inner) == ["x"]


@pytest.mark.parametrize("call", [*CHANGES, *ABSENCES])
async def test_a_store_that_was_never_admitted_is_misconfigured(
    inner: FaultyStore, call: str
) -> None:
    await fails_with(Misconfigured, (CHANGES | ABSENCES)[call](guarded(inner, None)))
    assert await listed(inner) == ["x"]


@pytest.mark.parametrize("call", [*CHANGES, *ABSENCES])
async def test_a_marker_that_cannot_be_asked_for_proves_nothing(
    inner: FaultyStore, call: str
) -> None:
    inner.break_with(Fault.unavailable(), verbs={"read_marker"})
    await fails_with(Unavailable, (CHANGES | ABSENCES)[call](guarded(inner)))
    assert await listed(inner) == ["x"]


async def test_what_is_there_is_read_without_asking_who_it_is(inner: FaultyStore) -> None:
    store = guarded(inner)
    inner.calls.clear()
    assert await read(store, "x") == b"x"
    assert await store.stat("x")
    assert inner.calls == ["open", "stat"]
