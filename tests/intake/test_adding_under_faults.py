"""An upload and a catalog that goes away: before the bytes are recorded, meanwhile, and after."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reading.stage import until
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import database
from soundkeep.catalog.tracks import Query
from soundkeep.errors import CatalogUnavailable
from soundkeep.intake import recording as recordings
from soundkeep.intake.recording import NewTrack, Recorded, record
from soundkeep.model import Blob
from soundkeep.settings import Settings
from soundkeep.settings.house import PolicySettings, WorkerSettings
from soundkeep.stores.interface import Key, Receipt, Source
from soundkeep.stores.local import LocalStore
from soundkeep.worker import Worker
from sounds import wav

SOUND = wav(300_000, seed=5)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    settings = Settings(
        data=tmp_path,
        policy=PolicySettings(ack_seconds=1),
        worker=WorkerSettings(lease_seconds=1, poll_seconds=0.2),
    )
    async with build.opened(settings) as house:
        yield house


class Lock:
    """Another program's hand on the catalog. One that is never let go ends with the test."""

    def __init__(self, catalog: Path) -> None:
        self._connection = sqlite3.connect(
            catalog, timeout=30, isolation_level=None, check_same_thread=False
        )

    def take(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def lock(house: House, tmp_path: Path) -> Iterator[Lock]:
    lock = Lock(tmp_path / "catalog.db")
    yield lock
    lock.close()


async def body() -> AsyncIterator[bytes]:
    yield SOUND


def landed(house: House) -> list[Path]:
    return list((house.keep.settings.inbox_directory / "uploads").iterdir())


async def heard(house: House, blob: Blob) -> bytes:
    return b"".join([piece async for piece in house.keep.open(blob)])


async def tracks(house: House) -> list[Any]:
    return [view.track for view in (await house.keep.list(Query())).views]


@contextmanager
def waiting_only(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """A catalog that is locked is waited for only so long."""
    with monkeypatch.context() as patched:
        patched.setattr(database, "BUSY_SECONDS", seconds)
        yield


async def test_a_caller_that_goes_away_while_its_upload_is_recorded_leaves_it_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, may_go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any, **options: Any) -> Recorded:
        recording.set()
        assert may_go_on.wait(30)
        return record(*arguments, **options)

    monkeypatch.setattr(recordings, "record", slowly)
    adding = asyncio.create_task(house.keep.add(body(), NewTrack()))
    await until(recording.is_set)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    may_go_on.set()
    await house.keep.catalog.write(lambda tx: None)  # the one writer comes to it after the record
    [track] = await tracks(house)
    assert await heard(house, track.blob) == SOUND


async def test_an_upload_that_cannot_be_recorded_leaves_nothing(
    house: House, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.take()
    with waiting_only(monkeypatch, 0.2), pytest.raises(CatalogUnavailable):
        await house.keep.add(body(), NewTrack())
    assert landed(house) == []
    lock.let_go()
    assert await tracks(house) == []


async def test_an_upload_whose_commit_was_done_but_answered_with_an_error_is_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = house.keep.catalog.write

    async def losing_the_answer(action: Callable[..., Any], *rest: Any, **options: Any) -> Any:
        await write(action, *rest, **options)
        raise CatalogUnavailable("the connection broke under the commit")

    with monkeypatch.context() as patched:
        patched.setattr(house.keep.catalog, "write", losing_the_answer)
        with pytest.raises(CatalogUnavailable):
            await house.keep.add(body(), NewTrack(path="a.wav"))
    [track] = await tracks(house)
    assert await heard(house, track.blob) == SOUND
    again = await house.keep.add(body(), NewTrack(path="a.wav"))
    assert (again.created, again.track.id) == (False, track.id)


async def test_an_upload_whose_copies_cannot_be_noted_is_kept_and_says_how(
    house: House, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog goes away between the record and the first copy's proof."""
    with waiting_only(monkeypatch, 0.2), monkeypatch.context() as patched:
        patched.setattr(LocalStore, "put", locking_first(lock, LocalStore.put))
        added = await house.keep.add(body(), NewTrack())
        view = await house.keep.track(added.track.id)
        assert (view.temporary, view.ack.have) == (True, 0)
        assert await heard(house, added.track.blob) == SOUND
    lock.let_go()

    worker = Worker(house)
    worker.start()
    try:
        async with asyncio.timeout(30):
            while not (await house.keep.check()).passed:
                await asyncio.sleep(0.05)
    finally:
        await worker.stop(within_seconds=5)
    assert await heard(house, added.track.blob) == SOUND


def locking_first(lock: Lock, put: Callable[..., Any]) -> Callable[..., Any]:
    async def locked_put(store: LocalStore, key: Key, source: Source) -> Receipt:
        lock.take()
        receipt: Receipt = await put(store, key, source)
        return receipt

    return locked_put
