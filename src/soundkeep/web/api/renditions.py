"""Renditions over HTTP: a track in another format, as a track of its own."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from soundkeep import shown
from soundkeep.catalog.renditions import Rendition
from soundkeep.errors import BadInput
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Admin, Working

router = APIRouter(prefix="/api/tracks", tags=["tracks"])

FORMAT: dict[str, Any] = {
    "format": {"type": "string", "examples": ["opus_48000_64", "mp3_22050_32", "aac"]}
}


@router.post(
    "/{track_id}/renditions",
    status_code=201,
    openapi_extra=described(required=True, **FORMAT),
)
async def render(request: Request, context: Working, track_id: str) -> JSONResponse:
    """Makes the track in `format`, and answers with the track that it is; asked again, with the
    same one. Its visibility follows the original, and it goes with it."""
    format_ = (await json_object(request)).get("format")
    if not isinstance(format_, str):
        raise BadInput("the field 'format' is needed, such as 'opus_48000_64'")
    track = await context.house.renderer.render(track_id, format_)
    view = await context.keep.track(track.id)
    return JSONResponse(
        shown.track_json(view, context.base_url(request)),
        status_code=201,
        headers={"Location": f"/api/tracks/{track.id}"},
    )


@router.get("/{track_id}/renditions")
async def renditions(context: Admin, track_id: str) -> JSONResponse:
    """The formats that the track is there in besides its own, or shall be."""
    found = await context.house.renderer.of(track_id)
    return JSONResponse(shown.items([_line(each) for each in found], None))


def _line(rendition: Rendition) -> dict[str, Any]:
    state = "due" if rendition.is_due else "made" if rendition.rendition_id else "failed"
    return {
        "format": rendition.format,
        "state": state,
        "track_id": rendition.rendition_id,
        "error": rendition.last_error,
    }
