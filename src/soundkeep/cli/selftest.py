"""`doctor --url`: does a server serve audio as a player needs it? Any server, any file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from soundkeep.cli.doctor import Finding
from soundkeep.errors import NotFound, SettingsError, Unavailable

TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10)
MAX_BYTES = 200_000_000


async def examine(url: str, key: str | None) -> list[Finding]:
    """Tries length, ranges, ETag, 304 and 416 of one file, comparing bytes with the whole.

    The base URL of a Soundkeep server stands for its first public track. Raises `Unavailable`.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url {url!r} does not begin with http:// or https://")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with aiohttp.ClientSession(
            headers=headers, timeout=TIMEOUT, auto_decompress=False
        ) as session:
            address = await _sound_at(session, url)
            return [finding async for finding in _try(session, address)]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"{url} does not answer: {error}") from None


async def _sound_at(session: aiohttp.ClientSession, url: str) -> str:
    """The URL itself, or a track of the Soundkeep server it names."""
    async with session.get(url) as answer:
        if answer.content_type.startswith(("audio/", "video/", "application/octet-stream")):
            return url
        page = await answer.text()
    marker = 'src="/audio/'
    if marker in page:
        return url.rstrip("/") + "/audio/" + page.partition(marker)[2].partition('"')[0]
    raise NotFound(f"{url} is no audio, and no Soundkeep page with a public track")


async def _try(session: aiohttp.ClientSession, url: str) -> AsyncIterator[Finding]:
    async with session.get(url) as answer:
        whole = await answer.content.read(MAX_BYTES)
        headers, status = answer.headers, answer.status
    etag = headers.get("ETag", "")
    yield _judged(status == 200 and len(whole) > 0, f"GET {url}: {status}, {len(whole)} bytes")
    length = headers.get("Content-Length", "not given")
    yield _judged(length == str(len(whole)), f"Content-Length: {length}")
    kind = headers.get("Content-Type", "not given")
    yield _judged(kind.startswith(("audio/", "video/")), f"Content-Type: {kind}")
    accepts = headers.get("Accept-Ranges", "not given")
    yield _judged(accepts == "bytes", f"Accept-Ranges: {accepts}")
    strong = etag.startswith('"') and len(etag) > 2
    yield _judged(strong, f"strong ETag: {etag or 'none'}", "without one a changed file is spliced")
    for asked, start, stop in _ranges(len(whole)):
        yield await _range(session, url, asked, whole, start, stop)
    yield await _expect(session, url, {"Range": f"bytes={len(whole)}-"}, 416, "beyond the end")
    if etag:
        yield await _expect(session, url, {"If-None-Match": etag}, 304, "If-None-Match, the same")
        part = {"Range": "bytes=0-0"}
        same, other = {**part, "If-Range": etag}, {**part, "If-Range": '"other"'}
        yield await _expect(session, url, same, 206, "If-Range, the same")
        yield await _expect(session, url, other, 200, "If-Range, another")
    async with session.head(url) as answer:
        given = answer.headers.get("Content-Length", "none")
        yield _judged(answer.status == 200 and given == str(len(whole)), f"HEAD: {given} bytes")
    async with session.get(url, headers={"Origin": "https://page.example"}) as answer:
        allowed = answer.headers.get("Access-Control-Allow-Origin", "none")
        exposed = answer.headers.get("Access-Control-Expose-Headers", "")
    fine = allowed in ("*", "https://page.example") and "content-range" in exposed.lower()
    yield Finding(
        "ok" if fine else "warn", f"CORS: allows {allowed}, exposes {exposed or 'nothing'}"
    )


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


async def _range(
    session: aiohttp.ClientSession, url: str, asked: str, whole: bytes, start: int, stop: int
) -> Finding:
    async with session.get(url, headers={"Range": asked}) as answer:
        body = await answer.content.read(MAX_BYTES)
        given = answer.headers.get("Content-Range", "none")
    right = body == whole[start:stop] and given == f"bytes {start}-{stop - 1}/{len(whole)}"
    return _judged(answer.status == 206 and right, f"{asked}: {answer.status}, {given}")


async def _expect(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], status: int, what: str
) -> Finding:
    async with session.get(url, headers=headers) as answer:
        return _judged(answer.status == status, f"{what}: {answer.status} (expected {status})")


def _judged(right: bool, what: str, step: str = "") -> Finding:
    return Finding("ok", what) if right else Finding("fail", what, step)
