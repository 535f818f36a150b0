"""What a bucket owes, on a real S3 that checks what it is sent and on a poorer one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import time
import tracemalloc
import urllib.request
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from servers.s3_plain import Bucket, sent
from servers.seaweed import DOMAIN, OWNER, SeaweedFS
from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.errors import (
    BadPath,
    Corrupt,
    Misconfigured,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from soundkeep.stores.interface import MARKER_KEY, Bytes, Key, Receipt, Store
from soundkeep.stores.s3 import S3Store
from soundkeep.stores.s3_signing import Credentials
from soundkeep.stores.sources import FileSource
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import StoreContract
from soundkeep.testing.expecting import fails_with, listed, read
from soundkeep.testing.sources import BreakingSource, WaitingSource

MIB = 1024 * 1024
DEAD_PORT = 1  # nobody listens there


def store_in(bucket: Bucket, **settings: Any) -> S3Store:
    settings = {"region": bucket.region, "max_bytes": 500 * MIB, **settings}
    return S3Store("bucket", bucket.name, bucket.endpoint, bucket.credentials, **settings)


@pytest.fixture
def bucket(seaweed: SeaweedFS) -> Bucket:
    return seaweed.bucket


@pytest.fixture
def prefix() -> str:
    """A test's own part of the bucket."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def store(bucket: Bucket, prefix: str) -> AsyncIterator[S3Store]:
    async with opened(bucket, prefix=prefix) as store:
        yield store


@contextlib.asynccontextmanager
async def opened(bucket: Bucket, **settings: Any) -> AsyncIterator[S3Store]:
    store = store_in(bucket, **settings)
    try:
        yield store
    finally:
        await store.close()


class TestSeaweedFS(StoreContract):
    prefix = f"contract-{uuid.uuid4().hex}/"

    @pytest.fixture
    async def store(self, seaweed: SeaweedFS) -> AsyncIterator[Store]:
        store = store_in(seaweed.bucket)
        await store.write_marker("id-1")
        yield store
        await store.close()


class TestInParts(TestSeaweedFS):
    """Every object that is not small goes in parts."""

    prefix = f"contract-{uuid.uuid4().hex}/"

    @pytest.fixture
    async def store(self, seaweed: SeaweedFS) -> AsyncIterator[Store]:
        store = store_in(seaweed.bucket, single_put_bytes=300_000, part_bytes=5 * MIB)
        await store.write_marker("id-1")
        yield store
        await store.close()


class TestRclone(StoreContract):
    @pytest.fixture
    async def store(self, rclone_s3: Bucket) -> AsyncIterator[Store]:
        store = store_in(rclone_s3)
        await store.write_marker("id-1")
        yield store
        await store.close()

    async def test_puts_of_one_key_at_once_leave_one_of_them_whole(self, store: Store) -> None:
        """Which rclone does not do: it writes into the file itself. Of 1,400 times four puts at
        once it lost the object 8 times, and 3 times told a size that the file did not have, so that
        reading it ended in 416; some puts it refused. It proves nothing of what it takes, so all of
        that is found when it is read back, and the next put repairs it."""
        key = self.key("contested")
        puts = (store.put(key, BytesSource(os.urandom(2 * CHUNK_BYTES + n))) for n in range(4))
        receipts = await asyncio.gather(*puts, return_exceptions=True)
        answered = [one for one in receipts if isinstance(one, Receipt)]
        assert {receipt.verified for receipt in answered} <= {None}
        data = os.urandom(CHUNK_BYTES + 1)
        receipt = await store.put(key, BytesSource(data))
        assert await read(store, receipt.locator) == data


# --- how large an object is -----------------------------------------------------------------


