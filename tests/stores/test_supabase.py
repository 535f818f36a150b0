"""The store `supabase` against a small server that does as Supabase Storage does."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from servers.fake_supabase import (
    ANON_KEY,
    CHUNK_BYTES,
    SERVICE_KEY,
    FakeSupabase,
    Trouble,
    fake_supabase,
)
from servers.fault_proxy import Fault, fault_proxy, reset, truncate
from soundkeep.errors import (
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
)
from soundkeep.stores.guarded import Guarded
from soundkeep.stores.interface import MARKER_KEY, Key, Store
from soundkeep.stores.supabase import SupabaseStore
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import StoreContract
from soundkeep.testing.expecting import fails_with, listed, read
from stores.shared import HTML, IMPATIENT, STORE_ID, marked, network_faults

REAL = "SOUNDKEEP_TEST_SUPABASE_URL"
SOUND = random.Random(3).randbytes(300_000)
LONG_SOUND = random.Random(4).randbytes(2 * CHUNK_BYTES + 1000)


@pytest.fixture(scope="module")
def running() -> Iterator[FakeSupabase]:
    with fake_supabase() as server:
        yield server


@pytest.fixture
def server(running: FakeSupabase) -> FakeSupabase:
    running.begin_anew()
    return running


def store_at(url: str, bucket: str = "audio", key: str = SERVICE_KEY, **more: Any) -> SupabaseStore:
    return SupabaseStore("supabase", url, bucket, key, **more)


@asynccontextmanager
async def opened(server: FakeSupabase, **more: Any) -> AsyncIterator[SupabaseStore]:
    """A marked store in the bucket `audio`."""
    if "audio" not in server.buckets:
        server.new_bucket("audio", public=more.get("public", False))
    async with marked(store_at(more.pop("url", server.url), **more)) as store:
        yield store


@pytest.fixture
async def store(server: FakeSupabase) -> AsyncIterator[SupabaseStore]:
    async with opened(server) as store:
        yield store


class TestSupabase(StoreContract):
    """In a private bucket and a public one, by the newer list and the older; or in a bucket of a
    real project, if one is named."""

    @pytest.fixture(params=["private", "public", "an older server"])
    async def store(
        self, request: pytest.FixtureRequest, server: FakeSupabase
    ) -> AsyncIterator[Store]:
        if url := os.environ.get(REAL):
            bucket = os.environ["SOUNDKEEP_TEST_SUPABASE_BUCKET"]
            self.prefix = f"contract-{secrets.token_hex(6)}/"
            real = store_at(url, bucket, os.environ["SOUNDKEEP_TEST_SUPABASE_KEY"])
            async with marked(real) as store:
                yield store
            return
        server.has_list_v2 = server.has_codes = request.param != "an older server"
        public = request.param == "public"
        async with opened(server, public=public, max_bytes=50_000_000) as store:
            yield store


# --- absence --------------------------------------------------------------------------------


async def test_a_wrong_key_never_makes_anything_look_lost(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    """The service answers it with a missing bucket."""
    await store.put(Key("x"), BytesSource(SOUND))
    stranger = store_at(server.url, key="a-wrong-key-that-nobody-may-see")
    for call in (
        stranger.probe(),
        stranger.stat("x"),
        read(stranger, "x"),
        listed(stranger),
        stranger.delete("x"),
        stranger.sign("x", timedelta(minutes=1)),
        stranger.put(Key("x"), BytesSource(b"x")),
    ):
        with pytest.raises((Misconfigured, PermissionDenied)) as raised:
            await call
        assert "wrong-key" not in str(raised.value)
    await stranger.close()
    assert await read(store, "x") == SOUND


async def test_what_a_key_may_not_see_is_not_believed_to_be_absent(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    """Row-level security hides objects. The marker is hidden with them."""
    await store.put(Key("x"), BytesSource(SOUND))

    async def expected_id() -> str:
        return STORE_ID

    hidden = Guarded(store_at(server.url, key=ANON_KEY), expected_id)
    for call in (hidden.stat("x"), read(hidden, "x"), hidden.delete("x"), listed(hidden)):
        await fails_with(Misconfigured, call)
    await hidden.close()


async def test_a_bucket_that_is_not_there_is_misconfigured(server: FakeSupabase) -> None:
    store = store_at(server.url, "nothing-here")
    for call in (
        store.probe(),
        store.read_marker(),
        store.write_marker("id-1"),
        store.stat("x"),
        read(store, "x"),
        store.delete("x"),
        store.put(Key("x"), BytesSource(b"x")),
    ):
        await fails_with(Misconfigured, call)
    await store.close()


@pytest.mark.parametrize("public", [True, False])
async def test_a_bucket_that_is_public_against_the_settings_is_refused(
    server: FakeSupabase, public: bool
) -> None:
    server.new_bucket("audio", public=not public)
    store = store_at(server.url, public=public)
    for call in (store.probe(), store.write_marker("id-1"), store.put(Key("x"), BytesSource(b""))):
        await fails_with(Misconfigured, call)
    assert not server.objects
    await store.close()


# --- what the bucket itself refuses ----------------------------------------------------------


async def test_the_limits_of_the_bucket_become_those_of_the_store(server: FakeSupabase) -> None:
    server.new_bucket("audio", max_bytes=1000, types=["audio/mpeg", "audio/flac"])
    async with opened(server, types=frozenset({"audio/mpeg", "audio/ogg"})) as store:
        assert store.caps.max_bytes == 1000
        assert store.caps.types == frozenset({"audio/mpeg"})
        assert not store.caps.sidecars
        asked = len(server.asked)
        await fails_with(TooLarge, store.put(Key("x"), BytesSource(bytes(1001))))
        await store.put(Key("x"), BytesSource(bytes(1000)))
        assert len(server.asked) == asked + 1


async def test_what_was_set_is_kept_to_where_the_bucket_takes_more(server: FakeSupabase) -> None:
    server.new_bucket("audio", max_bytes=1000)
    async with opened(server, max_bytes=10) as store:
        assert (store.caps.max_bytes, store.caps.types) == (10, None)
        assert store.caps.sidecars
        await fails_with(TooLarge, store.put(Key("x"), BytesSource(bytes(11))))


async def test_a_bucket_for_sound_alone_holds_the_marker_and_no_json(server: FakeSupabase) -> None:
    server.new_bucket("audio", types=["audio/*"])
    async with opened(server) as store:
        assert await store.read_marker() == STORE_ID
        assert not store.caps.sidecars
        await store.put(Key("x"), BytesSource(SOUND, media_type="audio/ogg"))
        letter = BytesSource(b"{}", media_type="application/json")
        await fails_with(Unsupported, store.put(Key("x.json"), letter))
    assert server.names("audio") == [MARKER_KEY, "x"]


async def test_a_limit_that_was_changed_meanwhile_is_told_by_the_service(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    server.buckets["audio"].max_bytes = 1000
    await fails_with(TooLarge, store.put(Key("x"), BytesSource(SOUND)))
    await fails_with(TooLarge, store.put(Key("x"), BytesSource(LONG_SOUND)))
    server.buckets["audio"].types = ["image/png"]
    await fails_with(Unsupported, store.put(Key("x"), BytesSource(b"x")))
    assert await store.stat("x") is None


# --- names, links, headers ------------------------------------------------------------------


async def test_a_name_that_the_service_does_not_take_is_spelled(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    receipt = await store.put(Key("Grüße/a=b.mp3"), BytesSource(SOUND))
    assert receipt.locator == "Gr=C3=BC=C3=9Fe/a=3Db.mp3"
    assert server.names("audio") == [MARKER_KEY, receipt.locator]
    assert await read(store, receipt.locator) == SOUND


async def test_an_object_that_somebody_else_put_there_is_read_by_its_own_name(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    ours = await store.put(Key("x"), BytesSource(SOUND))
    server.objects["audio", "by hand/a=b (1).mp3"] = server.objects["audio", ours.locator]
    assert await listed(store) == ["by hand/a=b (1).mp3", "x"]
    assert await read(store, "by hand/a=b (1).mp3") == SOUND
    await store.delete("by hand/a=b (1).mp3")
    assert await listed(store) == ["x"]


@pytest.mark.parametrize("name", ["x", "with space & more?.mp3", "Grüße.mp3"])
async def test_a_link_plays_without_a_key(store: SupabaseStore, name: str) -> None:
    receipt = await store.put(Key(name), BytesSource(SOUND))
    url = await store.sign(receipt.locator, timedelta(minutes=1)) or ""
    assert await asyncio.to_thread(fetched, url) == SOUND
    assert SERVICE_KEY not in url
    assert await store.sign("nothing", timedelta(minutes=1)) is None


async def test_what_lies_in_a_public_bucket_says_how_long_it_may_be_kept(
    server: FakeSupabase,
) -> None:
    async with opened(server, public=True, single_put_bytes=100) as store:
        for name, data in (("small", b"x"), ("large", SOUND)):
            await store.put(Key(name), BytesSource(data, cache_seconds=77))
            assert server.objects["audio", name].cache_control == "max-age=77"
            assert server.objects["audio", name].media_type == "audio/mpeg"
            url = f"{server.url}/storage/v1/object/public/audio/{name}"
            assert await asyncio.to_thread(fetched, url) == data


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
        return body


# --- in chunks ------------------------------------------------------------------------------


async def test_large_objects_go_in_chunks_of_six_mebibytes(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    for size in (CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, len(LONG_SOUND)):
        server.chunks.clear()
        data = LONG_SOUND[:size]
        await store.put(Key("x"), BytesSource(data))
        assert server.objects["audio", "x"].body == data
        starts = range(0, size, CHUNK_BYTES) if size > CHUNK_BYTES else ()
        wanted = [(start, min(CHUNK_BYTES, size - start)) for start in starts]
        assert server.chunks == wanted


@pytest.mark.parametrize("announced", [CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES])
async def test_a_source_of_another_length_never_becomes_an_object_in_chunks(
    store: SupabaseStore, server: FakeSupabase, announced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundkeep.testing.sources.PIECE_BYTES", CHUNK_BYTES)
    source = BytesSource(LONG_SOUND, announced_bytes=announced)
    await fails_with(StoreError, store.put(Key("x"), source))
    assert await store.stat("x") is None
    assert not server.uploads


async def test_an_upload_goes_on_where_a_cut_left_it(server: FakeSupabase) -> None:
    """What of a chunk had arrived is not sent again."""
    with fault_proxy(server.port) as proxy:
        async with opened(server) as direct:
            await direct.probe()
        async with opened(server, url=proxy.url) as store:
            putting = asyncio.create_task(store.put(Key("x"), BytesSource(LONG_SOUND)))
            for _ in range(2):
                await until_a_chunk_is_half_there(server)
                proxy.drop()
            await putting
    assert server.objects["audio", "x"].body == LONG_SOUND
    resumed = [offset for offset, _ in server.chunks if offset % CHUNK_BYTES]
    assert resumed


async def until_a_chunk_is_half_there(server: FakeSupabase) -> None:
    for _ in range(10_000):
        if any(len(upload.body) % CHUNK_BYTES for upload in server.uploads.values()):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("no chunk came")


async def test_a_chunk_that_was_taken_and_answered_with_an_error_is_not_sent_again(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    server.fails(Trouble(503, applied=True, of="PATCH", times=1))
    await store.put(Key("x"), BytesSource(LONG_SOUND))
    assert server.objects["audio", "x"].body == LONG_SOUND
    assert [offset for offset, _ in server.chunks] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]


async def test_an_upload_that_does_not_get_on_is_given_up_and_thrown_away(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    server.fails(Trouble(503, of="PATCH"))
    await fails_with(Unavailable, store.put(Key("x"), BytesSource(LONG_SOUND)))
    assert not server.uploads
    assert await store.stat("x") is None
    assert sum("PATCH" in line for line in server.asked) == 1 + 4


async def test_an_upload_that_the_service_forgot_begins_anew_next_time(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    server.fails(Trouble(404, b"Upload not found", "text/plain", of="PATCH", times=1))
    await fails_with(Unavailable, store.put(Key("x"), BytesSource(LONG_SOUND)))
    assert await store.stat("x") is None
    await store.put(Key("x"), BytesSource(LONG_SOUND))
    assert await read(store, "x") == LONG_SOUND


async def test_an_upload_that_is_forgotten_with_its_last_chunk_may_be_tried_again(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    """The answer to a chunk was lost, and then nobody knows the upload any more."""

    server.forgets = True
    server.fails(Trouble(503, applied=True, of="PATCH"))
    with pytest.raises(Unavailable, match="forgotten"):
        await store.put(Key("x"), BytesSource(LONG_SOUND))


# --- set-up ---------------------------------------------------------------------------------


async def test_a_bucket_is_made_where_there_is_none_and_left_alone_where_there_is(
    server: FakeSupabase,
) -> None:
    store = store_at(server.url, "a new one", public=True, max_bytes=1000)
    for _ in range(2):
        assert "a new one" in await store.prepare()
    assert (server.buckets["a new one"].public, server.buckets["a new one"].max_bytes) == (
        True,
        1000,
    )
    await store.close()
    other = store_at(server.url, "a new one", public=False)
    await fails_with(Misconfigured, other.prepare())
    await other.close()
    stranger = store_at(server.url, "another", key=ANON_KEY)
    await fails_with(PermissionDenied, stranger.prepare())
    await stranger.close()


SUPABASE = """
CREATE ROLE {role} NOLOGIN;
CREATE SCHEMA storage; CREATE SCHEMA auth;
CREATE TABLE storage.objects (bucket_id text, name text);
CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql
    AS $$ SELECT (string_to_array(name, '/'))[1:array_length(string_to_array(name, '/'), 1) - 1] $$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql
    AS $$ SELECT current_setting('request.uid')::uuid $$;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA storage, auth TO {role};
