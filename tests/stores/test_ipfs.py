"""What a store in IPFS owes: on a real node, a real pinning service, and Pinata as documented.

With `SOUNDKEEP_TEST_PINATA_JWT` and `SOUNDKEEP_TEST_PINATA_GATEWAY` in the environment the contract
also runs on Pinata itself, with `SOUNDKEEP_TEST_KUBO_URL` on a node of one's own.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import ClientSession, web
from pydantic import TypeAdapter, ValidationError

from servers.fake_pinata import (
    API_KEY,
    GATEWAY_TOKEN,
    HTML,
    SECRET_KEY,
    TOKEN,
    FakePinata,
    Trouble,
    fake_pinata,
)
from servers.fault_proxy import fault_proxy, reset, silence, truncate
from servers.ipfs import SERVICE_TOKEN, guarded, running_node, running_pinning_service
from servers.scripted import scripted
from servers.serving import served
from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    TooLarge,
    Truncated,
    Unavailable,
)
from soundkeep.settings.stores import StoreSettings
from soundkeep.stores.guarded import Guarded
from soundkeep.stores.http_service import PHASES
from soundkeep.stores.interface import Bytes, Key, Store
from soundkeep.stores.ipfs import IpfsStore
from soundkeep.stores.ipfs_cid import cid_of
from soundkeep.stores.ipfs_providers import PinningService
from soundkeep.stores.kinds import make_store
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import StoreContract
from soundkeep.testing.expecting import fails_with, read
from soundkeep.testing.sources import BreakingSource, WaitingSource

MIB = 1024 * 1024
DEAD = "http://127.0.0.1:1"  # nobody listens there
KEY = Key("blobs/x")


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    with running_node() as url:
        yield url


@pytest.fixture(scope="module")
def pinning_service() -> Iterator[str]:
    with running_pinning_service() as url:
        yield url


@pytest.fixture(scope="module")
def pinata_server() -> Iterator[FakePinata]:
    with fake_pinata() as server:
        yield server


@pytest.fixture
def pinata(pinata_server: FakePinata) -> FakePinata:
    """Pinata with an empty account."""
    fresh = FakePinata(pinata_server.url)
    vars(pinata_server).update(vars(fresh))
    return pinata_server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "T_JWT": TOKEN,
        "T_KEY": API_KEY,
        "T_SECRET": SECRET_KEY,
        "T_GATEWAY": GATEWAY_TOKEN,
        "T_PINNING": SERVICE_TOKEN,
        "T_EMPTY": "",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made between attempts; they take no time."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(IpfsStore, "_pause", staticmethod(pause))
    return made


def store_of(providers: list[dict[str, Any]], **settings: Any) -> IpfsStore:
    table = {"kind": "ipfs", "providers": providers, **settings}
    parsed: StoreSettings = TypeAdapter(StoreSettings).validate_python(table)
    made = make_store("web3", parsed, data=Path("/nowhere"), catalog_url="sqlite:///c.db")
    assert isinstance(made, IpfsStore)
    return made


@asynccontextmanager
async def opened(providers: list[dict[str, Any]], **settings: Any) -> AsyncIterator[IpfsStore]:
    store = store_of(providers, **settings)
    try:
        yield store
    finally:
        await store.close()


def kubo(url: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "kubo", "url": url, **fields}


def v3(server: FakePinata, **fields: Any) -> dict[str, Any]:
    urls = {"url": server.url, "upload_url": server.url, "gateway": server.url}
    return {"kind": "pinata", "token": "env:T_JWT", **urls, **fields}


def legacy(server: FakePinata, **fields: Any) -> dict[str, Any]:
    keys = {"api_key": "env:T_KEY", "secret_key": "env:T_SECRET"}
    return {"kind": "pinata_legacy", **keys, "url": server.url, "gateway": server.url, **fields}


def service(url: str) -> dict[str, Any]:
    return {"kind": "pinning", "url": url, "token": "env:T_PINNING"}


# --- the contract ---------------------------------------------------------------------------


class OnIpfs(StoreContract):
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    async def store(self, own: list[dict[str, Any]]) -> AsyncIterator[Store]:
        async with opened(own, max_bytes=500 * MIB, **self.settings) as store:
            yield store


class TestNode(OnIpfs):
    @pytest.fixture
    def own(self, node: str) -> list[dict[str, Any]]:
        return [kubo(os.environ.get("SOUNDKEEP_TEST_KUBO_URL", node))]


class TestNodeAndPinningService(OnIpfs):
    settings: ClassVar = {"pin_seconds": 0}

    @pytest.fixture
    def own(self, node: str, pinning_service: str) -> list[dict[str, Any]]:
        return [service(pinning_service), kubo(node)]


class TestPinata(OnIpfs):
    @pytest.fixture
    def own(self, pinata: FakePinata) -> list[dict[str, Any]]:
        return [v3(pinata)]


class TestPinataPrivate(OnIpfs):
    settings: ClassVar = {"network": "private"}

    @pytest.fixture
    def own(self, pinata: FakePinata) -> list[dict[str, Any]]:
        return [v3(pinata)]


class TestPinataLegacy(OnIpfs):
    @pytest.fixture
    def own(self, pinata: FakePinata) -> list[dict[str, Any]]:
        return [legacy(pinata)]


class TestPinataThatCutsOtherwise(OnIpfs):
    @pytest.fixture
    def own(self, pinata: FakePinata) -> list[dict[str, Any]]:
        pinata.cuts_otherwise = True
        pinata.gateway = "no range"
        return [v3(pinata)]


if "SOUNDKEEP_TEST_PINATA_JWT" in os.environ:

    class TestPinataItself(OnIpfs):
        @pytest.fixture(params=["pinata", "pinata_legacy"])
        def own(self, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
            gateway = os.environ["SOUNDKEEP_TEST_PINATA_GATEWAY"]
            token = "env:SOUNDKEEP_TEST_PINATA_JWT"
            return [{"kind": request.param, "token": token, "gateway": gateway}]


# --- CIDs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 17])
async def test_a_node_gives_the_cid_that_was_computed_here(node: str, size_bytes: int) -> None:
    data = os.urandom(size_bytes)
    async with opened([kubo(node)]) as store:
        receipt = await store.put(KEY, BytesSource(data))
        assert receipt.locator == str(cid_of([data]))
        assert receipt.verified == "cid"
        assert await read(store, receipt.locator) == data
        stat = await store.stat(receipt.locator)
        assert stat is not None
        assert (stat.size_bytes, stat.locator) == (size_bytes, receipt.locator)
        assert stat.sha256 == (Digest.of(data) if size_bytes <= MIB else None)


@pytest.mark.parametrize("version", ["0", "1"])
async def test_an_older_cid_is_read_seen_and_unpinned_as_it_is(node: str, version: str) -> None:
    data = os.urandom(600_000)
    query = f"cid-version={version}&raw-leaves=false&chunker=size-262144"
    async with ClientSession() as session:
        url = f"{node}/api/v0/add?{query}"
        async with session.post(url, data={"file": io.BytesIO(data)}) as answer:
            old = (await answer.json())["Hash"]
    assert old.startswith("Qm") == (version == "0")
    async with opened([kubo(node)]) as store:
        stat = await store.stat(old)
        assert stat is not None
        assert (stat.locator, stat.size_bytes) == (old, len(data))
        assert await read(store, old) == data
        assert await read(store, old, 262_143, 262_146) == data[262_143:262_146]
        await store.delete(old)
        assert await store.stat(old) is None
        await fails_with(NotFound, read(store, old))


async def test_another_cid_is_believed_when_the_bytes_read_back_right(pinata: FakePinata) -> None:
    pinata.cuts_otherwise = True
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"abc"))
        assert receipt.verified == "read back"
        assert {receipt.locator} == pinata.held() != {str(cid_of([b"abc"]))}


@pytest.mark.parametrize("cuts_otherwise", [True, False])
async def test_another_cid_of_other_bytes_is_an_error(
    pinata: FakePinata, cuts_otherwise: bool
) -> None:
    pinata.cuts_otherwise, pinata.spoils = cuts_otherwise, True
    async with opened([v3(pinata)]) as store:
        await fails_with(Corrupt, store.put(KEY, BytesSource(b"ab")))


async def test_a_provider_that_names_another_file_does_not_make_us_lose_it(
    pinata: FakePinata,
) -> None:
    """An answer may come from a cache, or be mixed up with another's."""
    async with opened([v3(pinata)]) as store:
        other = (await store.put(KEY, BytesSource(b"of another track"))).locator
        pinata.suffers(Trouble(200, {"data": {"cid": other}}), of="POST /v3/files")
        await fails_with(Corrupt, store.put(KEY, BytesSource(b"of this one")))
        assert await read(store, other) == b"of another track"