@pytest.mark.parametrize("beyond", [-1, 0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1])
async def test_an_object_is_whole_at_every_edge_of_one_put_and_of_parts(
    bucket: Bucket, prefix: str, beyond: int
) -> None:
    data = bytes(range(256)) * (5 * MIB // 256) + bytes(5 * MIB + 1)
    data = data[: 5 * MIB + beyond]
    settings = {"prefix": prefix, "single_put_bytes": 5 * MIB, "part_bytes": 5 * MIB}
    async with opened(bucket, **settings) as store:
        receipt = await store.put(Key("edge"), BytesSource(data))
        parts = (len(data) - 1) // (5 * MIB) + 1
        in_parts = receipt.etag is not None and receipt.etag.endswith(f'-{parts}"')
        assert in_parts == (beyond > 0)
        assert receipt.verified == ("sha256 of each part" if in_parts else "sha256")
        assert await read(store, "edge") == data


async def test_parts_grow_when_there_would_be_too_many(bucket: Bucket, prefix: str) -> None:
    settings = {"prefix": prefix, "single_put_bytes": 1, "part_bytes": 1}
    async with opened(bucket, **settings) as store:
        sizes = store._uploads._size_of_parts(BytesSource(b"", announced_bytes=50_000 * MIB))
        assert 50_000 * MIB / sizes <= 10_000


@dataclass(frozen=True)
class Streamed:
    """One piece, over and over, under a digest that need not be right."""

    piece: bytes
    digest: Digest
    times: int = 1
    media_type: str = "audio/mpeg"
    cache_seconds: int | None = None
    file: Path | None = None
    checked: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.piece) * self.times

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        for _ in range(self.times):
            yield self.piece


@pytest.mark.parametrize(("single_put_bytes", "most"), [(100 * MIB, 8 * MIB), (MIB, 32 * MIB)])
async def test_a_long_stream_is_never_held_whole(
    bucket: Bucket, prefix: str, single_put_bytes: int, most: int
) -> None:
    piece = bytes(100_000)
    digest = Digest.of(piece * 600)
    source = Streamed(piece, digest, times=600)
    settings = {"single_put_bytes": single_put_bytes, "part_bytes": 5 * MIB}
    async with opened(bucket, prefix=prefix, **settings) as store:
        await store.put(Key("warm"), Streamed(piece, Digest.of(piece * 60), times=60))
        tracemalloc.start()
        await store.put(Key("long"), source)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < most
        stat = await store.stat("long")
        assert stat is not None
        assert stat.size_bytes == 60_000_000


async def test_many_uploads_in_parts_share_the_memory_for_them(bucket: Bucket, prefix: str) -> None:
    """Of ten, each with parts of 5 MiB, four are held at once, each once more in the buffer of its
    connection: without the bound it is 160 MB."""
    piece = bytes(100_000)
    digest = Digest.of(piece * 160)
    settings = {"prefix": prefix, "single_put_bytes": MIB, "part_bytes": 5 * MIB}
    async with opened(bucket, **settings) as store:
        await store.put(Key("warm"), Streamed(piece, Digest.of(piece * 60), times=60))
        tracemalloc.start()
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                source = Copied(piece, digest, times=160)
                group.create_task(store.put(Key(f"together/{number}"), source))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 80 * MIB


@dataclass(frozen=True)
class Copied(Streamed):
    """Every piece in memory of its own."""

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        for _ in range(self.times):
            yield bytes(bytearray(self.piece))


# --- verified -------------------------------------------------------------------------------


async def test_a_server_that_refuses_a_wrong_digest_verifies_puts(store: S3Store) -> None:
    assert not store.caps.verifies_sha256
    receipt = await store.put(Key("x"), BytesSource(b"x"))
    assert receipt.verified == "sha256"
    assert store.caps.verifies_sha256
    stat = await store.stat("x")
    assert stat is not None
    assert stat.sha256 == Digest.of(b"x")


async def test_a_server_that_takes_a_wrong_digest_verifies_nothing(
    rclone_s3: Bucket, prefix: str
) -> None:
    """It even gives the digest back that it never looked at."""
    async with opened(rclone_s3, prefix=prefix, part_bytes=5 * MIB) as store:
        assert (await store.put(Key("x"), BytesSource(b"x"))).verified is None
        assert not store.caps.verifies_sha256
        stat = await store.stat("x")
        assert stat is not None
        assert stat.sha256 is None
        answer = rclone_s3.ask("GET", query=f"list-type=2&prefix={prefix}%2F.soundkeep%2Fch")
        assert b"<Key>" not in answer.body, "the lie was left behind"