GRANT ALL ON storage.objects TO {role};
"""
ANNA, BEN = "6e1f4f0c-0000-4000-8000-00000000000a", "6e1f4f0c-0000-4000-8000-00000000000b"


async def test_by_the_policies_owners_read_what_is_theirs_and_nothing_else(
    server: FakeSupabase, postgres_url: str
) -> None:
    """Run in a PostgreSQL that has what Supabase's has, as far as they ask for it."""
    store = store_at(server.url)
    role = f"authenticated_{secrets.token_hex(4)}"
    script = (await store.prepare()).replace("to authenticated", f"to {role}")
    await store.close()
    names = [f"{ANNA}/a.mp3", f"{BEN}/b.mp3", "blobs/x", MARKER_KEY]
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as database:
        run = database.execute
        run(SUPABASE.format(role=role))  # type: ignore[arg-type] # only LiteralString is wanted
        try:
            for _ in range(2):
                run(script)  # type: ignore[arg-type]
            for bucket in ("audio", "other"):
                for name in names:
                    run("INSERT INTO storage.objects VALUES (%s, %s)", (bucket, name))
            run(f"SET ROLE {role}")  # type: ignore[arg-type]
            run("SELECT set_config('request.uid', %s, false)", (ANNA,))
            assert run("SELECT * FROM storage.objects").fetchall() == [("audio", f"{ANNA}/a.mp3")]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                run("INSERT INTO storage.objects VALUES ('audio', %s)", (f"{ANNA}/new.mp3",))
        finally:
            run("RESET ROLE")
            run(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


# --- what an answer may be ------------------------------------------------------------------


def said(status: int, code: str = "", error: str = "", message: str = "") -> bytes:
    text = {"statusCode": status, "code": code, "error": error, "message": message}
    return str({k: str(v) for k, v in text.items() if v}).replace("'", '"').encode()


JSON = "application/json"
ANSWERS: dict[str, tuple[Trouble, type[StoreError]]] = {
    "a code": (Trouble(400, said(404, "NoSuchBucket")), Misconfigured),
    "words": (Trouble(400, said(404, error="Bucket not found")), Misconfigured),
    "a lone 404": (Trouble(404), Misconfigured),
    "a 404 of a gateway": (Trouble(404, said(404, message="no Route matched")), Misconfigured),
    "a tenant": (Trouble(400, said(400, "TenantNotFound")), Misconfigured),
    "paused": (Trouble(540), Misconfigured),
    "moved": (Trouble(302, headers={"location": "/elsewhere"}), Misconfigured),
    "a page for people": (Trouble(200, HTML, "text/html"), Misconfigured),
    "a key that is over": (Trouble(400, said(400, "ExpiredToken")), PermissionDenied),
    "a jwt": (Trouble(400, said(400, message="jwt expired")), PermissionDenied),
    "denied": (Trouble(400, said(403, "AccessDenied")), PermissionDenied),
    "401": (Trouble(401), PermissionDenied),
    "403": (Trouble(403, HTML, "text/html"), PermissionDenied),
    "unpaid": (Trouble(402), QuotaExceeded),
    "full": (Trouble(507), QuotaExceeded),
    "large": (Trouble(400, said(413, "EntityTooLarge")), TooLarge),
    "large at the gateway": (Trouble(413, HTML, "text/html"), TooLarge),
    "slower": (Trouble(429, headers={"retry-after": "7"}), Throttled),
    "slower, told in words": (Trouble(400, said(429, "SlowDown")), Throttled),
    "a database that is late": (Trouble(544, said(544, "DatabaseTimeout")), TimedOut),
    "a gateway that is late": (Trouble(504, HTML, "text/html"), TimedOut),
    "500": (Trouble(500, said(500, "InternalError")), Unavailable),
    "502": (Trouble(502, HTML, "text/html"), Unavailable),
    "503": (Trouble(503), Unavailable),
    "locked": (Trouble(400, said(423, "ResourceLocked")), Unavailable),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_every_refusal_is_an_error_of_ours_and_never_an_absence(
    store: SupabaseStore, server: FakeSupabase, name: str
) -> None:
    trouble, kind = ANSWERS[name]
    await store.put(Key("x"), BytesSource(SOUND))
    server.fails(trouble)
    for call in (
        store.probe(),
        store.read_marker(),
        store.stat("x"),
        read(store, "x"),
        listed(store),
        store.delete("x"),
        store.sign("x", timedelta(minutes=1)),
        store.put(Key("x"), BytesSource(b"other")),
        store.put(Key("x"), BytesSource(LONG_SOUND)),
    ):
        with pytest.raises(kind) as raised:
            await call
        assert not isinstance(raised.value, NotFound)
        assert SERVICE_KEY not in str(raised.value)
        assert str(raised.value).startswith("supabase: ")
    server.fails(None)
    assert await read(store, "x") == SOUND


async def test_who_is_asked_to_slow_down_is_told_for_how_long(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    server.fails(Trouble(429, headers={"retry-after": "7"}))
    with pytest.raises(Throttled) as raised:
        await store.stat("x")
    assert raised.value.retry_after == 7


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"objects": 1}', b"\xff"])
async def test_an_answer_that_is_not_whole_is_never_an_absence(
    store: SupabaseStore, server: FakeSupabase, body: bytes
) -> None:
    await store.put(Key("x"), BytesSource(SOUND))
    for of in (
        "/object/info",
        "/object/list",
        "/object/sign",
        "/bucket",
        "POST /storage/v1/object/audio",
    ):
        server.fails(Trouble(200, body, of=of))
        for call in (
            store.stat("x") if "info" in of else None,
            listed(store) if "list" in of else None,
            store.sign("x", timedelta(minutes=1)) if "sign" in of else None,
            store.probe() if "bucket" in of else None,
            store.put(Key("x"), BytesSource(SOUND)) if "audio" in of else None,
        ):
            if call is not None:
                await fails_with(StoreError, call)
    server.fails(None)
    assert await read(store, "x") == SOUND


# --- what a network may do ------------------------------------------------------------------

NETWORK = network_faults(at=20)


@pytest.mark.parametrize("name", NETWORK)
async def test_a_broken_connection_is_a_fault_that_may_pass(
    server: FakeSupabase, name: str
) -> None:
    fault, kinds = NETWORK[name]
    with fault_proxy(server.port) as proxy:
        async with opened(server, url=proxy.url, phases=IMPATIENT) as store:
            await store.put(Key("x"), BytesSource(SOUND))
            proxy.suffers(fault)
            for call in (
                store.probe(),
                store.stat("x"),
                read(store, "x"),
                listed(store),
                store.put(Key("y"), BytesSource(SOUND)),
            ):
                with pytest.raises(kinds) as raised:
                    await call
                assert SERVICE_KEY not in str(raised.value)
            proxy.heals()
            assert await read(store, "x") == SOUND
            kept = await store.stat("y")
            assert kept is None or kept.size_bytes == len(SOUND)


@pytest.mark.parametrize("fault", [reset(at=100_000), truncate(at=100_000)], ids=["reset", "end"])
async def test_a_body_that_breaks_off_goes_on_at_the_same_byte(
    server: FakeSupabase, fault: Fault
) -> None:
    with fault_proxy(server.port) as proxy:
        async with opened(server, url=proxy.url) as store:
            await store.put(Key("x"), BytesSource(SOUND))
            proxy.suffers(fault, once=True)
            assert await read(store, "x") == SOUND


async def test_a_list_of_many_pages_is_complete(
    store: SupabaseStore, server: FakeSupabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundkeep.stores.supabase_listing.LISTED_AT_ONCE", 2)
    names = ["A", "a", "b/1", "b/2", "b/3", "b0", "c"]
    for name in names:
        await store.put(Key(name), BytesSource(b"x"))
    assert await listed(store) == names
    server.has_list_v2 = False
    older = store_at(server.url)
    assert await listed(older) == names
    assert await listed(older, "b") == ["b/1", "b/2", "b/3", "b0"]
    await older.close()


@pytest.mark.parametrize("body", [b"[" * 10_000, b'{"statusCode": "' + b"9" * 5000 + b'"}'])
async def test_a_refusal_in_nonsense_is_an_error_of_its_kind(
    store: SupabaseStore, server: FakeSupabase, body: bytes
) -> None:
    for status, kind in ((400, Misconfigured), (503, Unavailable), (200, StoreError)):
        server.fails(Trouble(status, body))
        await fails_with(kind, store.stat("x"))


@pytest.mark.parametrize(
    "said", [b'{"signedURL": "/object/sign/audio/x"}', b'{"signedURL": "?token="}']
)
async def test_a_link_without_a_token_is_given_to_nobody(
    store: SupabaseStore, server: FakeSupabase, said: bytes
) -> None:
    server.fails(Trouble(200, said))
    await fails_with(Unavailable, store.sign("x", timedelta(minutes=1)))


async def test_a_list_that_turns_in_a_circle_ends(
    store: SupabaseStore, server: FakeSupabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cursors that lead to one another; a server that knows no `offset`."""
    monkeypatch.setattr("soundkeep.stores.supabase_listing.LISTED_AT_ONCE", 2)
    for name in ("a", "b", "c"):
        await store.put(Key(name), BytesSource(b"x"))
    pages = [
        {"objects": [], "hasNext": True, "nextCursor": "1"},
        {"objects": [], "hasNext": True, "nextCursor": "2"},
    ]
    turns = itertools.islice(itertools.cycle(pages), 20)
    with monkeypatch.context() as patch:
        patch.setattr(store._requests, "ask", lambda *_: answered(next(turns)))
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await listed(store)
    server.has_list_v2 = False
    server.knows_offset = False
    older = store_at(server.url)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await listed(older)
    await older.close()


async def test_folders_that_are_told_with_their_slash_are_walked(
    store: SupabaseStore, server: FakeSupabase
) -> None:
    """And an object without a name, which no key of ours is, leads nowhere."""
    names = ["a/1", "a/2", "b"]
    for name in names:
        await store.put(Key(name), BytesSource(b"x"))
    server.objects["audio", "a//foreign"] = server.objects["audio", "b"]
    server.has_list_v2 = False
    server.slashes = True
    older = store_at(server.url)
    async with asyncio.timeout(10):
        assert await listed(older) == names
    await older.close()


async def answered(what: object) -> object:
    return what