async def test_another_cid_that_cannot_be_read_back_is_not_believed(pinata: FakePinata) -> None:
    pinata.cuts_otherwise = True
    pinata.gateway = "html"
    async with opened([v3(pinata)]) as store:
        await fails_with(StoreError, store.put(KEY, BytesSource(b"abc")))


async def test_other_bytes_than_the_source_promised_are_kept_by_nobody(
    pinata: FakePinata, node: str
) -> None:
    class Lying(BytesSource):
        @property
        def digest(self) -> Digest:
            return Digest.of(b"something else")

    async with opened([v3(pinata), kubo(node)]) as store:
        await fails_with(Corrupt, store.put(KEY, Lying(b"abc")))
        assert pinata.held() == set()
        assert await store.stat(str(cid_of([b"abc"]))) is None
    assert pinata.asked.count("POST /v3/files") <= 1, "a source's fault was tried again"


async def test_a_cancelled_put_leaves_nothing_on_the_node(node: str) -> None:
    source = WaitingSource(os.urandom(10 * MIB))
    async with opened([kubo(node)]) as store:
        putting = asyncio.create_task(store.put(KEY, source))
        await source.half_given.wait()
        putting.cancel()
        await fails_with(asyncio.CancelledError, putting)
        await fails_with(ConnectionResetError, store.put(KEY, BreakingSource(source.data)))
        assert await store.stat(str(cid_of([source.data]))) is None
        assert await store.stat(str(cid_of([source.data[: 5 * MIB]]))) is None