async def test_parts_are_verified_only_by_a_server_that_refuses_wrong_ones(
    rclone_s3: Bucket, prefix: str
) -> None:
    settings = {"prefix": prefix, "single_put_bytes": 1, "part_bytes": 5 * MIB}
    async with opened(rclone_s3, **settings) as store:
        data = bytes(6 * MIB)
        assert (await store.put(Key("x"), BytesSource(data))).verified is None
        assert await read(store, "x") == data


@pytest.mark.parametrize("single_put_bytes", [MIB, 100])
async def test_other_bytes_than_the_source_promised_are_refused_and_the_former_stay(
    bucket: Bucket, prefix: str, single_put_bytes: int
) -> None:
    async with opened(bucket, prefix=prefix, single_put_bytes=single_put_bytes) as store:
        await store.put(Key("x"), BytesSource(b"good" * 100))
        await fails_with(Corrupt, store.put(Key("x"), Streamed(b"evil" * 100, Digest.of(b"good"))))
        assert await read(store, "x") == b"good" * 100


# --- parts that were left behind ------------------------------------------------------------


async def test_parts_of_a_put_that_failed_or_was_cancelled_are_thrown_away(
    bucket: Bucket, prefix: str
) -> None:
    async with opened(bucket, prefix=prefix, single_put_bytes=1, part_bytes=5 * MIB) as store:
        data = bytes(12 * MIB)
        await fails_with(ConnectionResetError, store.put(Key("broken"), BreakingSource(data)))
        source = WaitingSource(data)
        putting = asyncio.create_task(store.put(Key("cancelled"), source))
        await source.half_given.wait()
        putting.cancel()
        await fails_with(asyncio.CancelledError, putting)
        assert uploads_in(bucket, prefix) == []
        assert await listed(store) == []


async def test_orphan_parts_are_reaped_when_they_are_old_and_only_ours(
    bucket: Bucket, prefix: str, store: S3Store
) -> None:
    for key in (f"{prefix}/orphan", f"{prefix}-of-another/orphan"):
        begun = bucket.ask("POST", key, query="uploads=")
        upload = re.findall(r"<UploadId>(.+?)<", begun.body.decode())[0]
        part = bucket.ask("PUT", key, b"part", query=f"partNumber=1&uploadId={upload}")
        assert (begun.status, part.status) == (200, 200)
    assert await store.reap(timedelta(hours=1)) == 0
    assert uploads_in(bucket, prefix) != []
    assert await store.reap(timedelta(0)) == 1
    assert uploads_in(bucket, prefix) == [f"{prefix}-of-another/orphan"]
    assert await store.reap(timedelta(0)) == 0


def uploads_in(bucket: Bucket, prefix: str) -> list[str]:
    answer = bucket.ask("GET", query=f"prefix={prefix}&uploads=")
    assert answer.status == 200
    return re.findall(r"<Key>(.+?)</Key>", answer.body.decode())


# --- what others see ------------------------------------------------------------------------


@pytest.mark.parametrize("single_put_bytes", [MIB, 1])
async def test_an_object_has_its_type_and_how_long_caches_may_keep_it(
    bucket: Bucket, prefix: str, single_put_bytes: int
) -> None:
    async with opened(bucket, prefix=prefix, single_put_bytes=single_put_bytes) as store:
        await store.put(Key("public"), BytesSource(b"12", "audio/flac", cache_seconds=3600))
        await store.put(Key("private"), BytesSource(b"12", "audio/ogg"))
    public = bucket.ask("HEAD", f"{prefix}/public").headers
    private = bucket.ask("HEAD", f"{prefix}/private").headers
    assert (public["content-type"], private["content-type"]) == ("audio/flac", "audio/ogg")
    assert public["cache-control"] == "public, max-age=3600"
    assert "cache-control" not in private


