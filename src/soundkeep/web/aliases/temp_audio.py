"""`GET /api/temp-audio/{id}`: the sound of a public track, wherever it has moved by now."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from soundkeep.errors import NoSuchTrack
from soundkeep.web.aliases.alike import alias_router, preflight
from soundkeep.web.api.sounding import kept_sound
from soundkeep.web.context import Anyone, is_admin

PATH = "/api/temp-audio/{id}"
CACHE = "public, max-age=3600"

router = alias_router()


@router.get(PATH)
@router.head(PATH, include_in_schema=False)
async def temp_audio(request: Request, context: Anyone, id: str) -> Response:
    """The sound, with ranges; it plays for as long as any copy lives anywhere."""
    found = await context.lookup.track(id)
    if found is None or not (found.track.public or is_admin(context, request)):
        raise NoSuchTrack(f"there is no audio {id[:80]}")
    cache = {"cache": CACHE} if found.track.public else {}
    return await kept_sound(request, context.keep.reader, found.track.blob, {}, **cache)


@router.options(PATH, include_in_schema=False)
async def options() -> Response:
    """For pages elsewhere."""
    return preflight("GET, HEAD, OPTIONS")
