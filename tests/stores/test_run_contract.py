"""The contract as a command: it passes on a sound store, and leaves no trace in one in use."""

from __future__ import annotations

import inspect
from pathlib import Path

from soundkeep.stores.interface import Key, Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing import BytesSource, Fault, FaultyStore, Outcome, StoreContract, run_contract
from soundkeep.testing.expecting import listed, read


async def used(store: Store) -> Store:
    await store.write_marker("in use")
    await store.put(Key("blobs/x"), BytesSource(b"somebody's"))
    return store


async def test_every_test_runs_and_is_told_as_it_ends(tmp_path: Path) -> None:
    told: list[Outcome] = []
    store = await used(LocalStore("disk", tmp_path / "audio"))
    outcomes = await run_contract(store, heard=told.append)
    assert told == outcomes
    assert [one.test for one in outcomes if one.error] == []
    assert [one.test for one in outcomes] == sorted(
        name for name, _ in inspect.getmembers(StoreContract) if name.startswith("test_")
    )
    await store.close()


async def test_a_store_in_use_is_left_as_it_was(tmp_path: Path) -> None:
    store = await used(LocalStore("disk", tmp_path / "audio"))
    await run_contract(store)
    assert await listed(store) == ["blobs/x"]
    assert await read(store, "blobs/x") == b"somebody's"
    assert await store.read_marker() == "in use"
    await store.close()
    assert sorted(path.name for path in store.path.rglob("*") if path.is_file()) == [
        "store.json",
        "x",
    ]


async def test_faults_are_outcomes_and_not_exceptions() -> None:
    store = FaultyStore(await used(MemoryStore("disk")))
    store.break_with(Fault.corrupting(at=3), verbs={"open"})
    failed = {one.sentence for one in await run_contract(store) if one.error}
    assert "every byte comes back at every size" in failed
    store.heal()
    assert await listed(store) == ["blobs/x"]


async def test_a_store_that_is_down_fails_every_test_and_says_why() -> None:
    store = FaultyStore(await used(MemoryStore("disk")))
    store.break_with(Fault.unavailable())
    outcomes = await run_contract(store)
    spared = [one.test for one in outcomes if one.error is None]
    assert spared == ["test_what_is_too_large_for_the_store_is_refused"]
