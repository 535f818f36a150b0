"""Sidecars that somebody wrote to do harm are left with the reason; all others are taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ledgers
from copies.lost import ASKED, KEY, TRACK, Lost, a_house, about_to_be_lost, keep, written
from reading.stage import noise
from soundkeep.catalog import tracks
from soundkeep.copies import taking
from soundkeep.digest import Digest
from soundkeep.speech.keys import canonical
from soundkeep.stores.interface import MARKER_KEY, Key
from soundkeep.testing.sources import BytesSource

HUGE = 10**30


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    async with about_to_be_lost(tmp_path) as lost:
        yield lost


async def two(lost: Lost) -> None:
    for number in (1, 2):
        await keep(lost, noise(100, number), "disk", name=f"t{number}")
    await written(lost)


async def left_of_two(lost: Lost) -> str:
    """Why the second of two tracks was left; the first one never is."""
    tally = await lost.run("disk")
    assert await lost.empty.read(tracks.find, "t1") is not None
    assert await lost.empty.read(tracks.find, "t2") is None
    [left] = tally.left
    assert left.key == "tracks/t2.json"
    return left.why


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        ({"tags": {"artist": "a\x00b"}}, "NUL"),
        ({"tags": {"artist": "\ud800"}}, "Unicode"),
        ({"codec": "a\x00"}, "NUL"),
        ({"asked": {"\x00": "pushed"}}, "NUL"),
        ({"revision": HUGE}, "revision"),
        ({"bit_rate": HUGE}, "bit_rate"),
        ({"channels": -1}, "channels"),
        ({"size_bytes": 99}, "100 bytes"),
        ({"duration_seconds": float("nan")}, "NaN"),
        ({"duration_seconds": float("inf")}, "infinity"),
        ({"duration_seconds": -1.0}, "duration_seconds"),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, "no time"),
        ({"created_at": "9999-12-31T23:59:59-14:00"}, "no time"),
        ({"media_type": "audio/mpeg\r\nset-cookie: a=b"}, "media_type"),
        ({"media_type": "text/html"}, "media_type"),
        ({"extension": "../mp3"}, "extension"),
        ({"key": "../t1"}, "key"),
        ({"key": "/etc/passwd"}, "key"),
        ({"key": MARKER_KEY}, "key"),
        ({"key": "tracks/t1.json"}, "key"),
        ({"key": "a\x00b"}, "NUL"),
        ({"version": True, "tags": []}, "tags"),
        ({"rendition_of": {"track_id": "\x00", "format": "opus"}}, "NUL"),
    ],
    ids=str,
)
async def test_a_field_that_no_catalog_could_keep_ends_no_rebuild(
    lost: Lost, ours: dict[str, Any], why: str
) -> None:
    await two(lost)
    await lost.edit("tracks/t2.json", **ours)
    assert why in await left_of_two(lost)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"soundkeep":' * 50_000,
        '{"soundkeep": {"version": 1, "asked": ' + "[" * 500 + "]" * 500 + "}}",
        '{"soundkeep": ' + "9" * 5000 + "}",
        '{"soundkeep": []}',
        '{"soundkeep": {"version": "1"}}',
        "\ufeff{}",
        "",
    ],
    ids=range(8),
)
async def test_json_that_is_meant_to_break_its_reader_is_left(lost: Lost, text: str) -> None:
    await two(lost)
    await lost.bench.stage.stores["disk"].put(Key("tracks/t2.json"), BytesSource(text.encode()))
    assert await left_of_two(lost)


async def test_a_sidecar_that_is_too_big_is_left(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "SMALL_SIDECAR_BYTES", 10_000)
    monkeypatch.setattr(taking, "MAX_SIDECAR_BYTES", 20_000)
    await two(lost)
    await lost.edit("tracks/t2.json", title="x" * 30_000)
    assert "no sidecar" in await left_of_two(lost)


async def test_what_is_ours_alone_never_becomes_a_tracks_sound(lost: Lost) -> None:
    """Else deleting the track would delete the marker, and the store be nobody's."""
    await two(lost)
    disk = lost.bench.stage.stores["disk"]
    for key in (MARKER_KEY, "tracks/t1.json"):
        content = b"".join([piece async for piece in disk.open(key)])
        digest = Digest(hashlib.sha256(content).digest()).hex
        await lost.edit("tracks/t2.json", key=key, digest=digest, size_bytes=len(content))
        assert "key" in await left_of_two(lost)


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        ({"timing": {}}, "timing"),
        ({"timing": {"timing_source": 7}}, "timing"),
        ({"cost": float("nan")}, "NaN"),
        ({"cost": 1e300}, "cost"),
        ({"hits": HUGE}, "hits"),
        ({"characters": -1}, "characters"),
        ({"other_keys": ["\x00"]}, "NUL"),
        ({"request": "\ud800"}, "Unicode"),
        ({"currency": "\x00"}, "NUL"),
    ],
    ids=str,
)
async def test_a_segment_that_no_catalog_could_keep_ends_no_rebuild(
    lost: Lost, ours: dict[str, Any], why: str
) -> None:
    await a_house(lost)
    await lost.edit(f"segments/{KEY}.json", **ours)
    tally = await lost.run("disk")
    assert tally.taken[TRACK] == 4
    [left] = tally.left
    assert why in left.why


async def test_a_text_that_hides_a_nul_in_its_request_is_left(lost: Lost) -> None:
    await a_house(lost)
    request = canonical(replace(ASKED, text="a\x00b")).decode()
    key = hashlib.sha256(request.encode()).hexdigest()
    await lost.edit(f"segments/{KEY}.json", request=request, segment_key=key)
    [left] = (await lost.run("disk")).left
    assert "NUL" in left.why


async def test_the_same_is_so_on_postgresql(lost: Lost, postgres_url: str) -> None:
    await two(lost)
    await lost.edit("tracks/t2.json", tags={"a": "\x00"}, revision=2**31)
    async with ledgers.opened(postgres_url) as empty:
        assert await left_of_two(replace(lost, empty=empty))


async def test_metadata_that_no_client_could_have_sent_is_left(lost: Lost) -> None:
    await two(lost)
    disk = lost.bench.stage.stores["disk"]
    document = json.loads(b"".join([piece async for piece in disk.open("tracks/t2.json")]))
    for value in ("\x00", "\ud800", float("nan"), nested(40)):
        text = json.dumps({"of_theirs": value} | document)
        await disk.put(Key("tracks/t2.json"), BytesSource(text.encode()))
        assert "metadata" in await left_of_two(lost)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found