async def test_a_long_stream_is_never_held_whole(node: str) -> None:
    class Streamed(BytesSource):
        async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
            for _ in range(600):
                yield self.data

        @property
        def size_bytes(self) -> int:
            return 600 * len(self.data)

        @property
        def digest(self) -> Digest:
            return digest

    piece = bytes(100_000)
    digest = Digest.of(piece * 600)
    async with opened([kubo(node)]) as store:
        await store.put(KEY, BytesSource(piece))
        tracemalloc.start()
        receipt = await store.put(KEY, Streamed(piece))
        count = 0
        async for got in store.open(receipt.locator):
            count += len(got)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 60_000_000
    assert peak < 8 * MIB


# --- providers in their order ---------------------------------------------------------------


async def test_the_first_provider_that_works_takes_the_bytes(
    pinata: FakePinata, node: str, pauses: list[float]
) -> None:
    """B2: three attempts, with 1 s and 2 s between them, and then the next."""
    pinata.suffers(Trouble(500, {"error": {"code": 500}}), of="POST /v3/files")
    async with opened([v3(pinata), kubo(node)]) as store:
        receipt = await store.put(KEY, BytesSource(b"by the second"))
        assert (pinata.asked.count("POST /v3/files"), pauses) == (3, [1.0, 2.0])
        assert await read(store, receipt.locator) == b"by the second"
        assert pinata.held() == set()
        await store.delete(receipt.locator)
        assert await store.stat(receipt.locator) is None


async def test_a_provider_that_recovers_keeps_the_bytes(
    pinata: FakePinata, node: str, pauses: list[float]
) -> None:
    pinata.suffers(Trouble(502, body=HTML), of="POST /v3/files", times=2)
    async with opened([v3(pinata), kubo(node)]) as store:
        await store.put(KEY, BytesSource(b"third time lucky"))
    assert pinata.held() == {str(cid_of([b"third time lucky"]))}
    assert pauses == [1.0, 2.0]


async def test_what_cannot_pass_is_not_tried_again(
    pinata: FakePinata, node: str, pauses: list[float]
) -> None:
    pinata.suffers(Trouble(403, {"error": {"reason": "NO_SCOPES_FOUND"}}), of="POST")
    async with opened([legacy(pinata), kubo(node)]) as store:
        await store.put(KEY, BytesSource(b"x"))
    assert (pinata.asked.count("POST /pinning/pinFileToIPFS"), pauses) == (1, [])


async def test_a_pause_that_was_asked_for_is_kept_to_within_the_budget(
    pinata: FakePinata, pauses: list[float]
) -> None:
    for wanted, made in (("7", [7.0]), ("61", [])):
        pinata.heals()
        pauses.clear()
        trouble = Trouble(429, {"error": {}}, {"Retry-After": wanted})
        pinata.suffers(trouble, of="POST", times=1)
        async with opened([v3(pinata)]) as store:
            if made:
                await store.put(KEY, BytesSource(b"x"))
            else:
                await fails_with(Throttled, store.put(KEY, BytesSource(b"x")))
        assert pauses == made


async def test_all_that_failed_is_told_when_nobody_can(pinata: FakePinata) -> None:
    """B7: a clear message that names what failed."""
    pinata.suffers(Trouble(402, {}), of="POST /v3/files")
    async with opened([v3(pinata), kubo(DEAD)]) as store:
        with pytest.raises(Unavailable) as told:
            await store.put(KEY, BytesSource(b"x"))
        text = str(told.value)
        assert "pinata at" in text
        assert "plan is used up" in text
        assert f"kubo at {DEAD[7:]}" in text
        assert TOKEN not in text


