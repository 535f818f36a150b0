"""Adopting from every kind of store that can be full already: what lies there is only read.

`test_adopting.py` has the rules, on a directory; here the same story is told of servers. IPFS and
S3 have theirs in `acceptance/test_what_is_there_is_adopted.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from servers.far_kinds import far_kind
from soundkeep import build
from soundkeep.build import ground
from soundkeep.build.house import House
from soundkeep.catalog import tracks
from soundkeep.copies.placement import Layout
from soundkeep.intake.adopting import Adopted, Adoption
from soundkeep.model import Track
from soundkeep.settings import Settings
from soundkeep.stores.database import DatabaseStore
from soundkeep.stores.interface import Bytes, Key, Stat, Store
from soundkeep.stores.kinds import make_store
from soundkeep.stores.wrappers import Wrapped
from soundkeep.testing.expecting import read
from soundkeep.testing.sources import BytesSource
from soundkeep.worker import settled
from sounds import wav

R = TypeVar("R")
BESIDE = "metadata/{track_id}.json"
ONE, TWO = wav(300_000, seed=1), wav(300_000, seed=2)
ABOUT_ONE: dict[str, Any] = {"z": [1, {"ü": None}], "title": "The song", "a": 0.5}
ABOUT_TWO: dict[str, Any] = {"mood": "calm"}
SOUNDS = {"audio/one.wav": ONE, "audio/two.wav": TWO, "audio/again.wav": ONE}
OBJECTS = {
    **SOUNDS,
    "audio/notes.wav": b"no sound at all",
    "metadata/one.json": json.dumps(ABOUT_ONE).encode(),
    "metadata/two.json": json.dumps(ABOUT_TWO).encode(),
    "elsewhere/three.wav": wav(50_000, seed=3),
}
KINDS = ("supabase", "turso", "azure", "google", "PostgreSQL")


@dataclass(frozen=True)
class Full:
    """A store that another program filled, its settings, and a way in that nobody watches."""

    table: dict[str, Any]
    direct: Callable[[], Store]
    unmark: Callable[[], Awaitable[None]]  # nobody's catalog has it yet

    @asynccontextmanager
    async def by_hand(self) -> AsyncIterator[Store]:
        store = self.direct()
        try:
            yield store
        finally:
            await store.close()

    async def fill(self) -> None:
        async with self.by_hand() as store:
            await self.unmark()
            for key, content in OBJECTS.items():
                await store.put(Key(key), BytesSource(content))

    async def holds(self) -> dict[str, tuple[Stat | None, bytes]]:
        """All there is, with the store's own word on when and how each was written."""
        async with self.by_hand() as store:
            keys = [stat.locator async for stat in store.list()]
            return {key: (await store.stat(key), await read(store, key)) for key in keys}


@pytest.fixture(params=KINDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Full]:
    if request.param == "PostgreSQL":
        yield in_postgres(request.getfixturevalue("postgres_url"))
        return
    with far_kind(request.param, request, tmp_path) as far:
        yield Full(far.table, far.direct, far.unmark)


def in_postgres(url: str) -> Full:
    async def unmark() -> None:
        store = DatabaseStore("full", url)
        await store.write_marker("any")  # which makes the tables
        await store.close()
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database:
            database.execute("DELETE FROM soundkeep_store.marker")

    return Full({"kind": "database", "url": url}, lambda: DatabaseStore("full", url), unmark)


@dataclass
class Watch(Wrapped):
    """A store of which is known what was asked."""

    inner: Store
    asked: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        self.opened.append(locator)
        return super().open(locator, start, stop)

    async def _call(self, verb: str, call: Callable[[], Awaitable[R]]) -> R:
        self.asked.append(verb)
        return await call()

    @property
    def changes(self) -> list[str]:
        return [verb for verb in self.asked if verb in ("put", "delete", "write_marker")]


@asynccontextmanager
async def watched(
    full: Full, data: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[House, Watch]]:
    """A house that keeps in `base` and knows the full store."""
    watch: list[Watch] = []

    def made(name: str, *given: Any, **more: Any) -> Store:
        store = make_store(name, *given, **more)
        if name != "full":
            return store
        watch.append(Watch(store))
        return watch[-1]

    monkeypatch.setattr(ground, "make_store", made)
    layout = {"key": "audio/{track_id}.wav", "sidecar_key": BESIDE, "sidecars": False}
    settings = Settings(
        data=data,
        stores={"base": {"kind": "local", "path": "base"}, "full": full.table | layout},
        policy={"keep": ("base",), "ack_copies": 1},
        inbox={"linger_seconds": 0},
    )
    async with build.opened(settings) as house:
        yield house, watch[0]


async def adopted(house: House) -> Adopted:
    sidecars = Layout.parse_sidecars(BESIDE, public=False)
    return await house.adopter.run(Adoption("full", "audio/", sidecars=sidecars))


async def track(house: House, key: str) -> Track:
    found = await house.keep.catalog.read(tracks.find, Path(key).stem)
    assert found is not None
    return found


async def heard(house: House, key: str) -> bytes:
    blob = (await track(house, key)).blob
    return b"".join([piece async for piece in house.keep.open(blob)])


async def test_what_lies_in_a_store_is_read_once_and_plays_from_there_untouched(
    full: Full, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await full.fill()
    before = await full.holds()
    assert {key: content for key, (_, content) in before.items()} == OBJECTS

    data = tmp_path / "data"
    async with watched(full, data, monkeypatch) as (house, watch):
        watch.asked.clear()
        first = await adopted(house)
        assert (first.adopted, first.there, first.left_count) == (3, 0, 1)
        assert first.left[0].key == "audio/notes.wav"
        sounds = [key for key in watch.opened if key.endswith(".wav")]
        assert sorted(sounds) == sorted([*SOUNDS, "audio/notes.wav"]), "each is read once"

        assert await settled(house, 60)
        assert (await house.keep.check()).passed
        kept = [file.read_bytes() for file in (data / "base" / "blobs").iterdir()]
        assert sorted(kept) == sorted([ONE, TWO]), "the same bytes are one sound"

        one, two = await track(house, "audio/one.wav"), await track(house, "audio/two.wav")
        assert (list(one.metadata.items()), one.title) == (list(ABOUT_ONE.items()), "The song")
        assert (two.metadata, two.own_keys) == (ABOUT_TWO, {"full": "audio/two.wav"})
        assert (await track(house, "audio/again.wav")).metadata == {}

        shutil.rmtree(data / "base" / "blobs")
        for key, sound in SOUNDS.items():
            assert await heard(house, key) == sound, "the store it was found in plays it"

        again = await adopted(house)
        assert (again.adopted, again.there, again.left_count) == (0, 3, 1)
        assert watch.changes == []
    assert await full.holds() == before
