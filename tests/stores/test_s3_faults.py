"""What the store `s3` makes of everything that S3 servers and networks do wrong.

One table: for each fault and each verb the error it must be, or that the verb must do its work all
the same. Whatever happens, the line a person reads is one, says which store it is, and holds no
secret; nothing stays open; and a put that failed shows nothing, or the whole object.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reading.stage import until
from servers.fault_proxy import (
    Fault,
    FaultProxy,
    fault_proxy,
    flip,
    refuse,
    reset,
    silence,
    stall,
    truncate,
)
from servers.quirky_s3 import (
    ACCESS_KEY,
    BUCKET,
    MINIO,
    R2,
    SECRET_KEY,
    SUPABASE,
    Generated,
    Profile,
    QuirkyS3,
    quirky_s3,
)
from servers.tls import new_certificate, speaking_for
from soundkeep.errors import (
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    Truncated,
    Unavailable,
)
from soundkeep.stores.http_service import Phases
from soundkeep.stores.interface import Key, Stat
from soundkeep.stores.s3 import S3Store
from soundkeep.stores.s3_signing import Credentials
from soundkeep.testing.sources import BytesSource

MIB = 1024 * 1024
SOUND = random.Random(3).randbytes(300_000)
LONG_SOUND = random.Random(4).randbytes(6 * MIB)  # two parts
KEY = Key("blobs/sound")
PATIENT = Phases(connect=30, first_byte=30, between_bytes=30, written=30)
IMPATIENT = Phases(connect=0.3, first_byte=0.3, between_bytes=0.3, written=0.3)
SHOWN = 300  # characters of a line at most

Verb = Callable[["Bench"], Awaitable[object]]


@dataclass
class Bench:
    """The store, the server it keeps its objects in, and the proxy between them."""

    server: QuirkyS3
    proxy: FaultProxy
    store: S3Store

    def impatient(self) -> Bench:
        """The same with a store of its own that waits for nobody."""
        return replace(self, store=store_at(self.proxy.url, phases=IMPATIENT))

    def kept(self) -> dict[str, bytes]:
        """The objects that are not the store's own."""
        objects = self.server.objects.items()
        return {key: kept.body for key, kept in objects if not key.startswith(".soundkeep/")}


def store_at(endpoint: str, **more: Any) -> S3Store:
    credentials = more.pop("credentials", Credentials(ACCESS_KEY, SECRET_KEY))
    settings = {"phases": PATIENT, "single_put_bytes": MIB, "part_bytes": 5 * MIB, **more}
    return S3Store("bucket", BUCKET, endpoint, credentials, **settings)


@pytest.fixture
def profile() -> Profile:
    return MINIO


@pytest.fixture
def server(profile: Profile) -> Iterator[QuirkyS3]:
    with quirky_s3(profile) as started:
        yield started