async def test_a_silent_provider_has_only_its_share_of_the_time(
    pinata: FakePinata, node: str, pauses: list[float]
) -> None:
    port = int(pinata.url.rpartition(":")[2])
    with fault_proxy(port) as proxy:
        proxy.suffers(silence())
        silent = v3(pinata, upload_url=proxy.url)
        async with opened([silent, kubo(node)], timeout_seconds=2) as store:
            receipt = await store.put(KEY, BytesSource(b"not by the silent one"))
            assert await read(store, receipt.locator) == b"not by the silent one"
    assert pauses == []


async def test_a_provider_without_a_credential_is_off(pinata: FakePinata, node: str) -> None:
    for token in ("env:T_EMPTY", "env:T_NEVER_SET"):
        async with opened([v3(pinata, token=token), kubo(node)]) as store:
            await store.probe()
            await store.put(KEY, BytesSource(b"x"))
    assert pinata.asked == []
    async with opened([v3(pinata, token="env:T_EMPTY")]) as store:
        await fails_with(Misconfigured, store.probe())
        await fails_with(Misconfigured, store.put(KEY, BytesSource(b"x")))
        await fails_with(Misconfigured, store.stat(str(cid_of([b"x"]))))


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"user": "anna", "password": "env:T_SECRET"}, "Basic YW5uYTpzZWNyZXQtb2YtdGhlLXRlc3Rz"),
        ({"token": "env:T_JWT"}, f"Bearer {TOKEN}"),
    ],
)
async def test_a_node_behind_a_door_is_opened_by_its_credential(
    node: str, fields: dict[str, str], header: str
) -> None:
    with guarded(node, header) as url:
        async with opened([kubo(url, **fields)]) as store:
            await store.probe()
            receipt = await store.put(KEY, BytesSource(b"guarded"))
            assert await read(store, receipt.locator) == b"guarded"
        async with opened([kubo(url)]) as store:
            await fails_with(PermissionDenied, store.probe())
            await fails_with(PermissionDenied, store.put(KEY, BytesSource(b"x")))
            await fails_with(PermissionDenied, store.stat(receipt.locator))


# --- pinning services -----------------------------------------------------------------------


async def test_a_pinning_service_is_asked_to_pin_what_a_node_has(
    node: str, pinning_service: str
) -> None:
    async with opened([kubo(node), service(pinning_service)], pin_seconds=0.2) as store:
        receipt = await store.put(KEY, BytesSource(b"pinned twice"))
        assert await pins_of(pinning_service, receipt.locator) == ["queued"]
        await store.delete(receipt.locator)
        assert await pins_of(pinning_service, receipt.locator) == []


async def pins_of(url: str, cid: str) -> list[str]:
    headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
    query = {"cid": cid, "status": "queued,pinning,pinned,failed"}
    async with (
        ClientSession() as session,
        session.get(f"{url}/pins", params=query, headers=headers) as answer,
    ):
        return [pin["status"] for pin in (await answer.json())["results"]]


async def test_a_pin_is_waited_for_until_it_is_done_or_given_up(pinning_service: str) -> None:
    headers = {"authorization": f"Bearer {SERVICE_TOKEN}"}
    pinner = PinningService("service", pinning_service, PHASES, headers, pin_seconds=0.1)
    done, lost = cid_of([b"done"]), cid_of([b"lost"])
    await pinner.pin(done, "pinned-done", ["/ip4/127.0.0.1/tcp/4001"])
    assert await pinner.held(done) is not None
    await fails_with(Unavailable, pinner.pin(lost, "failed-lost", []))
    assert await pinner.held(lost) is None
    for cid in (done, lost):
        await pinner.unpin(cid)
        assert await pinner.held(cid) is None
    await pinner.close()


async def test_a_service_that_lists_every_pin_loses_only_the_one_that_is_meant() -> None:
    """Not every service looks at the CID that it is asked for."""
    ours, other = cid_of([b"ours"]), cid_of([b"another's"])
    with scripted() as server:
        pins = [
            {"requestid": f"of-{cid}", "status": "pinned", "pin": {"cid": str(cid)}}
            for cid in (other, ours)
        ]
        pinner = PinningService("service", server.url, PHASES, {}, pin_seconds=0)
        server.says(200, json.dumps({"count": 1, "results": pins[:1]}).encode())
        assert await pinner.held(ours) is None
        assert await pinner.held(other) is not None
        server.says(200, json.dumps({"count": 2, "results": pins}).encode())
        await pinner.unpin(ours)
        await pinner.close()
    assert [line for line in server.asked if "DELETE" in line] == [f"DELETE /pins/of-{ours}"]


