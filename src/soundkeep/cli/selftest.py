"""What `doctor --url` tries: does any server serve a sound as a player needs it?

The whole sound is read once and every range is compared with it byte for byte: some servers
answer 206 with the right headers and the wrong bytes. RFC 9110, sections 13 to 15, is the measure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp

from soundkeep.cli.doctor import Finding
from soundkeep.errors import BadInput, NoSuchTrack, SettingsError, TimedOut, Unavailable

TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=10, sock_read=60)
MAX_BYTES = 200_000_000
PIECE_BYTES = 256 * 1024
PAGE = "https://page.example"
PLAYER_IN_PAGE = 'src="/audio/'


async def examine(url: str, key: str | None) -> list[Finding]:
    """Tries one sound. The base URL of a Soundkeep server stands for its first public track, or
    with a key for any. Raises `SettingsError`, `NoSuchTrack`, `Unavailable`, `TimedOut`."""
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url: {url!r} is not an http:// or https:// URL")
    headers = {"Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        async with aiohttp.ClientSession(
            headers=headers, timeout=TIMEOUT, auto_decompress=False
        ) as session:
            trial = _Trial(session, await _sound_at(session, url, key))
            return [finding async for finding in trial.run()]
    except TimeoutError:
        raise TimedOut(f"{url} did not answer in time") from None
    except aiohttp.ClientError as error:
        raise Unavailable(f"{url} cannot be reached: {error}") from error


async def _sound_at(session: aiohttp.ClientSession, url: str, key: str | None) -> str:
    """The URL itself if it is a sound, else that of a track of the Soundkeep server it names."""
    async with session.get(url) as answer:
        if answer.content_type != "text/html":
            return url
        page = await answer.text()
    base = url.rstrip("/")
    if PLAYER_IN_PAGE in page:
        return f"{base}/audio/{page.partition(PLAYER_IN_PAGE)[2].partition(chr(34))[0]}"
    if key:
        async with session.get(f"{base}/api/tracks", params={"limit": "1"}) as answer:
            if answer.status == 200 and (items := (await answer.json())["items"]):
                return f"{base}/audio/{items[0]['id']}"
    raise NoSuchTrack(f"{url} is a page that shows no track: name a sound's URL, or give --key")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return self.headers.get(name, "none")


class _Trial:
    """Everything tried on one URL."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def run(self) -> AsyncIterator[Finding]:
        whole = await self._ask()
        yield _judged(whole.status == 200 and whole.body, f"GET {self._url}", whole.status)
        if whole.status != 200 or not whole.body:
            return
        for finding in _headers(whole):
            yield finding
        yield await self._head(whole)
        for asked, start, stop in _ranges(len(whole.body)):
            yield await self._range(asked, whole.body, start, stop)
        yield await self._beyond(len(whole.body))
        if whole.header("ETag").startswith('"'):
            async for finding in self._conditions(whole.header("ETag")):
                yield finding
        yield await self._cors()

    async def _head(self, whole: _Answer) -> Finding:
        head = await self._ask("HEAD")
        same = head.header("Content-Length") == str(len(whole.body)) and not head.body
        what = f"HEAD tells the length: {head.header('Content-Length')}"
        return _judged(head.status == 200 and same, what, head.status)

    async def _range(self, asked: str, whole: bytes, start: int, stop: int) -> Finding:
        answer = await self._ask(Range=asked)
        given = answer.header("Content-Range")
        told = given == f"bytes {start}-{stop - 1}/{len(whole)}"
        right = answer.status == 206 and told and answer.body == whole[start:stop]
        wrong = "" if answer.body == whole[start:stop] else ", and the bytes are wrong"
        return _judged(right, f"{asked}: {given}{wrong}", answer.status)

    async def _beyond(self, size_bytes: int) -> Finding:
        answer = await self._ask(Range=f"bytes={size_bytes}-")
        given = answer.header("Content-Range")
        right = answer.status == 416 and given == f"bytes */{size_bytes}"
        return _judged(right, f"a range beyond the end is 416: {given}", answer.status)

    async def _conditions(self, etag: str) -> AsyncIterator[Finding]:
        same = await self._ask(**{"If-None-Match": etag})
        yield _judged(same.status == 304 and not same.body, "If-None-Match is 304", same.status)
        held = await self._ask(Range="bytes=0-0", **{"If-Range": etag})
        yield _judged(held.status == 206, "If-Range with the ETag is 206", held.status)
        other = await self._ask(Range="bytes=0-0", **{"If-Range": '"other"'})
        yield _judged(other.status == 200, "If-Range with another is 200", other.status)

    async def _cors(self) -> Finding:
        answer = await self._ask("HEAD", Origin=PAGE)
        allowed = answer.header("Access-Control-Allow-Origin")
        exposed = answer.header("Access-Control-Expose-Headers")
        what = f"CORS: allows {allowed}, exposes {exposed}"
        if allowed in ("*", PAGE) and "content-range" in exposed.lower():
            return Finding("ok", what)
        return Finding("warn", what, "players on other sites' pages cannot read ranges")

    async def _ask(self, method: str = "GET", **headers: str) -> _Answer:
        async with self._session.request(method, self._url, headers=headers) as answer:
            body = bytearray()
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                body += piece
                if len(body) > MAX_BYTES:
                    raise BadInput(f"{self._url} is over {MAX_BYTES} bytes: name a shorter sound")
            return _Answer(answer.status, answer.headers, bytes(body))


def _headers(whole: _Answer) -> list[Finding]:
    length, etag = whole.header("Content-Length"), whole.header("ETag")
    kind, accepts = whole.header("Content-Type"), whole.header("Accept-Ranges")
    strong = len(etag) > 2 and etag.startswith('"')
    splices = "without a strong ETag a player may splice two versions of a sound"
    return [
        _judged(length == str(len(whole.body)), f"Content-Length: {length}"),
        _judged(kind.startswith(("audio/", "video/")), f"Content-Type: {kind}"),
        _judged(accepts == "bytes", f"Accept-Ranges: {accepts}"),
        _judged(strong, f"strong ETag: {etag}", step=splices),
    ]


def _ranges(size: int) -> list[tuple[str, int, int]]:
    """Ranges that have broken servers: the first byte, the last, a suffix, the middle, too long."""
    middle = size // 2
    return [
        ("bytes=0-0", 0, 1),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=-1", size - 1, size),
        (f"bytes={middle}-{middle + 99}", middle, min(middle + 100, size)),
        (f"bytes=0-{size + 1000}", 0, size),
        (f"bytes=-{size + 1000}", 0, size),
    ]


def _judged(right: object, what: str, status: int | None = None, step: str = "") -> Finding:
    said = what if status is None else f"{what} (HTTP {status})"
    return Finding("ok", said) if right else Finding("fail", said, step)
