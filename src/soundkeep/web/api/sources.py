"""Where a track plays: an ordered list that any player can go through, each source once.

The first is the one the operator wants listeners at. Our own stream fails over by itself, so it
comes before the stores that are there only in case we are not; a store with `delivery = redirect`
comes before our stream.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from soundkeep import shown
from soundkeep.catalog import stores as store_rows
from soundkeep.errors import NoSuchTrack
from soundkeep.model import Track
from soundkeep.reading.lookup import Found
from soundkeep.web.context import Anyone, Context, is_admin
from soundkeep.web.delivery import STREAM_HERE
from soundkeep.web.elsewhere import Target
from soundkeep.web.headers import Headers, cors_headers, preflight_headers

router = APIRouter(prefix="/api/tracks", tags=["tracks"])


@router.get("/{track_id}/sources", openapi_extra={"security": [{}, {"key": []}]})
async def sources(request: Request, context: Anyone, track_id: str) -> JSONResponse:
    """Where the track plays, best first: `url`, `kind` (`public`, `signed` or `stream`), `store`,
    `expires_at` of a signed URL, `media_type`. Public tracks need no key."""
    found = await context.lookup.track(track_id)
    if found is None or not (found.track.public or is_admin(context, request)):
        raise NoSuchTrack("there is no such track")
    document = shown.items(await _sources(context, found, context.base_url(request)), None)
    cors = cors_headers(_origin(request), context.origins)
    return JSONResponse(document, headers={**_texts(cors), "Cache-Control": "no-store"})


@router.options("/{track_id}/sources", include_in_schema=False)
async def preflight(request: Request, context: Anyone, track_id: str) -> Response:
    """What a page elsewhere asks before it sends a key."""
    fields = preflight_headers() + cors_headers(_origin(request), context.origins)
    return Response(status_code=204, headers=_texts(fields))


async def _sources(context: Context, found: Found, base_url: str) -> list[dict[str, Any]]:
    out = await context.keep.catalog.read(store_rows.out)
    targets = list(context.delivery.elsewhere.targets(found.track, found.copies, out))
    first = [target for target in targets if target.front.redirects]
    last = [target for target in targets if not target.front.redirects]
    return [
        *await _addresses(context, found.track, first),
        _own_stream(context, found.track, base_url),
        *await _addresses(context, found.track, last),
    ]


async def _addresses(context: Context, track: Track, targets: list[Target]) -> list[dict[str, Any]]:
    """Those of public stores before those that expire."""
    listed = []
    for target in sorted(targets, key=lambda target: target.url is None):
        address = await context.delivery.elsewhere.address(target)
        if address is not None:
            kind = "public" if address.expires_at is None else "signed"
            listed.append(_source(track, address.url, kind, target.front.name, address.expires_at))
    return listed


def _own_stream(context: Context, track: Track, base_url: str) -> dict[str, Any]:
    """A source of its own, which never sends a player to the store that has just failed it."""
    url = shown.audio_url(track, base_url)
    if context.keep.fronts.redirecting:
        url += f"?{STREAM_HERE.decode()}"
    return _source(track, url, "stream", None, None)


def _source(
    track: Track, url: str, kind: str, store: str | None, expires_at: float | None
) -> dict[str, Any]:
    return {
        "url": url,
        "kind": kind,
        "store": store,
        "expires_at": shown.when(expires_at),
        "media_type": track.blob.sound.media_type,
    }


def _origin(request: Request) -> bytes | None:
    origin = request.headers.get("origin")
    return origin.encode("latin-1") if origin else None


def _texts(fields: Headers) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in fields}
