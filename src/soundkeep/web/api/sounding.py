"""Sound as an answer of the API: whole or a range, or as it comes while it is spoken.

Nothing is promised before the first piece is there, and what breaks off later never ends cleanly.
The hot path of tracks is `web.delivery`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from soundkeep.errors import RangeNotSatisfiable
from soundkeep.model import Blob
from soundkeep.ranges import ByteRange, Unsatisfiable, if_range_holds, none_match_holds, parse_range
from soundkeep.reading.reader import Reader

SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
CACHE = "private, no-cache"


def wants_audio(request: Request) -> bool:
    """Whether the client says that it takes sound."""
    kinds = (
        part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")
    )
    return any(kind.startswith("audio/") for kind in kinds)


async def streamed(
    pieces: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str]
) -> Response:
    """Sound whose length nobody knows yet. Raises what comes instead of the first piece."""
    first = await anext(pieces, b"")
    whole = _from_the_first(first, pieces)
    return StreamingResponse(
        whole, media_type=media_type, headers={**SAFE, **headers, "Cache-Control": CACHE}
    )


async def kept_sound(
    request: Request, reader: Reader, blob: Blob, headers: Mapping[str, str], cache: str = CACHE
) -> Response:
    """Sound that is kept, with ranges and conditions. Raises `RangeNotSatisfiable`, `Unplayable`,
    `CatalogUnavailable`."""
    etag = f'"{blob.digest.hex}"'
    fields = {**SAFE, **headers, "ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": cache}
    if not none_match_holds(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=fields)
    asked = _range_of(request, blob, etag)
    start, stop = (asked.start, asked.stop) if asked else (0, blob.size_bytes)
    fields["Content-Length"] = str(stop - start)
    if asked:
        fields["Content-Range"] = asked.content_range(blob.size_bytes)
    media_type, status = blob.sound.media_type, 206 if asked else 200
    if request.method == "HEAD":
        return Response(status_code=status, media_type=media_type, headers=fields)
    pieces = reader.open(blob, start, stop)
    whole = _from_the_first(await anext(pieces), pieces)
    return StreamingResponse(whole, status_code=status, media_type=media_type, headers=fields)


def _range_of(request: Request, blob: Blob, etag: str) -> ByteRange | None:
    if request.method != "GET" or not if_range_holds(request.headers.get("if-range"), etag):
        return None
    asked = parse_range(request.headers.get("range"), blob.size_bytes)
    if isinstance(asked, Unsatisfiable):
        raise RangeNotSatisfiable("the range lies beyond the end")
    return asked


async def _from_the_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