@pytest.mark.parametrize("refuses", [True, False])
async def test_many_puts_of_the_same_bytes_are_one_pin(node: str, refuses: bool) -> None:
    """Some services refuse to pin twice what they have; others pin as often as they are asked."""
    pins: dict[str, dict[str, Any]] = {}

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            wanted = await request.json()
            if refuses and pins:
                told = {"error": {"reason": "DUPLICATE_OBJECT"}}
                return web.json_response(told, status=400)
            made = str(len(pins))
            pins[made] = {"requestid": made, "status": "queued", "pin": wanted}
            return web.json_response(pins[made], status=202)
        if request.method == "DELETE":
            pins.pop(request.path.rpartition("/")[2])
            return web.Response(status=202)
        if request.path != "/pins":
            return web.json_response(pins[request.path.rpartition("/")[2]])
        limit = int(request.query.get("limit", "10"))
        return web.json_response({"count": len(pins), "results": list(pins.values())[:limit]})

    with served(answer) as url:
        async with opened([kubo(node), service(url)], pin_seconds=0) as store:
            for _ in range(12):
                receipt = await store.put(KEY, BytesSource(b"again and again"))
            assert len(pins) == 1
            await store.delete(receipt.locator)
            assert not pins


async def test_what_only_a_service_has_is_as_large_as_a_gateway_says(
    node: str, pinning_service: str, pinata: FakePinata
) -> None:
    data = b"nobody else has it pinned"
    async with opened([v3(pinata)]) as store:
        cid = (await store.put(KEY, BytesSource(data))).locator
    headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
    wanted = {"cid": cid, "name": "pinned-elsewhere"}
    async with (
        ClientSession() as session,
        session.post(f"{pinning_service}/pins", json=wanted, headers=headers) as answer,
    ):
        assert answer.status == 202
    providers = [kubo(node), service(pinning_service)]
    async with opened(providers, gateways=[pinata.url]) as store:
        stat = await store.stat(cid)
        assert stat is not None
        assert stat.size_bytes == len(data)
        assert await read(store, cid) == data


async def test_a_service_that_does_not_let_us_in_fails_the_put(
    node: str, pinning_service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T_PINNING", "wrong")
    async with opened([kubo(node), service(pinning_service)]) as store:
        await fails_with(PermissionDenied, store.probe())
        await fails_with(PermissionDenied, store.put(KEY, BytesSource(b"x")))


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", ["", "no range", "redirect"])
async def test_any_range_comes_from_any_gateway(pinata: FakePinata, quirk: str) -> None:
    data = os.urandom(CHUNK_BYTES + 100)
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(data))
        pinata.gateway = quirk
        for start, stop in ((0, None), (1, 2), (CHUNK_BYTES - 1, None), (len(data), None)):
            assert await read(store, receipt.locator, start, stop) == data[start:stop]


@pytest.mark.parametrize("quirk", ["html", "wrong size", "elsewhere"])
async def test_a_gateway_that_gives_something_else_is_passed_over(
    pinata: FakePinata, node: str, quirk: str
) -> None:
    data = os.urandom(1000)
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(data))
        pinata.gateway = quirk
        await fails_with(Misconfigured, read(store, receipt.locator))
    async with opened([v3(pinata), kubo(node)]) as store:
        pinata.suffers(Trouble(500), of="POST")
        receipt = await store.put(KEY, BytesSource(data))
        assert await read(store, receipt.locator, 10, 20) == data[10:20]


@pytest.mark.parametrize("fault", [truncate(100_000), reset(100_000)])
async def test_a_body_that_breaks_goes_on_at_the_next_reader(
    pinata: FakePinata, fault: Any
) -> None:
    data = os.urandom(3 * CHUNK_BYTES)
    with fault_proxy(int(pinata.url.rpartition(":")[2])) as proxy:
        async with opened([v3(pinata, gateway=proxy.url)], gateways=[pinata.url]) as store:
            receipt = await store.put(KEY, BytesSource(data))
            proxy.suffers(fault)
            assert await read(store, receipt.locator) == data
            assert (
                await read(store, receipt.locator, 5, 2 * CHUNK_BYTES) == data[5 : 2 * CHUNK_BYTES]
            )


