"""What a bucket of Google's or Azure's owes: on Azurite, and on a server with Google's XML dialect.

Google's own server runs nowhere but at Google. obstore speaks its XML API, which is that of S3 but
for the authorisation; so SeaweedFS answers here, behind a door. With `SOUNDKEEP_TEST_GCS_BUCKET`
and `SOUNDKEEP_TEST_GCS_KEY` (a file) the contract also runs at Google.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tracemalloc
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import TypeAdapter

from servers.azurite import ACCOUNT, ACCOUNT_KEY, Azurite, running_azurite
from servers.fault_proxy import fault_proxy, silence, stall, truncate
from servers.google import google_door
from servers.s3_plain import sent
from servers.seaweed import SeaweedFS, running_seaweed
from servers.serving import served
from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Retryable,
    SettingsError,
    StoreError,
    Throttled,
    TimedOut,
    Truncated,
    Unavailable,
)
from soundkeep.settings.stores import StoreSettings
from soundkeep.stores.cloud import CloudStore
from soundkeep.stores.interface import MARKER_KEY, Bytes, Key, Store
from soundkeep.stores.kinds import make_store
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import StoreContract
from soundkeep.testing.expecting import fails_with, listed, read
from soundkeep.testing.sources import BreakingSource, WaitingSource

MIB = 1024 * 1024
DEAD = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with running_azurite() as server:
        yield server


@pytest.fixture(scope="module")
def open_seaweed() -> Iterator[SeaweedFS]:
    with running_seaweed(is_open=True) as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_AZURE_KEY", ACCOUNT_KEY)
    monkeypatch.setenv("T_WRONG_KEY", "d3Jvbmc=")


@pytest.fixture(scope="module")
def in_azure(azurite: Azurite) -> dict[str, Any]:
    at = {"service": "azure", "account": ACCOUNT, "account_key": "env:T_AZURE_KEY"}
    at["endpoint"] = azurite.endpoint
    return {"bucket": azurite.new_container(), "at": at}


@pytest.fixture(scope="module")
def in_google(open_seaweed: SeaweedFS) -> Iterator[dict[str, Any]]:
    with google_door(open_seaweed.bucket) as url:
        at = {"service": "gcs", "endpoint": url, "anonymous": True}
        yield {"bucket": open_seaweed.bucket.name, "at": at}


@pytest.fixture(params=["azure", "google"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    table: dict[str, Any] = request.getfixturevalue(f"in_{request.param}")
    return table | {"prefix": f"test-{uuid.uuid4().hex}"}


def store_of(table: dict[str, Any], **settings: Any) -> Store:
    whole = {"kind": "cloud", **table, **settings}
    parsed: StoreSettings = TypeAdapter(StoreSettings).validate_python(whole)
    return make_store("cloud", parsed, data=Path("/nowhere"), catalog_url="sqlite:///c.db")


@asynccontextmanager
async def opened(table: dict[str, Any], **settings: Any) -> AsyncIterator[CloudStore]:
    store = store_of(table, **settings)
    assert isinstance(store, CloudStore)
    try:
        yield store
    finally:
        await store.close()


class InTheCloud(StoreContract):
    @pytest.fixture
    async def store(self, own: dict[str, Any]) -> AsyncIterator[Store]:
        async with opened(own, max_bytes=500 * MIB) as store:
            await store.write_marker("id-1")
            yield store


class TestAzure(InTheCloud):
    prefix = f"contract-{uuid.uuid4().hex}/"

    @pytest.fixture
    def own(self, in_azure: dict[str, Any]) -> dict[str, Any]:
        return in_azure


class TestGoogle(InTheCloud):
    prefix = f"contract-{uuid.uuid4().hex}/"

    @pytest.fixture
    def own(self, in_google: dict[str, Any]) -> dict[str, Any]:
        return in_google


if "SOUNDKEEP_TEST_GCS_BUCKET" in os.environ:

    class TestGoogleItself(InTheCloud):
        prefix = f"contract-{uuid.uuid4().hex}/"

        @pytest.fixture
        def own(self) -> dict[str, Any]:
            key = f"file:{os.environ['SOUNDKEEP_TEST_GCS_KEY']}"
            at = {"service": "gcs", "service_account": key}
            return {"bucket": os.environ["SOUNDKEEP_TEST_GCS_BUCKET"], "at": at}


# --- how large an object is -----------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [8 * MIB, 8 * MIB + 1, 16 * MIB, 16 * MIB + 1])
async def test_an_object_is_whole_at_every_edge_of_one_put_and_of_parts(
    place: dict[str, Any], size_bytes: int
) -> None:
    data = os.urandom(1000) * (size_bytes // 1000 + 1)
    async with opened(place) as store:
        await store.put(Key("edge"), BytesSource(data[:size_bytes]))
        assert await read(store, "edge") == data[:size_bytes]


async def test_a_marker_of_any_size_is_not_held_whole(place: dict[str, Any]) -> None:
    """Whoever can write to the bucket could else fill our memory every few seconds."""
    async with opened(place) as store:
        note = b'{"id": "id-1", "and": "' + bytes(b"x" * 20 * MIB) + b'"}'
        await store.put(Key(MARKER_KEY), BytesSource(note))
        tracemalloc.start()
        await fails_with(Corrupt, store.read_marker())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * MIB
        await store.write_marker("id-1")
        assert await store.read_marker() == "id-1"


async def test_a_long_stream_is_never_held_whole(in_azure: dict[str, Any]) -> None:
    class Streamed(BytesSource):
        async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
            for _ in range(1000):
                yield self.data

        @property
        def size_bytes(self) -> int:
            return 1000 * len(self.data)

    async with opened(in_azure) as store:
        tracemalloc.start()
        await store.put(Key("long"), Streamed(bytes(100_000)))
        count = 0
        async for piece in store.open("long"):
            count += len(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await store.delete("long")
    assert count == 100_000_000
    assert peak < 16 * MIB


async def test_parts_of_a_put_that_failed_or_was_cancelled_are_thrown_away(
    in_google: dict[str, Any], open_seaweed: SeaweedFS
) -> None:
    prefix = f"parts-{uuid.uuid4().hex}"
    data = bytes(30 * MIB)
    async with opened(in_google, prefix=prefix) as store:
        await fails_with(ConnectionResetError, store.put(Key("broken"), BreakingSource(data)))
        source = WaitingSource(data)
        putting = asyncio.create_task(store.put(Key("cancelled"), source))
        await source.half_given.wait()
        putting.cancel()
        await fails_with(asyncio.CancelledError, putting)
        assert await listed(store) == []
    answer = open_seaweed.bucket.ask("GET", query=f"prefix={prefix}&uploads=")
    assert answer.status == 200
    assert b"<Key>" not in answer.body


# --- what others see ------------------------------------------------------------------------


async def test_an_object_has_its_type_and_how_long_caches_may_keep_it(
    place: dict[str, Any], in_azure: dict[str, Any], open_seaweed: SeaweedFS
) -> None:
    async with opened(place) as store:
        for name, size in (("small", 2), ("large", 9 * MIB)):
            source = BytesSource(bytes(size), "audio/flac", cache_seconds=3600)
            await store.put(Key(name), source)
            url = await store.sign(name, timedelta(minutes=1))
            if url is None:
                url = f"{open_seaweed.endpoint}/{place['bucket']}/{place['prefix']}/{name}"
            answer = await asyncio.to_thread(sent, urllib.request.Request(url))
            assert answer.body == bytes(size)
            assert answer.headers["content-type"] == "audio/flac"
            assert answer.headers["cache-control"] == "public, max-age=3600"


async def test_a_signed_url_plays_without_a_key_and_only_as_it_was_signed(
    in_azure: dict[str, Any],
) -> None:
    key = Key("signed/a+b&c=d.mp3")
    async with opened(in_azure) as store:
        await store.put(key, BytesSource(b"signed"))
        assert await store.sign("signed/é.mp3", timedelta(minutes=5)) is None
        url = await store.sign(str(key), timedelta(minutes=5))
        assert url is not None
        plain = urllib.request.Request(url)
        assert (await asyncio.to_thread(sent, plain)).body == b"signed"
        other = urllib.request.Request(url.replace("sp=r", "sp=rw"))
        assert (await asyncio.to_thread(sent, other)).status == 403


async def test_stores_with_prefixes_share_a_bucket_and_see_nothing_of_each_other(
    place: dict[str, Any],
) -> None:
    one, two = (place | {"prefix": f"{place['prefix']}/{name}"} for name in ("a", "ab"))
    async with opened(one) as a, opened(two) as b:
        await a.write_marker("id-a")
        assert await b.read_marker() is None
        await a.put(Key("x"), BytesSource(b"of a"))
        await b.put(Key("y"), BytesSource(b"of b"))
        assert (await listed(a), await listed(b)) == (["x"], ["y"])
        assert await a.read_marker() == "id-a"


# --- what goes wrong ------------------------------------------------------------------------


async def test_a_missing_bucket_is_never_an_empty_one(place: dict[str, Any]) -> None:
    """obstore has one error for both."""
    async with opened(place | {"bucket": "no-such-bucket"}) as store:
        for call in (
            store.probe,
            lambda: store.stat("x"),
            lambda: read(store, "x"),
            store.read_marker,
            lambda: store.put(Key("x"), BytesSource(b"x")),
            lambda: listed(store),
        ):
            await fails_with(Misconfigured, call())


async def test_a_wrong_key_is_refused_and_never_told(in_azure: dict[str, Any]) -> None:
    wrong = in_azure["at"] | {"account_key": "env:T_WRONG_KEY"}
    async with opened(in_azure | {"at": wrong}) as store:
        for call in (
            store.probe,
            lambda: store.stat("x"),
            lambda: read(store, "x"),
            lambda: store.delete("x"),
            lambda: store.put(Key("x"), BytesSource(b"x")),
        ):
            with pytest.raises(PermissionDenied) as told:
                await call()
            assert "d3Jvbmc=" not in str(told.value)
            assert len(str(told.value)) < 200


STATUSES: dict[str, tuple[int, str, type[StoreError]]] = {
    "denied": (403, "AccessDenied", PermissionDenied),
    "token expired": (401, "AuthenticationRequired", PermissionDenied),
    "too many requests": (429, "SlowDown", Throttled),
    "busy": (503, "ServerBusy", Throttled),
    "server error": (500, "InternalError", Unavailable),
    "bad gateway": (502, "", Unavailable),
    "gave up": (408, "RequestTimeout", TimedOut),
    "no room": (507, "", QuotaExceeded),
    "over quota": (403, "QuotaExceeded", StoreError),
}


@pytest.mark.parametrize("name", STATUSES)
async def test_every_refusal_is_an_error_of_its_kind(name: str) -> None:
    status, code, error = STATUSES[name]

    async def refuse(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")

    with served(refuse) as url:
        at = {"service": "gcs", "endpoint": url, "anonymous": True}
        async with opened({"bucket": "any", "at": at}) as store:
            for call in (
                store.probe,
                lambda: store.put(Key("x"), BytesSource(b"x")),
                lambda: read(store, "x"),
                lambda: listed(store),
            ):
                await fails_with(error, call())


async def test_a_server_that_is_gone_or_silent_is_no_absence(in_azure: dict[str, Any]) -> None:
    gone = in_azure | {"at": in_azure["at"] | {"endpoint": f"{DEAD}/{ACCOUNT}"}}
    async with opened(gone) as store:
        await fails_with(Unavailable, store.stat("x"))
        await fails_with(Unavailable, store.delete("x"))
    with fault_proxy(port_of(in_azure)) as proxy:
        proxy.suffers(silence())
        async with opened(through(in_azure, proxy.url), timeout_seconds=0.5) as store:
            await fails_with(TimedOut, store.stat("x"))
            await fails_with(TimedOut, store.put(Key("x"), BytesSource(b"x")))


@pytest.mark.parametrize("fault", [truncate(300_000), stall(300_000)])
async def test_a_body_that_breaks_is_an_error_and_never_short(
    in_azure: dict[str, Any], fault: Any
) -> None:
    data = os.urandom(MIB)
    with fault_proxy(port_of(in_azure)) as proxy:
        async with opened(through(in_azure, proxy.url), timeout_seconds=1) as store:
            await store.put(Key("whole"), BytesSource(data))
            proxy.suffers(fault)
            with pytest.raises(Retryable):
                await read(store, "whole")
            proxy.heals()
            assert await read(store, "whole") == data


def port_of(table: dict[str, Any]) -> int:
    return int(table["at"]["endpoint"].split(":")[2].partition("/")[0])


def through(table: dict[str, Any], url: str) -> dict[str, Any]:
    return table | {"at": table["at"] | {"endpoint": f"{url}/{ACCOUNT}"}}


async def test_a_range_beyond_the_end_is_no_short_answer(place: dict[str, Any]) -> None:
    async with opened(place) as store:
        await store.put(Key("ten"), BytesSource(b"0123456789"))
        for start, stop in ((5, 11), (10, 11), (11, None)):
            await fails_with(Truncated, read(store, "ten", start, stop))
        await fails_with(NotFound, read(store, "none", 0, 5))


# --- settings -------------------------------------------------------------------------------


def test_a_credential_of_no_known_form_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("T_GCS", "no JSON but a secret")
    at = {"service": "gcs", "service_account": "env:T_GCS"}
    with pytest.raises(SettingsError) as told:
        store_of({"bucket": "any", "at": at})
    assert "secret" not in str(told.value)


def test_without_the_extra_the_store_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(Misconfigured, match=r"soundkeep\[cloud\]"):
        store_of({"bucket": "any", "at": {"service": "gcs"}})