@pytest.fixture
async def bench(server: QuirkyS3) -> AsyncIterator[Bench]:
    """A marked store that holds one sound. At its end nothing may be open any more."""
    with fault_proxy(server.port) as proxy:
        bench = Bench(server, proxy, store_at(proxy.url))
        await bench.store.write_marker("the-marker")
        await bench.store.put(KEY, BytesSource(SOUND))
        yield bench
        await bench.store.close()
        await until(lambda: proxy.open == 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


# --- the verbs, each with bytes compared ---------------------------------------------------------


async def probe(bench: Bench) -> None:
    await bench.store.probe()


async def put(bench: Bench) -> None:
    await bench.store.put(Key("blobs/new"), BytesSource(SOUND[:1000]))
    assert bench.kept()["blobs/new"] == SOUND[:1000]


async def put_in_parts(bench: Bench) -> None:
    await bench.store.put(Key("blobs/long"), BytesSource(LONG_SOUND))
    assert bench.kept()["blobs/long"] == LONG_SOUND


async def stat(bench: Bench) -> None:
    found = await bench.store.stat(str(KEY))
    assert isinstance(found, Stat)
    assert found.size_bytes == len(SOUND)


async def open_whole(bench: Bench) -> None:
    assert await read(bench.store) == SOUND


async def open_range(bench: Bench) -> None:
    assert await read(bench.store, 100_000, 150_001) == SOUND[100_000:150_001]


async def delete(bench: Bench) -> None:
    await bench.store.delete(str(KEY))
    assert str(KEY) not in bench.kept()


async def list_all(bench: Bench) -> None:
    locators = [found.locator async for found in bench.store.list("blobs/")]
    assert locators == sorted(bench.kept())


async def read(store: S3Store, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(store.open(str(KEY), start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


VERBS: dict[str, Verb] = {
    "probe": probe,
    "put": put,
    "put in parts": put_in_parts,
    "stat": stat,
    "open": open_whole,
    "open a range": open_range,
    "list": list_all,
    "delete": delete,
}

# --- the table -----------------------------------------------------------------------------------

Outcome = type[StoreError] | None  # None: the verb does its work all the same


@dataclass(frozen=True)
class Row:
    """What comes of a fault, and of which verbs something else comes."""

    outcome: Outcome
    but: dict[str, Outcome] = field(default_factory=dict)
    orphans: bool = False  # an upload that we never heard of having begun is for `reap` to find

    def of(self, verb: str) -> Outcome:
        return self.but.get(verb, self.outcome)


NO_BODY: dict[str, Outcome] = dict.fromkeys(["probe", "put", "stat", "delete"])  # of 100 bytes
CUT: dict[str, Outcome] = dict.fromkeys(["open", "open a range"], Truncated)

BY_THE_SERVER: dict[str, Row] = {
    "bucket missing": Row(Misconfigured),
    "not found without a word": Row(Misconfigured),
    "another region": Row(Misconfigured),
    "region in the signature": Row(Misconfigured),
    "access denied": Row(PermissionDenied),
    "unknown access key": Row(PermissionDenied),
    "wrong secret": Row(PermissionDenied),
    "clock skew": Row(Misconfigured),
    "too many requests": Row(Throttled),
    "too many requests, retry after": Row(Throttled),
    "slow down": Row(Throttled, {"stat": Unavailable}),  # the answer to a HEAD has no body
    "internal error": Row(Unavailable),
    "unavailable": Row(Unavailable),
    "html": Row(Misconfigured),
    "html from a gateway": Row(Unavailable),
    "quota exceeded": Row(QuotaExceeded),
    "storage full": Row(QuotaExceeded),
    "applied but failed": Row(Unavailable, orphans=True),
    "etag that is no md5": Row(None),
    "200 to a range": Row(None),
    "complete that fails": Row(None, {"put in parts": Unavailable}),
}

BY_THE_NETWORK: dict[str, tuple[Fault, Row]] = {
    "connect refused": (refuse(), Row(Unavailable)),
    "no answer": (silence(), Row(TimedOut)),
    "stall in the body": (stall(at=100), Row(TimedOut, NO_BODY, orphans=True)),
    "every body reset": (reset(at=100), Row(Unavailable, NO_BODY, orphans=True)),
    "every body truncated": (truncate(at=100), Row(Unavailable, {**NO_BODY, **CUT}, orphans=True)),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", BY_THE_SERVER)
async def test_what_the_server_does_wrong(bench: Bench, fault: str, verb: str) -> None:
    bench.server.suffers(fault)
    await expect(bench, verb, BY_THE_SERVER[fault])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", BY_THE_NETWORK)
async def test_what_the_network_does_wrong(bench: Bench, fault: str, verb: str) -> None:
    order, row = BY_THE_NETWORK[fault]
    bench.proxy.suffers(order)
    await expect(bench, verb, row)


async def expect(bench: Bench, verb: str, row: Row) -> None:
    """The verb ends so, three times over; once the fault is gone it works."""
    outcome = row.of(verb)
    tried = bench.impatient() if outcome is TimedOut else bench
    for _ in range(3):
        await attempt(tried, verb, outcome)
        assert bench.proxy.open <= 4
    if tried is not bench:
        await tried.store.close()
    bench.proxy.heals()
    bench.server.heals()
    if row.orphans and verb == "put in parts":
        assert await bench.store.reap(timedelta()) == 3
    await VERBS[verb](bench)
    assert bench.server.uploads == {}, "what failed was aborted"


async def attempt(bench: Bench, verb: str, outcome: Outcome) -> None:
    if outcome is None:
        await VERBS[verb](bench)
        return
    before = bench.kept()
    with pytest.raises(outcome) as raised:
        await VERBS[verb](bench)
    assert type(raised.value) is outcome, "and not something more special"
    check_line(str(raised.value))
    check_whole(before, bench.kept())


def check_line(line: str) -> None:
    assert line.startswith("bucket: ")
    assert "\n" not in line
    assert len(line) < SHOWN
    for secret in (SECRET_KEY, ACCESS_KEY, "Signature=", "X-Amz-", "Credential", "<html"):
        assert secret not in line


def check_whole(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """An object is as it was, or whole and new, or gone because that was asked for."""
    wholes = {"blobs/new": SOUND[:1000], "blobs/long": LONG_SOUND}
    for key, body in after.items():
        assert body == before.get(key, wholes.get(key))


# --- what the table has no place for -------------------------------------------------------------


async def test_the_region_that_the_server_names_is_in_the_line(bench: Bench) -> None:
    for fault in ("another region", "region in the signature"):
        bench.server.suffers(fault)
        with pytest.raises(Misconfigured, match="mars-1"):
            await bench.store.probe()
        with pytest.raises(Misconfigured, match="mars-1"):
            await bench.store.delete(str(KEY))


async def test_the_time_a_server_asks_for_is_heard(bench: Bench) -> None:
    bench.server.suffers("too many requests, retry after")
    for verb in VERBS.values():
        with pytest.raises(Throttled) as raised:
            await verb(bench)
        assert raised.value.retry_after == 7


async def test_credentials_of_our_own_that_are_wrong(bench: Bench) -> None:
    for wrong in (Credentials(ACCESS_KEY, "not-the-secret"), Credentials("nobody", SECRET_KEY)):
        store = store_at(bench.proxy.url, credentials=wrong)
        for verb in VERBS.values():
            with pytest.raises(PermissionDenied) as raised:
                await verb(Bench(bench.server, bench.proxy, store))
            check_line(str(raised.value))
            assert "not-the-secret" not in str(raised.value)
        await store.close()
    assert bench.kept() == {str(KEY): SOUND}


@pytest.mark.parametrize("minutes", [-20, 20])
async def test_a_clock_that_is_off(bench: Bench, minutes: int) -> None:
    bench.server.clock_ahead = timedelta(minutes=minutes)
    for verb in VERBS.values():
        with pytest.raises(Misconfigured, match="clock"):
            await verb(bench)


async def test_a_region_of_our_own_that_is_wrong(bench: Bench) -> None:
    """The client below may find the right one by itself for some verbs; the others say it."""
    store = store_at(bench.proxy.url, region="mars-1")
    for verb in (probe, put, stat, open_whole, open_range):
        with pytest.raises(Misconfigured, match="region: us-east-1"):
            await verb(Bench(bench.server, bench.proxy, store))
    await store.close()


async def test_a_bucket_that_is_misspelt(bench: Bench) -> None:
    bench.server.bucket = "sonds"
    for verb in VERBS.values():
        with pytest.raises(Misconfigured):
            await verb(bench)


@pytest.mark.parametrize("profile", [SUPABASE], ids=["supabase"])
async def test_a_bad_token_of_supabase_is_never_an_absence(bench: Bench) -> None:
    bench.server.secrets.clear()
    for verb in VERBS.values():
        with pytest.raises((Misconfigured, PermissionDenied)) as raised:
            await verb(bench)
        check_line(str(raised.value))
    assert bench.kept() == {str(KEY): SOUND}


@pytest.mark.parametrize("profile", [MINIO, R2, SUPABASE], ids=lambda profile: profile.name)
async def test_every_service_works_in_its_own_way(bench: Bench, profile: Profile) -> None:
    for verb in VERBS.values():
        await verb(bench)
    with pytest.raises(NotFound):
        await open_whole(bench)
    assert await bench.store.stat(str(KEY)) is None
    assert bench.store.caps.verifies_sha256 is profile.verifies
    receipt = await bench.store.put(KEY, BytesSource(SOUND))
    assert bool(receipt.verified) is profile.verifies, "what was not checked is not said to be"
    receipt = await bench.store.put(Key("blobs/long"), BytesSource(LONG_SOUND))
    assert bool(receipt.verified) is profile.verifies


@pytest.mark.parametrize("profile", [MINIO, R2], ids=lambda profile: profile.name)
async def test_the_sum_of_an_upload_in_parts_is_no_sha256_of_the_object(bench: Bench) -> None:
    await put_in_parts(bench)
    found = await bench.store.stat("blobs/long")
    assert found is not None
    assert found.sha256 in (None, BytesSource(LONG_SOUND).digest)


async def test_a_put_that_was_applied_though_it_failed_is_found_whole(bench: Bench) -> None:
    bench.server.suffers("applied but failed", methods=("PUT",))
    with pytest.raises(Unavailable):
        await put(bench)
    bench.server.heals()
    assert await bench.store.stat("blobs/new") is not None
    assert bench.kept()["blobs/new"] == SOUND[:1000]
    await put(bench)


@pytest.mark.parametrize("at", [0, 1, 65_536, 299_999])
@pytest.mark.parametrize("cut", [reset, truncate])
async def test_a_body_that_is_cut_once_goes_on_where_it_ended(
    bench: Bench, cut: Callable[[int], Fault], at: int
) -> None:
    bench.proxy.suffers(cut(at), once=True)
    assert await read(bench.store) == SOUND
    assert bench.proxy.struck == 1


async def test_an_object_replaced_between_two_halves_is_not_spliced(bench: Bench) -> None:
    bench.proxy.suffers(truncate(100_000), once=True)
    async with aclosing(bench.store.open(str(KEY))) as pieces:
        came = [await anext(pieces)]
        await replaced(bench)
        with pytest.raises(Truncated):
            came.extend([piece async for piece in pieces])
    assert SOUND.startswith(b"".join(came))


async def replaced(bench: Bench) -> None:
    """By another writer's object, under the same key."""
    other = store_at(bench.server.url)
    await other.put(KEY, BytesSource(bytes(len(SOUND))))
    await other.close()


async def test_a_body_shorter_or_longer_than_announced_gives_right_bytes_or_an_error(
    bench: Bench,
) -> None:
    for fault in ("short body", "long body"):
        bench.server.suffers(fault)
        for start, stop in ((0, None), (0, 10), (1000, 200_000), (299_999, 300_000)):
            try:
                came = await read(bench.store, start, stop)
            except Truncated as error:
                check_line(str(error))
            else:
                assert came[: (stop or len(SOUND)) - start] == SOUND[start:stop], fault
                assert len(came) == len(SOUND[start:stop]) or (start, stop) == (0, None)


async def test_a_flipped_byte_is_passed_on_for_reading_to_find(bench: Bench) -> None:
    bench.proxy.suffers(flip(12_345), once=True)
    came = await read(bench.store)
    assert [at for at in range(len(SOUND)) if came[at] != SOUND[at]] == [12_345]


async def test_a_signed_url_is_dead_when_it_has_expired(bench: Bench) -> None:
    url = await bench.store.sign(str(KEY), timedelta(seconds=30))
    assert url is not None
    assert await fetched(url) == (200, SOUND)
    bench.server.clock_ahead = timedelta(seconds=32)
    assert (await fetched(url))[0] == 403


async def fetched(url: str) -> tuple[int, bytes]:
    from aiohttp import ClientSession

    async with ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.read()


async def test_ten_thousand_keys_are_listed_each_once_and_in_order(bench: Bench) -> None:
    await list_generated(bench, 10_000)


@pytest.mark.drill
async def test_a_hundred_thousand_keys_are_listed_each_once_and_in_order(bench: Bench) -> None:
    await list_generated(bench, 100_000)


async def list_generated(bench: Bench, count: int) -> None:
    await list_all(bench)
    keys = bench.server.generated = Generated("blobs/", count)
    before = len(bench.server.requests)
    assert [found.locator async for found in bench.store.list("blobs/")] == list(keys)
    assert len(bench.server.requests) - before == count // 1000
    after = [found.locator async for found in bench.store.list("blobs/", keys[count - 1001])]
    assert after == list(keys)[-1000:]


async def test_a_fault_between_two_pages_is_no_end_of_the_list(bench: Bench) -> None:
    bench.server.generated = Generated("blobs/", 2500)
    listing = bench.store.list("blobs/")
    first = [await anext(listing) for _ in range(1000)]
    bench.server.suffers("unavailable")
    with pytest.raises(Unavailable):
        await anext(listing)
    assert [found.locator for found in first] == list(bench.server.generated)[:1000]


async def test_who_stops_waiting_leaves_nothing_open(bench: Bench) -> None:
    await list_all(bench)  # the client below is made, which takes a while
    bench.proxy.suffers(silence())
    for verb in VERBS.values():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await verb(bench)
    await until(lambda: bench.proxy.open == 0)
    bench.proxy.heals()
    assert await read(bench.store) == SOUND


# --- what is there instead of a server -----------------------------------------------------------


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Somebody who speaks TLS with a certificate of its own making."""
    context = speaking_for(new_certificate(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=_greet_all, args=(listener, context))
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listener.close()


def _greet_all(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        try:
            with context.wrap_socket(link, server_side=True) as secure:
                secure.recv(1)
        except OSError:
            link.close()


async def test_a_certificate_that_nobody_vouches_for(tls_port: int) -> None:
    await expect_all(f"https://127.0.0.1:{tls_port}", Misconfigured, "certificate")


async def test_https_where_plain_http_is_spoken(server: QuirkyS3) -> None:
    await expect_all(server.url.replace("http", "https"), (Misconfigured, Unavailable))


async def test_plain_http_where_https_is_spoken(tls_port: int) -> None:
    await expect_all(f"http://127.0.0.1:{tls_port}", (Misconfigured, Unavailable))


async def test_a_server_that_takes_no_more_connections() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as first:
        first.connect(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await expect_all(url, TimedOut, "in time")


async def test_a_name_that_does_not_exist() -> None:
    await expect_all("http://soundkeep.invalid:9000", Unavailable, "cannot be reached")


async def expect_all(
    endpoint: str, error: type[StoreError] | tuple[type[StoreError], ...], says: str | None = None
) -> None:
    store = store_at(endpoint, phases=IMPATIENT)
    calls: list[Callable[[], Awaitable[object]]] = [
        store.probe,
        lambda: store.put(KEY, BytesSource(SOUND)),
        lambda: store.put(KEY, BytesSource(LONG_SOUND)),
        lambda: store.stat(str(KEY)),
        lambda: read(store),
        lambda: store.delete(str(KEY)),
        lambda: anext(aiter(store.list())),
    ]
    for call in calls:
        with pytest.raises(error, match=says) as raised:
            await call()
        check_line(str(raised.value))
    await store.close()
