"""A process that is open is seen in the catalog, worker or not, and is gone from it at its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from soundkeep.build import opened, presence
from soundkeep.catalog import in_use
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import facts, now
from soundkeep.errors import CatalogUnavailable
from soundkeep.settings import Settings

BOUND_SECONDS = 20
INBOX = "inbox@there"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, host_name="there")


async def test_whoever_is_open_is_seen_and_whoever_ended_is_not(settings: Settings) -> None:
    async with opened(settings) as house:
        catalog = house.keep.catalog
        seconds = await catalog.read(in_use.seconds_since, INBOX)
        assert seconds is not None
        await catalog.write(in_use.note, INBOX, "there/1/gone")  # one that was killed
        async with opened(settings):
            pass
        assert await catalog.read(in_use.seconds_since, INBOX) is None, "one process, and it ended"


async def test_a_sign_is_given_again_and_again_also_after_one_that_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SAY_SECONDS", 0.01)
    note, failed = in_use.note, 0

    def fails_twice(tx: Tx, inbox: str, holder: str) -> None:
        nonlocal failed
        if failed < 2:
            failed += 1
            raise CatalogUnavailable("it is out")
        note(tx, inbox, holder)

    async with opened(settings) as house:
        catalog = house.keep.catalog
        monkeypatch.setattr(in_use, "note", fails_twice)
        await catalog.write(_age)
        async with asyncio.timeout(BOUND_SECONDS):
            while await _seconds(catalog) > 500:
                await asyncio.sleep(0.01)
        assert failed == 2


def _age(tx: Tx) -> None:
    tx.run(facts.update().values(at=now() - 1000))


async def _seconds(catalog: Catalog) -> float:
    seconds = await catalog.read(in_use.seconds_since, INBOX)
    assert seconds is not None
    return seconds
