"""Addresses that have to be signed for, and copies that nobody is sent to."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ledgers
from reading.stage import Stage, noise, opened
from soundkeep.access.keys import KeyRing
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog import tracks
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import copies as table
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import Rules
from soundkeep.errors import Unavailable
from soundkeep.model import Asked, Track
from soundkeep.reading.lookup import Lookup
from soundkeep.settings import Settings
from soundkeep.stores.interface import Store
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.faulty import Fault
from soundkeep.web.delivery import Delivery
from soundkeep.web.elsewhere import SIGNED_FOR, Elsewhere
from soundkeep.web.exchange import Message

KEY = "a-key-of-twenty-signs"
CONTENT = noise(3000)


class Signing(MemoryStore):
    """A private bucket that signs, until it cannot."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.caps = replace(self.caps, signs=True)
        self.signed = 0
        self.fault: Exception | None = None

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        if self.fault is not None:
            raise self.fault
        self.signed += 1
        return f"https://bucket.example.org/{locator}?for={expires_in.seconds}&n={self.signed}"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as stage:
        stage.stores["one"].inner = Signing("one")
        for name in stage.stores:
            known = await stage.catalog.write(store_rows.ensure, name, "test")
            await stage.stores[name].write_marker(known.store_id)
        yield stage


def bucket(stage: Stage) -> Signing:
    store = stage.stores["one"].inner
    assert isinstance(store, Signing)
    return store


def settings(stage: Stage, **of_one: Any) -> Settings:
    """`one` redirects and signs, `two` is public and does not."""
    stores: Mapping[str, Any] = {
        "one": {"kind": "memory", "delivery": "redirect", **of_one},
        "disk": {"kind": "local", "path": "disk"},
        "backup": {"kind": "database"},
        "two": {"kind": "memory", "public": True, "public_url": "https://two.example.org"},
    }
    return Settings(data=stage.folder, stores=stores, policy={"keep": ["one", "disk"]})  # type: ignore[arg-type]


def delivery(stage: Stage, **of_one: Any) -> Delivery:
    stores = dict[str, Store](stage.stores)
    lookup = Lookup(stage.catalog, sees_outages=True)
    return Delivery(lookup, stage.reader(), stores, KeyRing(KEY), settings(stage, **of_one))


async def ask(
    delivery: Delivery, track: Track, query: bytes = b"", *, key: bool = True
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of one answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    headers = [(b"authorization", f"Bearer {KEY}".encode())] if key else []
    scope = {"method": "GET", "path": f"/audio/{track.id}", "headers": headers}
    await delivery({**scope, "query_string": query}, receive, send)
    body = b"".join(bytes(message.get("body", b"")) for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


async def test_whoever_may_hear_a_private_track_is_sent_to_its_signed_url(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "disk")
    server = delivery(stage)
    first, second = await ask(server, track), await ask(server, track)
    for number, (status, headers, body) in enumerate((first, second), start=1):
        place = f"https://bucket.example.org/{stage.key(track.blob)}?for=3600&n={number}"
        assert (status, headers[b"location"], body) == (307, place.encode(), b"")
        assert headers[b"cache-control"] == b"no-store"
    assert (await ask(server, track, key=False))[0] == 404
    assert bucket(stage).signed == 2, "nothing is signed for nobody"


async def test_the_short_way_declines_what_is_sent_elsewhere(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "disk", public=True)
    url, nothing = f"/audio/{track.id}".encode(), list[tuple[bytes, bytes]]()
    streaming = delivery(stage, delivery="stream")
    for server, taken in ((delivery(stage), False), (streaming, True)):
        await ask(server, track)  # looks it up, and reads it into memory
        assert (server.begin_at_once(url, nothing, bytearray(2**20)) is not None) is taken
    assert bucket(stage).signed == 1


async def test_who_will_not_be_sent_elsewhere_gets_every_byte_here(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "disk")
    for query in (b"delivery=stream", b"a=b&delivery=stream"):
        assert (await ask(delivery(stage), track, query))[::2] == (200, CONTENT)
    assert (await ask(delivery(stage), track, b"delivery=streams"))[0] == 307


async def test_a_store_that_cannot_sign_just_now_costs_nobody_the_sound(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "disk")
    bucket(stage).fault = Unavailable("no")
    assert (await ask(delivery(stage), track))[::2] == (200, CONTENT)


@pytest.mark.parametrize("age", [0, 86_400 - 60, 86_400 + 60])
async def test_nobody_is_sent_to_a_copy_that_was_not_verified_lately(
    stage: Stage, age: int
) -> None:
    track = await stage.add(CONTENT, "one", "disk")
    row = table.update().where(table.c.store == "one")
    await stage.catalog.write(lambda tx: tx.run(row.values(verified_at=time.time() - age)))
    assert (await ask(delivery(stage), track))[0] == (307 if age < 86_400 else 200)


async def test_nobody_is_sent_to_a_store_whose_circuit_is_open(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "disk")
    await stage.catalog.write(store_rows.open_circuit, "one", Unavailable("no"), 60.0)
    assert (await ask(delivery(stage), track))[::2] == (200, CONTENT)
    await stage.catalog.write(store_rows.close_circuit, "one")
    assert (await ask(delivery(stage), track))[0] == 307


async def test_nobody_is_sent_to_a_copy_that_is_doubted_or_only_anothers(stage: Stage) -> None:
    track = await stage.add(CONTENT, "disk")
    other = ledgers.make_track("other", track.blob)
    await stage.catalog.write(ledgers.add_track, other)
    await stage.catalog.write(ledgers.add_present, track.blob, "one")

    def withdraw(tx: Tx) -> None:
        tracks.ask(tx, track, "one", Asked.WITHDRAWN)

    await stage.catalog.write(withdraw)
    assert (await ask(delivery(stage), track))[0] == 200
    assert (await ask(delivery(stage), other))[0] == 307
    bucket_key = str(stage.key(track.blob))
    assert bucket_key.encode() in (await ask(delivery(stage), other))[1][b"location"]
    row = table.update().where(table.c.store == "one")
    await stage.catalog.write(lambda tx: tx.run(row.values(state="doubted")))
    assert (await ask(delivery(stage), other))[0] == 200


async def test_a_signed_address_says_when_it_expires_and_a_public_one_never_does(
    stage: Stage,
) -> None:
    track = await stage.add(CONTENT, "one", "two", public=True)
    chosen = settings(stage)
    fronts = Fronts.of(chosen, Rules.of(chosen))
    elsewhere = Elsewhere(fronts, dict[str, Store](stage.stores), proof_age=60)
    found = await Lookup(stage.catalog).track(track.id)
    assert found is not None
    targets = list(elsewhere.targets(found.track, found.copies, frozenset()))
    assert [target.front.name for target in targets] == ["one", "two"]
    signed, public = [await elsewhere.address(target) for target in targets]
    assert signed is not None
    assert public is not None
    assert signed.expires_at == pytest.approx(time.time() + SIGNED_FOR.total_seconds(), abs=30)
    assert (public.url, public.expires_at) == (
        f"https://two.example.org/{stage.key(track.blob)}",
        None,
    )
    assert list(elsewhere.targets(found.track, found.copies, {"one", "two"})) == []


async def test_a_store_that_streams_badly_is_still_read_around_when_somebody_insists(
    stage: Stage,
) -> None:
    track = await stage.add(CONTENT, "one", "disk")
    stage.stores["one"].break_with(Fault.unavailable())
    assert (await ask(delivery(stage), track, b"delivery=stream"))[::2] == (200, CONTENT)
