"""Sound over real sockets from a real uvicorn: headers to the letter, and every byte right."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn

from reading.stage import SIZES, Stage, flip, noise, open_files, opened, until
from soundkeep.access.keys import KeyRing
from soundkeep.catalog import tracks
from soundkeep.catalog.database import Tx
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import CatalogUnavailable
from soundkeep.model import CopyState, Visibility
from soundkeep.reading.lookup import Lookup
from soundkeep.reading.reader import Reader
from soundkeep.settings import Settings
from soundkeep.settings.house import HttpSettings, ReadingSettings
from soundkeep.stores.interface import Store
from soundkeep.testing.faulty import Fault
from soundkeep.web.delivery import Delivery
from soundkeep.web.exchange import Message, Receive, Send
from soundkeep.web.headers import disposition
from soundkeep.web.wire import Wire

KEY = "a-key-of-twenty-signs"
BEARER = {"Authorization": f"Bearer {KEY}"}
CONTENT = noise(3 * CHUNK_BYTES + 17)
LONG = noise(40 * CHUNK_BYTES + 17)  # more than the sockets between us take in
READING = ReadingSettings(hedge_seconds=0.02, stall_seconds=0.2, cache_bytes=0)


@dataclass
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = True
    names: list[str] = field(default_factory=list)


@dataclass
class Served:
    """A stage with a server in front of it."""

    stage: Stage
    delivery: Delivery
    reader: Reader
    port: int
    short_way: bool

    async def get(self, target: str, method: str = "GET", **headers: str) -> Answer:
        """Asks by hand, and takes what comes until the length is reached or the end is."""
        async with self.asked(target, method, **headers) as (answer, stream):
            if method != "HEAD" and answer.status not in (204, 304):
                await self.finish(answer, stream)
        return answer

    @asynccontextmanager
    async def asked(
        self, target: str, method: str = "GET", **headers: str
    ) -> AsyncIterator[tuple[Answer, asyncio.StreamReader]]:
        """An answer whose body is still to be read."""
        if self.short_way and method == "GET":  # which is open to what was looked up already
            async with self.asked(target, "HEAD", **headers):
                pass
        stream, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=CHUNK_BYTES)
        wire = writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        lines = [f"{method} {target} HTTP/1.1", "Host: here", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        try:
            head = (await stream.readuntil(b"\r\n\r\n")).decode("latin-1")
            yield _answer(head), stream
        finally:
            writer.close()

    async def finish(self, answer: Answer, stream: asyncio.StreamReader) -> None:
        length = int(answer.headers["content-length"])
        while len(answer.body) < length and (more := await stream.read(CHUNK_BYTES)):
            answer.body += more
        answer.complete = len(answer.body) == length


def _answer(head: str) -> Answer:
    first, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    return Answer(int(first.split()[1]), headers, names=[name for name, _ in pairs])


@dataclass
class Front:
    """An application as `wire` wants it."""

    delivery: Delivery
    gateways: tuple[()] = ()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self.delivery(scope, receive, send)


@asynccontextmanager
async def serving(
    stage: Stage, http: HttpSettings | None = None, *, short_way: bool = True
) -> AsyncIterator[Served]:
    settings = Settings(data=stage.folder, http=http or HttpSettings(), reading=READING)
    reader = stage.reader(READING)
    stores = dict[str, Store](stage.stores)
    lookup = Lookup(stage.catalog)
    delivery = Delivery(lookup, reader, stores, KeyRing(KEY), settings)
    config = uvicorn.Config(
        Front(delivery), lifespan="off", ws="none", http=Wire if short_way else "httptools",
        access_log=False, log_config=None, server_header=False, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started)
            yield Served(stage, delivery, reader, listener.getsockname()[1], short_way)
        finally:
            server.should_exit = True
            await running
            await reader.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as stage:
        yield stage


@pytest.fixture(params=["short way", "long way"])
async def served(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(stage, short_way=request.param == "short way") as served:
        yield served


def _withdraw(tx: Tx, track_id: str) -> None:
    track = tracks.find(tx, track_id)
    assert track is not None
    private = Visibility.PRIVATE
    tracks.change(tx, track, title=track.title, visibility=private, metadata=track.metadata)


# --- what is said ---------------------------------------------------------------------------


async def test_a_public_sound_says_all_there_is_to_say(served: Served) -> None:
    track = await served.stage.add(CONTENT, "disk", name="sound", public=True)
    answer = await served.get("/audio/sound.mp3")
    assert (answer.status, answer.body) == (200, CONTENT)
    digest = track.blob.digest
    wanted = {
        "etag": f'"{digest.hex}"',
        "accept-ranges": "bytes",
        "cache-control": "public, max-age=31536000, immutable",
        "content-disposition": "inline; filename=\"sound.mp3\"; filename*=UTF-8''sound.mp3",
        "content-length": str(len(CONTENT)),
        "content-security-policy": "sandbox",
        "content-type": "audio/mpeg",
        "repr-digest": f"sha-256=:{base64.b64encode(digest.raw).decode()}:",
        "x-content-type-options": "nosniff",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": (
            "Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest"
        ),
    }
    assert {name: answer.headers[name] for name in wanted} == wanted
    assert len(answer.names) == len(set(answer.names))


async def test_headers_are_the_same_whichever_store_answers(served: Served) -> None:
    track = await served.stage.add(CONTENT, "disk", "backup", "one", name="sound", public=True)

    async def ask() -> Answer:
        answer = await served.get("/audio/sound", Range="bytes=5-99")
        answer.headers.pop("date")
        return answer

    from_disk = await ask()
    served.stage.file(track.blob).unlink()
    from_backup = await ask()
    served.stage.stores["backup"].break_with(Fault.unavailable())
    from_memory = await ask()
    assert from_disk.body == CONTENT[5:100]
    assert from_disk == from_backup == from_memory
    assert "open" in served.stage.stores["one"].calls


async def test_a_private_sound_does_not_exist_without_the_key(served: Served) -> None:
    await served.stage.add(CONTENT, "disk", name="mine")
    refused = [
        await served.get("/audio/mine"),
        await served.get("/audio/mine", Authorization="Bearer wrong-key-of-enough-signs"),
        await served.get("/audio/none"),
        await served.get("/audio/none", **BEARER),
        await served.get("/audio/"),
        await served.get("/audio/%00"),
        await served.get("/audio/" + "x" * 5000),
    ]
    for answer in refused:
        answer.headers.pop("date")
        assert answer == refused[0]
    assert refused[0].status == 404
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert json.loads(refused[0].body)["code"] == "no_such_track"
    allowed = await served.get("/audio/mine", **BEARER)
    assert (allowed.status, allowed.body) == (200, CONTENT)
    assert allowed.headers["cache-control"] == "private, no-cache"


async def test_the_whole_name_is_looked_up_before_it_is_taken_apart(served: Served) -> None:
    await served.stage.add(b"with", "disk", name="a.mp3", public=True)
    await served.stage.add(b"without", "disk", name="a", public=True)
    targets = {"/audio/a.mp3": b"with", "/audio/a": b"without", "/audio/a.ogg": b"without"}
    for target, body in targets.items():
        assert (await served.get(target)).body == body
    assert (await served.get("/audio/a.mp3.ogg")).body == b"with"


@pytest.mark.parametrize("size", SIZES)
async def test_ranges_of_every_size_and_edge(served: Served, size: int) -> None:
    content = noise(size)
    await served.stage.add(content, "disk", name="sound", public=True)
    edges = sorted({0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, size - 1})
    for first in [edge for edge in edges if edge < size]:
        for last in (first, first + 1, size - 1, size, size + 9):
            answer = await served.get("/audio/sound", Range=f"bytes={first}-{max(first, last)}")
            part = content[first : max(first, last) + 1]
            assert (answer.status, answer.body) == (206, part)
            end = first + len(part) - 1
            assert answer.headers["content-range"] == f"bytes {first}-{end}/{size}"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=-1", 206, slice(-1, None)),
        ("bytes=-99999999", 206, slice(None)),
        ("bytes=0-" + "9" * 5000, 206, slice(None)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=\xb2-3", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
async def test_an_awkward_range_is_answered_as_it_should_be(
    served: Served, asked: str, status: int, part: slice
) -> None:
    await served.stage.add(CONTENT, "disk", name="sound", public=True)
    answer = await served.get("/audio/sound", Range=asked)
    assert (answer.status, answer.body) == (status, CONTENT[part])


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", "bytes=-0"])
async def test_a_range_beyond_the_end_is_416_and_not_cached(served: Served, asked: str) -> None:
    await served.stage.add(CONTENT, "disk", name="sound", public=True)
    answer = await served.get("/audio/sound", Range=asked)
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body)["code"] == "range_not_satisfiable"


async def test_conditions_come_before_the_range(served: Served) -> None:
    track = await served.stage.add(CONTENT, "disk", name="sound", public=True)
    etag = f'"{track.blob.digest.hex}"'
    for field_value in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        same = await served.get("/audio/sound", If_None_Match=field_value, Range="bytes=0-1")
        assert same.status == 304
        assert "content-length" not in same.headers
        assert same.headers["etag"] == etag
        assert same.headers["cache-control"].startswith("public")
    assert (await served.get("/audio/sound", If_None_Match='"x"')).status == 200
    held = await served.get("/audio/sound", If_Range=etag, Range="bytes=1-2")
    assert (held.status, held.body) == (206, CONTENT[1:3])
    for other in ('"x"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        changed = await served.get("/audio/sound", If_Range=other, Range="bytes=1-2")
        assert (changed.status, changed.body) == (200, CONTENT)


async def test_head_says_what_get_says_and_sends_nothing(served: Served) -> None:
    await served.stage.add(CONTENT, "disk", name="sound", public=True)
    got = await served.get("/audio/sound")
    for headers in ({}, {"Range": "bytes=3-9"}):  # a range means nothing to HEAD (RFC 9110, 14.2)
        head = await served.get("/audio/sound", "HEAD", **headers)
        assert head.status == 200
        assert head.headers | {"date": ""} == got.headers | {"date": ""}


async def test_other_methods_are_told_which_there_are(served: Served) -> None:
    await served.stage.add(CONTENT, "disk", name="sound", public=True)
    for method in ("POST", "PUT", "DELETE"):
        answer = await served.get("/audio/sound", method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_a_page_elsewhere_may_ask_beforehand(served: Served) -> None:
    asked = {"Origin": "https://x.example", "Access_Control_Request_Method": "GET"}
    answer = await served.get("/audio/any", "OPTIONS", **asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    for name in ("Authorization", "Range", "If-Range", "If-None-Match"):
        assert name in answer.headers["access-control-allow-headers"]


async def test_only_the_origins_that_are_set_may_read(stage: Stage) -> None:
    async with serving(stage, HttpSettings(cors_origins=("https://x.example",))) as served:
        await stage.add(CONTENT, "disk", name="sound", public=True)
        allowed = await served.get("/audio/sound", Origin="https://x.example")
        assert allowed.headers["access-control-allow-origin"] == "https://x.example"
        refused = await served.get("/audio/sound", Origin="https://y.example")
        assert "access-control-allow-origin" not in refused.headers
        assert allowed.headers["vary"] == refused.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.mp3", b"inline; filename=\"a.mp3\"; filename*=UTF-8''a.mp3"),
        ('"\\;%.mp3', b"inline; filename=\"__;_.mp3\"; filename*=UTF-8''%22%5C%3B%25.mp3"),
        ("Lär 1.mp3", b"inline; filename=\"L_r 1.mp3\"; filename*=UTF-8''L%C3%A4r%201.mp3"),
        ("\u65e5\u672c", b"inline; filename=\"__\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC"),
        ("a\r\nX: y", b"inline; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
    ],
)
def test_any_file_name_survives_the_disposition(name: str, value: bytes) -> None:
    assert disposition(name) == value


# --- what goes wrong ------------------------------------------------------------------------


def _flip(path: Path) -> None:
    flip(path, path.stat().st_size - 5)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def _replace(path: Path) -> None:
    """Another file in its place: the one that is open goes on being right."""
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


@pytest.mark.parametrize("damage", [_flip, _truncate])
async def test_damage_ahead_of_a_running_stream_changes_no_byte(
    served: Served, damage: object
) -> None:
    assert callable(damage)
    track = await served.stage.add(LONG, "disk", "backup", name="sound", public=True)
    async with served.asked("/audio/sound") as (answer, stream):
        answer.body = await stream.readexactly(1000)
        damage(served.stage.file(track.blob))
        await served.finish(answer, stream)
    assert answer.complete
    assert answer.body == LONG
    await served.reader.close()
    assert (await served.stage.states(track.blob))["disk"] is CopyState.DOUBTED


@pytest.mark.parametrize("damage", [_flip, _truncate, _replace, Path.unlink])
async def test_damage_before_a_stream_is_noticed_and_changes_no_byte(
    served: Served, damage: object
) -> None:
    assert callable(damage)
    track = await served.stage.add(CONTENT, "disk", "backup", name="sound", public=True)
    assert (await served.get("/audio/sound")).body == CONTENT
    damage(served.stage.file(track.blob))
    for _ in range(2):
        answer = await served.get("/audio/sound")
        assert (answer.status, answer.body) == (200, CONTENT)
    await served.reader.close()
    assert await served.stage.states(track.blob) == {
        "disk": CopyState.DOUBTED,
        "backup": CopyState.PRESENT,
    }


async def test_both_copies_damaged_in_different_chunks(served: Served) -> None:
    track = await served.stage.add(CONTENT, "disk", "backup", name="sound", public=True)
    flip(served.stage.file(track.blob), CHUNK_BYTES + 5)
    served.stage.stores["backup"].break_with(Fault.corrupting(at=2 * CHUNK_BYTES), verbs={"open"})
    answer = await served.get("/audio/sound")
    assert answer.body == CONTENT
    await served.reader.close()
    assert set((await served.stage.states(track.blob)).values()) == {CopyState.DOUBTED}


async def test_a_store_that_stalls_in_mid_stream_is_left(served: Served) -> None:
    await served.stage.add(CONTENT, "one", "two", name="sound", public=True)
    served.stage.stores["one"].break_with(Fault.stalling(CHUNK_BYTES + 1), verbs={"open"})
    assert (await served.get("/audio/sound")).body == CONTENT


async def test_nothing_good_at_the_start_is_said_as_a_problem(served: Served) -> None:
    await served.stage.add(CONTENT, "one", name="sound", public=True)
    served.stage.stores["one"].break_with(Fault.unavailable())
    answer = await served.get("/audio/sound")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body)["code"] == "unplayable"


async def test_nothing_left_in_mid_stream_never_looks_like_the_end(served: Served) -> None:
    await served.stage.add(CONTENT, "one", name="sound", public=True)
    served.stage.stores["one"].break_with(Fault.truncating(at=CHUNK_BYTES), verbs={"open"})
    answer = await served.get("/audio/sound")
    assert answer.status == 200
    assert not answer.complete
    assert answer.body == CONTENT[:CHUNK_BYTES]


async def test_a_catalog_that_is_out_is_said_as_a_problem(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out(*_: object) -> None:
        raise CatalogUnavailable

    monkeypatch.setattr(served.stage.catalog, "read", out)
    answer = await served.get("/audio/sound")
    assert answer.status == 503
    assert json.loads(answer.body)["code"] == "catalog_unavailable"


@pytest.mark.parametrize("store", ["disk", "backup", "one"])
async def test_a_listener_who_leaves_leaves_nothing_running_or_open(
    served: Served, store: str
) -> None:
    await served.stage.add(LONG, store, name="sound", public=True)
    async with served.asked("/audio/sound") as (_, stream):
        await stream.readexactly(1000)
        assert served.delivery.running == 1
    await until(lambda: served.delivery.running == 0)
    await until(lambda: not open_files(served.stage.folder))
    assert served.delivery.sent_bytes < len(LONG)


async def test_a_sound_that_became_private_stops_within_a_second(served: Served) -> None:
    await served.stage.add(CONTENT, "disk", name="sound", public=True)
    assert (await served.get("/audio/sound")).status == 200
    await served.stage.catalog.write(_withdraw, "sound")
    async with asyncio.timeout(10):
        while (await served.get("/audio/sound")).status != 404:
            await asyncio.sleep(0.05)