async def test_a_signed_url_plays_without_a_key_until_it_expires(store: S3Store) -> None:
    data = bytes(range(256)) * 10
    key = Key("odd/a+b c&d=é.mp3")
    await store.put(key, BytesSource(data))
    url = await store.sign(str(key), timedelta(minutes=5))
    assert url is not None
    assert await asyncio.to_thread(fetched, url) == (200, data)
    assert await asyncio.to_thread(fetched, url, "bytes=5-9") == (206, data[5:10])
    longer = url.replace("X-Amz-Expires=300", "X-Amz-Expires=301")
    assert (await asyncio.to_thread(fetched, longer))[0] == 403
    brief = await store.sign(str(key), timedelta(seconds=1))
    assert brief is not None
    deadline = time.monotonic() + 20
    while (await asyncio.to_thread(fetched, brief))[0] != 403:
        assert time.monotonic() < deadline, "the link never expires"
        await asyncio.sleep(0.1)


def fetched(url: str, byte_range: str | None = None) -> tuple[int, bytes]:
    headers = {"Range": byte_range} if byte_range else {}
    answer = sent(urllib.request.Request(url, headers=headers))
    return answer.status, answer.body


async def test_the_bucket_can_be_part_of_the_hosts_name(
    bucket: Bucket, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_localhost_have_subdomains(monkeypatch)
    named = replace(bucket, endpoint=bucket.endpoint.replace("127.0.0.1", DOMAIN))
    settings = {"prefix": prefix, "style": "virtual", "single_put_bytes": 100}
    async with opened(named, **settings) as store:
        await store.write_marker("id-1")
        assert await store.read_marker() == "id-1"
        for key, data in (("small", b"x"), ("in parts", bytes(1000))):
            await store.put(Key(key), BytesSource(data))
            assert await read(store, key) == data
            url = await store.sign(key, timedelta(minutes=1)) or ""
            assert url.startswith(f"http://{bucket.name}.localhost:")
            assert await asyncio.to_thread(fetched, url) == (200, data)
        assert await listed(store) == ["in parts", "small"]
        await store.delete("small")
        assert await store.stat("small") is None
    assert bucket.ask("HEAD", f"{prefix}/in parts").status == 200


def let_localhost_have_subdomains(monkeypatch: pytest.MonkeyPatch) -> None:
    """As RFC 6761 wants it, and not every system's resolver does it."""
    asked = socket.getaddrinfo

    def answered(host: Any, *arguments: Any, **named: Any) -> Any:
        local = isinstance(host, str) and host.endswith(f".{DOMAIN}")
        return asked("127.0.0.1" if local else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answered)


async def test_stores_with_prefixes_share_a_bucket_and_see_nothing_of_each_other(
    bucket: Bucket, prefix: str
) -> None:
    async with (
        opened(bucket, prefix=f"{prefix}/a") as a,
        opened(bucket, prefix=f"{prefix}/ab") as b,
    ):
        await a.write_marker("id-a")
        assert await b.read_marker() is None
        await b.write_marker("id-b")
        await a.put(Key("x"), BytesSource(b"of a"))
        await b.put(Key("x"), BytesSource(b"of b"))
        await b.put(Key("y"), BytesSource(b"of b"))
        assert (await listed(a), await listed(b)) == (["x"], ["x", "y"])
        await b.delete("x")
        assert await read(a, "x") == b"of a"
        assert (await a.read_marker(), await b.read_marker()) == ("id-a", "id-b")
    assert bucket.ask("GET", f"{prefix}/a/x").body == b"of a"
    assert json.loads(bucket.ask("GET", f"{prefix}/a/{MARKER_KEY}").body) == {"id": "id-a"}


async def test_a_list_of_several_pages_is_complete_and_in_order(
    bucket: Bucket, prefix: str, store: S3Store
) -> None:
    names = sorted(f"{number % 7}/{number:04}" for number in range(1100))
    for number in range(0, 1100, 100):
        puts = (store.put(Key(name), BytesSource(b"x")) for name in names[number : number + 100])
        await asyncio.gather(*puts)
    assert await listed(store) == names
    assert await listed(store, after=names[1050]) == names[1051:]


async def test_what_others_put_under_names_that_are_no_keys_is_not_ours(
    rclone_s3: Bucket, prefix: str
) -> None:
    """Nor is what is not sound, but that is for others to say."""
    assert rclone_s3.ask("PUT", f"{prefix}/a\\b", b"x").status == 200
    assert rclone_s3.ask("PUT", f"{prefix}/ab", b"x").status == 200
    async with opened(rclone_s3, prefix=prefix) as store:
        assert await listed(store) == ["ab"]


# --- the wrong place ------------------------------------------------------------------------


async def test_a_bucket_that_is_not_there_is_misconfigured_and_not_empty(
    rclone_s3: Bucket,
) -> None:
    async with opened(replace(rclone_s3, name="no-such-bucket")) as store:
        await everything_fails_with(Misconfigured, store)


async def test_a_bucket_that_the_server_would_make_is_not_made(seaweed: SeaweedFS) -> None:
    """SeaweedFS makes one for whoever may make buckets and puts something into it."""
    named = replace(seaweed.bucket_named("misspelt-bucket"), credentials=OWNER)
    async with opened(named) as store:
        for call in (store.probe(), store.write_marker("id-1"), store.stat("x"), read(store, "x")):
            await fails_with(Misconfigured, call)
    assert named.ask("HEAD").status == 404


async def test_a_wrong_key_or_secret_is_refused_and_neither_is_repeated(bucket: Bucket) -> None:
    right = bucket.credentials
    for wrong in (
        Credentials(right.access_key, "not-the-secret"),
        Credentials("nobody", right.secret_key),
    ):
        async with opened(replace(bucket, credentials=wrong)) as store:
            await everything_fails_with(PermissionDenied, store)
            with pytest.raises(PermissionDenied, match="key") as refused:
                await store.probe()
            assert "not-the-secret" not in str(refused.value)
            assert "\n" not in str(refused.value)


async def test_a_server_that_is_down_is_unavailable(bucket: Bucket) -> None:
    async with opened(replace(bucket, endpoint=f"http://127.0.0.1:{DEAD_PORT}")) as store:
        await everything_fails_with(Unavailable, store)


async def everything_fails_with(kind: type[Exception], store: S3Store) -> None:
    for call in (
        store.probe(),
        store.read_marker(),
        store.write_marker("id-1"),
        store.stat("x"),
        store.put(Key("x"), BytesSource(b"x")),
        store.put(Key("x"), BytesSource(b"", announced_bytes=200 * MIB)),
        store.delete("x"),
        store.reap(timedelta(0)),
        read(store, "x"),
        read(store, "x", 0, 0),
        listed(store),
    ):
        await fails_with(kind, call)


async def test_a_marker_that_cannot_be_read_is_corrupt(
    bucket: Bucket, prefix: str, store: S3Store
) -> None:
    for text in (b"", b"{", b"[]", b"{}"):
        bucket.ask("PUT", f"{prefix}/{MARKER_KEY}", text)
        await fails_with(Corrupt, store.read_marker())


async def test_a_key_that_points_elsewhere_is_no_key(store: S3Store) -> None:
    for locator in ("../x", "a//b", "/x"):
        await fails_with(BadPath, store.stat(locator))
        await fails_with(BadPath, read(store, locator))
        await fails_with(BadPath, store.delete(locator))


async def test_a_store_that_was_never_used_closes_and_closes_twice(bucket: Bucket) -> None:
    store = store_in(bucket)
    await store.close()
    await store.put(Key("x"), BytesSource(b"x"))
    await store.close()
    await store.close()


async def test_a_file_goes_as_it_is(store: S3Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    path = tmp_path / "sound"
    path.write_bytes(data)
    source = FileSource(path, Digest.of(data), len(data), "audio/mpeg")
    assert (await store.put(Key("x"), source)).verified == "sha256"
    assert await read(store, "x") == data
    path.unlink()
    await fails_with(NotFound, store.put(Key("x"), source))
    assert await read(store, "x") == data