async def test_a_body_that_always_breaks_at_once_is_an_error(pinata: FakePinata) -> None:
    data = os.urandom(3 * CHUNK_BYTES)
    with fault_proxy(int(pinata.url.rpartition(":")[2])) as proxy:
        async with opened([v3(pinata, gateway=proxy.url)]) as store:
            receipt = await store.put(KEY, BytesSource(data))
            proxy.suffers(truncate(0))
            await fails_with(Truncated, read(store, receipt.locator))


async def test_a_gateway_may_want_a_token_which_no_other_sees(pinata: FakePinata) -> None:
    pinata.gateway_token = GATEWAY_TOKEN
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"x"))
        await fails_with(PermissionDenied, read(store, receipt.locator))
    async with opened([v3(pinata, gateway_token="env:T_GATEWAY")]) as store:
        assert await read(store, receipt.locator) == b"x"
    without = v3(pinata, gateway_token="env:T_GATEWAY", gateway=DEAD)
    async with opened([without], gateways=[pinata.url]) as store:
        await fails_with(StoreError, read(store, receipt.locator))


async def test_a_gateway_that_redirects_to_another_port_gives_it_no_token(
    pinata: FakePinata,
) -> None:
    """A port of the same host may be anybody's."""
    pinata.gateway_token = GATEWAY_TOKEN
    with scripted() as gateway:
        async with opened([v3(pinata, gateway_token="env:T_GATEWAY")]) as store:
            receipt = await store.put(KEY, BytesSource(b"x"))
        gateway.says(302, b"", Location=f"{pinata.url}/ipfs/{receipt.locator}")
        redirected = v3(pinata, gateway_token="env:T_GATEWAY", gateway=gateway.url)
        async with opened([redirected]) as store:
            await fails_with(PermissionDenied, read(store, receipt.locator))


@pytest.mark.parametrize("link", ["http://elsewhere.example/x?X-Signature=1", 7, None])
async def test_a_signed_link_that_leads_elsewhere_is_given_to_nobody(
    pinata: FakePinata, link: object
) -> None:
    async with opened([v3(pinata)], network="private") as store:
        receipt = await store.put(KEY, BytesSource(b"secret"))
        pinata.suffers(Trouble(200, {"data": link}), of="download_link")
        await fails_with(Misconfigured, store.sign(receipt.locator, timedelta(minutes=5)))
        await fails_with(Misconfigured, read(store, receipt.locator))


async def test_a_private_file_is_read_by_signed_links_and_never_public(
    pinata: FakePinata,
) -> None:
    async with opened([v3(pinata)], network="private") as store:
        assert not store.caps.public
        receipt = await store.put(KEY, BytesSource(b"secret", "audio/flac"))
        assert (pinata.held("private"), pinata.held("public")) == ({receipt.locator}, set())
        assert await read(store, receipt.locator) == b"secret"
        link = await store.sign(receipt.locator, timedelta(minutes=5))
        assert link is not None
        async with ClientSession() as session:
            async with session.get(link) as answer:
                assert (answer.status, await answer.read()) == (200, b"secret")
            async with session.get(link.replace("=300", "=301")) as answer:
                assert answer.status == 401


async def test_a_signed_link_that_is_refused_is_not_used_again(pinata: FakePinata) -> None:
    """Its key was revoked, or a clock goes wrong: the next reader asks for another."""
    async with opened([v3(pinata)], network="private") as store:
        receipt = await store.put(KEY, BytesSource(b"secret"))
        for _ in range(2):
            assert await read(store, receipt.locator) == b"secret"
        assert pinata.asked.count("POST /v3/files/private/download_link") == 1
        pinata.suffers(Trouble(401), of="GET /files/", times=1)
        await fails_with(PermissionDenied, read(store, receipt.locator))
        assert await read(store, receipt.locator) == b"secret"
        assert pinata.asked.count("POST /v3/files/private/download_link") == 2


# --- what is there --------------------------------------------------------------------------


async def test_an_absence_is_what_every_provider_says(pinata: FakePinata, node: str) -> None:
    cid = str(cid_of([os.urandom(10)]))
    async with opened([v3(pinata), kubo(node)]) as store:
        assert await store.stat(cid) is None
        pinata.suffers(Trouble(503), of="GET /v3/files")
        await fails_with(Unavailable, store.stat(cid))
        await fails_with(Unavailable, read(store, cid))
    async with opened([v3(pinata), kubo(DEAD)]) as store:
        pinata.heals()
        await fails_with(Unavailable, store.stat(cid))
        await fails_with(Unavailable, store.delete(cid))


