"""The store `turso` against a real libSQL server, and against everything one may answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from servers.fault_proxy import fault_proxy, flip
from servers.growth import growth
from servers.scripted import Script, scripted
from servers.sqld import Sqld, running_sqld
from soundkeep.digest import CHUNK_BYTES
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
from soundkeep.stores import rows
from soundkeep.stores.http_service import PHASES
from soundkeep.stores.interface import Key, Store
from soundkeep.stores.turso import TursoStore
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import LARGE, StoreContract
from soundkeep.testing.expecting import fails_with, listed, read
from stores.shared import HTML, IMPATIENT, STORE_ID, marked, network_faults

REAL = "SOUNDKEEP_TEST_TURSO_URL"
SECRET = "a-token-that-nobody-may-see"


@asynccontextmanager
async def opened(url: str, token: str | None = None, **more: Any) -> AsyncIterator[TursoStore]:
    """A marked store."""
    async with marked(TursoStore("turso", url, token, **more)) as store:
        yield store


@pytest.fixture
def url(sqld: Sqld) -> str:
    return sqld.new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[TursoStore]:
    async with opened(url) as store:
        yield store


async def until(sqld: Sqld, url: str, count: int, table: str) -> None:
    """Waits for what is removed behind the scenes."""
    for _ in range(1000):
        if sqld.run(url, f"SELECT count(*) FROM {table}")[0][0]["value"] == str(count):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(sqld.run(url, f"SELECT * FROM {table}"))


class TestTurso(StoreContract):
    """Against a database at Turso, if one is named; else against a server of our own."""

    @pytest.fixture
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
        url = os.environ.get(REAL) or request.getfixturevalue("url")
        token = os.environ.get("SOUNDKEEP_TEST_TURSO_TOKEN")
        async with opened(url, token, max_bytes=50_000_000) as store:
            yield store


# --- generations ----------------------------------------------------------------------------


async def test_replaced_and_deleted_objects_leave_no_rows(
    store: TursoStore, sqld: Sqld, url: str
) -> None:
    for size in (LARGE, 3 * CHUNK_BYTES, 0):
        await store.put(Key("x"), BytesSource(os.urandom(size)))
    await until(sqld, url, 0, "chunks")
    await store.put(Key("y"), BytesSource(os.urandom(40 * CHUNK_BYTES)))
    await store.delete("y")
    for table, count in (("manifests", 1), ("chunks", 0), ("drafts", 0)):
        await until(sqld, url, count, table)


async def test_a_cancelled_put_leaves_no_rows(store: TursoStore, sqld: Sqld, url: str) -> None:
    await StoreContract().cancel_half_way(store, "x")
    await until(sqld, url, 0, "drafts")
    await until(sqld, url, 0, "chunks")


async def test_what_a_dead_process_left_is_reaped(store: TursoStore, sqld: Sqld, url: str) -> None:
    sqld.run(url, "INSERT INTO drafts (generation, since) VALUES (7, 1000)")
    sqld.run(url, "INSERT INTO chunks (generation, number, data) VALUES (7, 0, '')")
    await store.put(Key("x"), BytesSource(b"x"))
    assert await store.reap(timedelta(hours=1)) == 1
    assert await store.reap(timedelta(0)) == 0
    assert sqld.run(url, "SELECT generation FROM chunks WHERE generation = 7") == []
    assert await read(store, "x") == b"x"


async def test_a_put_that_was_reaped_meanwhile_fails(
    store: TursoStore, sqld: Sqld, url: str
) -> None:
    source, putting = await StoreContract().put_half(store, "x")
    for _ in range(1000):
        if await store.reap(timedelta(0)):
            break
        await asyncio.sleep(0.01)
    source.may_go_on.set()
    await fails_with(Unavailable, putting)
    assert await store.stat("contract/x") is None
    await until(sqld, url, 0, "chunks")


async def test_a_crowd_of_writers_does_not_choke_the_server(store: TursoStore) -> None:
    sounds = {f"crowd/{number}": os.urandom(3 * CHUNK_BYTES) for number in range(24)}
    for _ in range(3):
        await asyncio.gather(*(store.put(Key(k), BytesSource(s)) for k, s in sounds.items()))
    for key, sound in sounds.items():
        assert await read(store, key) == sound


async def test_a_list_of_many_pages_is_complete(
    store: TursoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LISTED_AT_ONCE", 2)
    for number in range(5):
        await store.put(Key(f"{number}"), BytesSource(b"x"))
    assert await listed(store) == ["0", "1", "2", "3", "4"]


async def test_a_chunk_that_is_missing_or_short_is_truncated(
    store: TursoStore, sqld: Sqld, url: str
) -> None:
    await store.put(Key("x"), BytesSource(os.urandom(3 * CHUNK_BYTES)))
    await store.put(Key("y"), BytesSource(os.urandom(3 * CHUNK_BYTES)))
    sqld.run(url, "DELETE FROM chunks WHERE number = 2")
    sqld.run(url, "UPDATE chunks SET data = substr(data, 1, 100) WHERE number = 1")
    assert len(await read(store, "x", 0, CHUNK_BYTES)) == CHUNK_BYTES
    await fails_with(Truncated, read(store, "x", 0, CHUNK_BYTES + 1))
    await fails_with(Truncated, read(store, "y", 2 * CHUNK_BYTES))


async def test_a_put_repairs_damaged_rows(store: TursoStore, sqld: Sqld, url: str) -> None:
    data = os.urandom(3 * CHUNK_BYTES)
    await store.put(Key("x"), BytesSource(data))
    sqld.run(url, "DELETE FROM chunks")
    await store.put(Key("x"), BytesSource(data))
    assert await read(store, "x") == data


async def test_what_is_not_bytes_in_a_chunk_is_corrupt(
    store: TursoStore, sqld: Sqld, url: str
) -> None:
    await store.put(Key("x"), BytesSource(b"x" * 10))
    sqld.run(url, "UPDATE chunks SET data = 'ten letter'")
    await fails_with(Corrupt, read(store, "x"))


async def test_a_range_asks_only_for_the_chunks_it_touches(url: str) -> None:
    """Eight bytes across the border of two chunks are two chunks and one request."""
    data = os.urandom(12 * CHUNK_BYTES)
    async with opened(url) as store:
        await store.put(Key("x"), BytesSource(data))
        asked = listening(store)
        middle = 6 * CHUNK_BYTES
        assert await read(store, "x", middle - 4, middle + 4) == data[middle - 4 : middle + 4]
        assert asked == [2]
        assert await read(store, "x") == data
        assert asked == [2, 4, 4, 4]


def listening(store: TursoStore) -> list[int]:
    """How many chunks each request brings from now on."""
    counts = []
    answered, hrana = store._hrana.read, store._hrana

    async def counted(*statements: Any) -> Any:
        results = await answered(*statements)
        counts.append(len(results[-1].rows))
        return results

    hrana.read = counted  # type: ignore[method-assign]
    return counts


async def test_four_stores_made_at_once_are_one(url: str) -> None:
    stores = [TursoStore("turso", url) for _ in range(4)]
    await asyncio.gather(*(store.write_marker(STORE_ID) for store in stores))
    await stores[0].put(Key("x"), BytesSource(b"x"))
    for store in stores:
        assert await read(store, "x") == b"x"
        assert await store.read_marker() == STORE_ID
        await store.close()


async def test_the_layout_is_that_of_the_store_database(
    store: TursoStore, sqld: Sqld, url: str
) -> None:
    """Who downloads the database has a file that a store `database` can be pointed at."""
    await store.put(Key("x"), BytesSource(b"x"))
    named = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    tables = [row[0]["value"] for row in sqld.run(url, named)]
    assert tables == sorted(rows.Tables().all.tables)


# --- a server that dies ---------------------------------------------------------------------


async def test_what_was_put_survives_a_killed_server() -> None:
    data = random.Random(5).randbytes(LARGE)
    with running_sqld() as server:
        async with opened(server.new_database()) as store:
            await store.put(Key("x"), BytesSource(data))
            _, putting = await StoreContract().put_half(store, "y")
            server.kill()
            await fails_with(Unavailable, store.probe())
            putting.cancel()
            await fails_with(asyncio.CancelledError, putting)
            server.start()
            assert await read(store, "x") == data
            assert await store.stat("contract/y") is None
            await store.reap(timedelta(0))


# --- who may --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict() -> Iterator[Sqld]:
    """A server that lets in only who has a token."""
    with running_sqld(asks_for_tokens=True) as server:
        yield server


async def test_a_server_that_asks_for_a_token_lets_nobody_else_in(strict: Sqld) -> None:
    url = strict.new_database()
    async with opened(url, strict.token()) as store:
        await store.put(Key("x"), BytesSource(b"x"))
        assert await read(store, "x") == b"x"
    for token in (None, "nonsense", strict.token(lives_seconds=-100)):
        stranger = TursoStore("turso", url, token)
        for call in (stranger.probe(), stranger.stat("x"), read(stranger, "x")):
            await fails_with(PermissionDenied, call)
        await stranger.close()


async def test_a_token_that_only_reads_is_refused_when_it_writes(strict: Sqld) -> None:
    url = strict.new_database()
    async with opened(url, strict.token()) as store:
        await store.put(Key("x"), BytesSource(b"x"))
    reader = TursoStore("turso", url, strict.token("ro"))
    assert await read(reader, "x") == b"x"
    await fails_with(PermissionDenied, reader.put(Key("y"), BytesSource(b"y")))
    await reader.close()


async def test_a_database_that_was_blocked_has_no_room(
    store: TursoStore, sqld: Sqld, url: str
) -> None:
    await store.put(Key("x"), BytesSource(b"x"))
    sqld.blocks(url, "the quota of the plan is used up")
    await fails_with(QuotaExceeded, store.put(Key("y"), BytesSource(b"y")))
    assert await read(store, "x") == b"x"


async def test_a_database_that_is_not_there_is_misconfigured(sqld: Sqld) -> None:
    store = TursoStore("turso", f"http://127.0.0.1:{sqld.port}/dev/nothing-here")
    for call in (store.probe(), store.stat("x"), store.delete("x"), read(store, "x")):
        await fails_with(Misconfigured, call)
    await fails_with(Misconfigured, store.put(Key("x"), BytesSource(b"x")))
    await fails_with(Misconfigured, listed(store))
    await store.close()


async def test_a_database_without_its_tables_is_misconfigured(url: str) -> None:
    store = TursoStore("turso", url)
    for call in (store.probe(), store.stat("x"), store.delete("x"), read(store, "x")):
        await fails_with(Misconfigured, call)
    await fails_with(Misconfigured, store.put(Key("x"), BytesSource(b"x")))
    await store.close()


# --- what an answer may be ------------------------------------------------------------------


def batch_error(code: str) -> bytes:
    """A step that failed, in an answer 200."""
    error = {"message": f"something about {SECRET}", "code": code}
    batch = {"step_results": [None] * 4, "step_errors": [None, error, None, None]}
    result = {"type": "ok", "response": {"type": "batch", "result": batch}}
    return json.dumps({"baton": None, "base_url": None, "results": [result]}).encode()


def request_error(code: str) -> bytes:
    """The whole batch failed, in an answer 200."""
    error = {"message": f"something about {SECRET}", "code": code}
    return json.dumps({"results": [{"type": "error", "error": error}]}).encode()


CODES: dict[str, type[StoreError]] = {
    "SQLITE_BUSY": Unavailable,
    "SQLITE_BUSY_SNAPSHOT": Unavailable,
    "TRANSACTION_BUSY": Unavailable,
    "TRANSACTION_TIMEOUT": Unavailable,
    "STREAM_EXPIRED": Unavailable,
    "PROXY_ERROR": Unavailable,
    "something new": Unavailable,
    "BLOCKED": QuotaExceeded,
    "SQLITE_FULL": QuotaExceeded,
    "SQLITE_TOOBIG": TooLarge,
    "SQLITE_CORRUPT": Corrupt,
    "SQLITE_AUTH": PermissionDenied,
    "SQLITE_READONLY": PermissionDenied,
    "AUTH_JWT_EXPIRED": PermissionDenied,
    "SQLITE_UNKNOWN": Misconfigured,
}
STATUSES: dict[int, type[StoreError]] = {
    301: Misconfigured,
    400: Misconfigured,
    401: PermissionDenied,
    402: QuotaExceeded,
    403: PermissionDenied,
    404: Misconfigured,
    405: Misconfigured,
    408: TimedOut,
    409: Unavailable,
    413: TooLarge,
    429: Throttled,
    500: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: TimedOut,
    507: QuotaExceeded,
}
GARBLED: dict[bytes, type[StoreError]] = {
    b"": Truncated,
    b'{"baton":null,"results":[{"ty': Truncated,
    b"{}": Unavailable,
    b"[]": Unavailable,
    b'{"results":[]}': Unavailable,
    b'{"results":[{"type":"error","error":"busy"}]}': Unavailable,
    b'{"results":' * 10_000: Truncated,
    b'{"results":[{"type":"ok","response":{"type":"batch","result":null}}]}': Unavailable,
    json.dumps(
        {
            "results": [
                {
                    "type": "ok",
                    "response": {
                        "type": "batch",
                        "result": {"step_results": [None] * 4, "step_errors": [None] * 4},
                    },
                }
            ]
        }
    ).encode(): Unavailable,
}


@pytest.mark.parametrize("code", CODES)
async def test_the_code_of_a_statement_that_failed_decides(code: str) -> None:
    with scripted() as script:
        for body in (batch_error(code), request_error(code)):
            script.says(200, body)
            await every_verb_says(script, CODES[code])


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_without_a_code_decides(status: int) -> None:
    with scripted() as script:
        for body, content_type in ((HTML, "text/html"), (b'{"error":"no"}', "application/json")):
            script.says(status, body, content_type, location="/elsewhere")
            await every_verb_says(script, STATUSES[status])


async def test_an_expired_stream_may_pass_though_its_status_is_400() -> None:
    with scripted() as script:
        script.says(400, json.dumps({"message": "expired", "code": "STREAM_EXPIRED"}).encode())
        await every_verb_says(script, Unavailable)


async def test_a_page_for_people_is_no_database() -> None:
    with scripted() as script:
        script.says(200, HTML, "text/html")
        await every_verb_says(script, Misconfigured)


@pytest.mark.parametrize("number", range(len(GARBLED)))
async def test_an_answer_that_is_not_whole_is_never_an_absence(number: int) -> None:
    body, kind = list(GARBLED.items())[number]
    with scripted() as script:
        script.says(200, body)
        await every_verb_says(script, kind)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("", None), ("soon", None)])
async def test_who_is_asked_to_slow_down_is_told_for_how_long(
    header: str, seconds: float | None
) -> None:
    with scripted() as script:
        script.says(429, b"", retry_after=header)
        store = TursoStore("turso", script.url)
        with pytest.raises(Throttled) as raised:
            await store.stat("x")
        assert raised.value.retry_after == seconds
        await store.close()


async def every_verb_says(script: Script, kind: type[StoreError]) -> None:
    """And none repeats what the server said, or the token."""
    store = TursoStore("turso", script.url, SECRET)
    for call in (
        store.probe(),
        store.stat("x"),
        read(store, "x"),
        listed(store),
        store.delete("x"),
        store.put(Key("x"), BytesSource(b"x")),
        store.reap(timedelta(0)),
    ):
        with pytest.raises(kind) as raised:
            await call
        assert not isinstance(raised.value, NotFound)
        assert SECRET not in str(raised.value)
        assert str(raised.value).startswith("turso: ")
    await store.close()


# --- what a network may do ------------------------------------------------------------------

NETWORK = network_faults(at=50)


@pytest.mark.parametrize("name", NETWORK)
async def test_a_broken_connection_is_a_fault_that_may_pass(
    sqld: Sqld, url: str, name: str
) -> None:
    fault, kinds = NETWORK[name]
    data = random.Random(7).randbytes(3 * CHUNK_BYTES)
    with fault_proxy(sqld.port) as proxy:
        async with opened(url) as direct:
            await direct.put(Key("x"), BytesSource(data))
        far = url.replace(f"http://127.0.0.1:{sqld.port}", proxy.url)
        store = TursoStore("turso", far, SECRET, phases=IMPATIENT)
        proxy.suffers(fault)
        for call in (
            store.probe(),
            store.stat("x"),
            read(store, "x"),
            store.delete("nothing"),
            store.put(Key("y"), BytesSource(data)),
        ):
            with pytest.raises(kinds) as raised:
                await call
            assert SECRET not in str(raised.value)
        proxy.heals()
        assert await read(store, "x") == data
        kept = await store.stat("y")
        assert kept is None or kept.size_bytes == len(data)  # applied, and answered with a fault
        await store.close()


async def test_a_flipped_byte_is_an_error_or_the_same_number_of_bytes(sqld: Sqld, url: str) -> None:
    """Which bytes are right, only `reading` knows: it has the hashes."""
    data = random.Random(8).randbytes(2 * CHUNK_BYTES)
    with fault_proxy(sqld.port) as proxy:
        far = url.replace(f"http://127.0.0.1:{sqld.port}", proxy.url)
        async with opened(far) as store:
            await store.put(Key("x"), BytesSource(data))
            for at in range(0, 400_000, 40_000):
                proxy.suffers(flip(at=at), once=True)
                with suppress(StoreError):
                    assert len(await read(store, "x")) == len(data)
            proxy.heals()
            assert await read(store, "x") == data


async def test_a_reader_who_leaves_early_leaves_nothing_open(sqld: Sqld, url: str) -> None:
    with fault_proxy(sqld.port) as proxy:
        far = url.replace(f"http://127.0.0.1:{sqld.port}", proxy.url)
        async with opened(far, phases=replace(PHASES, connect=5)) as store:
            await store.put(Key("x"), BytesSource(os.urandom(LARGE)))
            for _ in range(5):
                async with aclosing(store.open("x")) as pieces:
                    await anext(pieces)
            assert proxy.open <= 1  # what is kept for the next request
        for _ in range(500):
            if not proxy.open:
                break
            await asyncio.sleep(0.01)
        assert not proxy.open


# --- the process ----------------------------------------------------------------------------


def test_memory_stays_small_and_a_store_left_open_lets_the_process_end(url: str) -> None:
    """40 MB pass through; the store is never closed."""
    assert growth("turso", url, 40) < 40  # MiB


@pytest.mark.drill
def test_half_a_gigabyte_takes_no_more_memory(url: str) -> None:
    assert growth("turso", url, 500) < 40  # MiB