async def test_a_file_that_was_seen_is_read_without_asking_again(pinata: FakePinata) -> None:
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"0123456789"))
        pinata.asked.clear()
        for start in range(9):
            await read(store, receipt.locator, start, start + 1)
        assert [line for line in pinata.asked if "/v3/" in line] == []


async def test_a_key_is_no_cid_so_nothing_lies_there(pinata: FakePinata) -> None:
    async with opened([v3(pinata)]) as store:
        assert await store.stat("blobs/abc") is None
        await fails_with(NotFound, read(store, "blobs/abc"))
        await store.delete("blobs/abc")
    assert pinata.asked == []


async def test_no_marker_is_kept_and_none_is_missed(pinata: FakePinata) -> None:
    async def expected() -> str | None:
        return None

    async with opened([v3(pinata)]) as store:
        guarded_store = Guarded(store, expected)
        receipt = await guarded_store.put(KEY, BytesSource(b"x"))
        await guarded_store.delete(receipt.locator)
        assert await guarded_store.stat(receipt.locator) is None
        caps = store.caps
        assert (caps.marks, caps.lists, caps.sidecars, caps.public) == (False, False, False, True)


async def test_deleting_goes_on_behind_a_provider_that_fails(pinata: FakePinata, node: str) -> None:
    async with opened([kubo(DEAD), v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"to go"))
        await fails_with(Unavailable, store.delete(receipt.locator))
    assert pinata.held() == set()


# --- what else goes wrong -------------------------------------------------------------------

PLAN = {"error": {"reason": "FORBIDDEN", "details": "Account blocked due to plan usage limit"}}
NO_ROOM = {"Message": "write: no space left on device", "Code": 0, "Type": "error"}
MATRIX: dict[str, tuple[Trouble, type[StoreError]]] = {
    "wrong token": (Trouble(401, {"error": {"code": 401}}), PermissionDenied),
    "not allowed": (Trouble(403, {"error": {"reason": "NO_SCOPES_FOUND"}}), PermissionDenied),
    "plan used up": (Trouble(403, PLAN), QuotaExceeded),
    "payment required": (Trouble(402, {}), QuotaExceeded),
    "disk full": (Trouble(500, NO_ROOM), QuotaExceeded),
    "disk full, told late": (Trouble(200, NO_ROOM), QuotaExceeded),
    "too large": (Trouble(413, {}), TooLarge),
    "too many requests": (Trouble(429, {}), Throttled),
    "server error": (Trouble(500, {"error": {"code": 500}}), Unavailable),
    "bad gateway": (Trouble(502, body=HTML), Unavailable),
    "timed out upstream": (Trouble(504, body=HTML), TimedOut),
    "a page for people": (Trouble(200, body=HTML), Misconfigured),
    "another server": (Trouble(404, body=HTML), Misconfigured),
    "a redirect": (Trouble(302, headers={"Location": "http://127.0.0.1:1/"}), Misconfigured),
    "nonsense in JSON": (Trouble(200, {"data": {"cid": "no cid"}}), Misconfigured),
    "applied and answered with an error": (Trouble(500, {}, applied=True), Unavailable),
}


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("kind", [v3, legacy])
async def test_every_refusal_of_a_put_is_an_error_of_its_kind(
    pinata: FakePinata, name: str, kind: Any
) -> None:
    trouble, error = MATRIX[name]
    pinata.suffers(trouble, of="POST")
    async with opened([kind(pinata)]) as store:
        with pytest.raises(error) as told:
            await store.put(KEY, BytesSource(b"x"))
        assert TOKEN not in str(told.value)
        pinata.heals()
        receipt = await store.put(KEY, BytesSource(b"x"))
        assert await read(store, receipt.locator) == b"x"


@pytest.mark.parametrize("name", MATRIX)
async def test_every_refusal_of_a_node_is_an_error_and_no_absence(
    pinata: FakePinata, name: str
) -> None:
    """Whatever answers at the node's address, it is no node."""
    trouble, error = MATRIX[name]
    pinata.suffers(trouble)
    cid = str(cid_of([b"x"]))
    async with opened([kubo(pinata.url)]) as store:
        await fails_with(error, store.put(KEY, BytesSource(b"x")))
        await fails_with(StoreError, store.stat(cid))
        if trouble.status != 200:
            await fails_with(error, store.stat(cid))
            await fails_with(error, store.delete(cid))


@pytest.mark.parametrize("name", [n for n in MATRIX if n != "nonsense in JSON"])
async def test_every_refusal_to_look_or_remove_is_an_error_and_no_absence(
    pinata: FakePinata, name: str
) -> None:
    trouble, error = MATRIX[name]
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"x"))
        pinata.suffers(trouble, of="/v3/files/public")
        for call in (store.stat(receipt.locator), store.delete(receipt.locator), store.probe()):
            await fails_with(error, call)
        pinata.heals()
        assert await read(store, receipt.locator) == b"x"


@pytest.mark.parametrize(
    "name", ["wrong token", "too many requests", "server error", "bad gateway"]
)
async def test_every_refusal_of_a_gateway_is_an_error_of_its_kind(
    pinata: FakePinata, name: str
) -> None:
    trouble, error = MATRIX[name]
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"x"))
        pinata.suffers(trouble, of="GET /ipfs/")
        await fails_with(error, read(store, receipt.locator))


async def test_what_a_gateway_does_not_find_is_not_lost(pinata: FakePinata) -> None:
    async with opened([v3(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"x"))
        pinata.suffers(Trouble(404, body=b"no providers found"), of="GET /ipfs/")
        await fails_with(Unavailable, read(store, receipt.locator))


async def test_a_lone_404_is_no_proof_that_a_file_is_unpinned(pinata: FakePinata) -> None:
    async with opened([legacy(pinata)]) as store:
        receipt = await store.put(KEY, BytesSource(b"x"))
        pinata.suffers(Trouble(404, body=HTML), of="DELETE")
        await fails_with(Misconfigured, store.delete(receipt.locator))
        pinata.files["public"].clear()
        await store.delete(receipt.locator)


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b'"x"', b"[" * 50_000, b'{"Size": "9"}', b'{"a":' * 50_000]
)
async def test_json_of_another_form_is_an_error_of_its_kind(body: bytes) -> None:
    with scripted() as server:
        server.says(200, body)
        async with opened([kubo(server.url)]) as store:
            for cid in (cid_of([b"x"]), cid_of([bytes(2 * MIB)])):
                await fails_with(StoreError, store.stat(str(cid)))
            await fails_with(StoreError, store.put(KEY, BytesSource(b"x")))
        async with opened([v3(FakePinata(server.url))], network="private") as store:
            await fails_with(StoreError, store.sign(str(cid_of([b"x"])), timedelta(minutes=1)))


async def test_a_root_that_is_another_files_does_not_tell_the_size() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/block/get"):
            return web.Response(body=b"\x0a\x04\x08\x02\x18\x05")  # UnixFS: a file of 5 bytes
        return web.json_response({"Keys": {}})

    with served(answer) as url:
        async with opened([kubo(url)]) as store:
            await fails_with(Misconfigured, store.stat(str(cid_of([bytes(2 * MIB)]))))


async def test_a_file_too_large_for_the_bucket_is_refused(pinata: FakePinata) -> None:
    async with opened([v3(pinata)], max_bytes=3) as store:
        await fails_with(TooLarge, store.put(KEY, BytesSource(b"four")))
    assert pinata.asked == []


# --- settings -------------------------------------------------------------------------------

NODE = kubo("http://127.0.0.1:5001")
JWT = {"kind": "pinata", "token": "env:T_JWT", "gateway": "https://x.example"}


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"providers": []}, "at least 1"),
        ({"providers": [kubo("http://far.example", token="env:A")]}, "read on the way"),
        ({"providers": [{**JWT, "url": "http://far.example"}]}, "read on the way"),
        ({"providers": [{**JWT, "token": "the token itself"}]}, "not as text"),
        ({"providers": [{"kind": "pinata", "token": "env:T_JWT"}]}, "nothing reads"),
        ({"providers": [service("https://x")]}, "takes no bytes"),
        ({"providers": [NODE], "public": False}, "follows from network"),
        ({"providers": [NODE], "network": "private", "public": True}, "follows from network"),
        ({"providers": [NODE], "key": "audio/{track_id}"}, "share a CID"),
        ({"providers": [NODE, service("https://x")], "network": "private"}, "kept by"),
        ({"providers": [NODE], "network": "private", "gateways": ["http://x"]}, "public network"),
        ({"providers": [{"kind": "pinata_legacy"}, NODE]}, "either token"),
        ({"providers": [{"kind": "pinata_legacy", "api_key": "env:A"}, NODE]}, "either token"),
        (
            {"providers": [NODE, {"kind": "pinata", "token": "env:A"}], "network": "private"},
            "own gateway",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(table: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        store_of(**table)


def test_a_node_that_asks_for_nothing_may_be_anywhere() -> None:
    assert store_of([kubo("http://node.example:5001")]).caps.public


def test_a_store_is_public_unless_its_network_is_private() -> None:
    assert store_of([NODE]).caps.public
    assert not store_of([NODE], network="private").caps.public
