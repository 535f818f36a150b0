"""Tracks over HTTP: upload, list, read, change, delete, and where their copies are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse

from soundkeep import shown
from soundkeep.catalog import tracks
from soundkeep.errors import BadInput
from soundkeep.intake.parsing import visibility_word
from soundkeep.model import Visibility
from soundkeep.names import metadata_object, title_text
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.api.uploads import Upload, read_upload
from soundkeep.web.context import Admin, Working

router = APIRouter(prefix="/api/tracks", tags=["tracks"])

UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "audio/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@router.post("", status_code=201, openapi_extra=UPLOAD_BODY)
async def upload(
    request: Request,
    context: Working,
    path: str | None = None,
    title: str | None = None,
    visibility: str | None = None,
    id: str | None = None,
    owner: str | None = None,
    metadata: str | None = None,
    replace: bool = False,
    repr_digest: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Keeps a sound: 201 with the new track, 200 if the same track was there already.

    The body is the audio itself, or multipart/form-data with the same names and a part `file`.
    """
    named = {
        "path": path,
        "title": title,
        "visibility": visibility,
        "id": id,
        "owner": owner,
        "metadata": metadata,
        "replace": "true" if replace else None,
    }
    fields = {name: value for name, value in named.items() if value is not None}
    sent: Upload = await read_upload(
        request, fields, repr_digest, context.keep.settings.http.idle_seconds
    )
    added = await context.keep.add(sent.body, sent.new, sent.announced)
    context.lookup.forget(added.track.id)
    view = await context.keep.track(added.track.id)
    document = shown.track_json(view, context.base_url(request))
    return JSONResponse(
        document,
        status_code=201 if added.created else 200,
        headers={"Location": f"/api/tracks/{added.track.id}"},
    )


@router.get("")
async def list_tracks(
    request: Request,
    context: Admin,
    prefix: str = "",
    search: str = "",
    owner: str | None = None,
    visibility: Visibility | None = None,
    limit: Annotated[int, Query(ge=1, le=tracks.MAX_PAGE)] = 100,
    cursor: str | None = None,
) -> JSONResponse:
    """A page of tracks, by path; a search comes in the order tracks were made."""
    query = tracks.Query(prefix, search, owner, visibility, limit, cursor)
    listed = await context.keep.list(query)
    base_url = context.base_url(request)
    items = (shown.track_json(view, base_url) for view in listed.views)
    return JSONResponse(shown.items(items, listed.next_cursor))


@router.get("/{track_id}")
async def read(request: Request, context: Admin, track_id: str) -> JSONResponse:
    """One track."""
    view = await context.keep.track(track_id)
    return JSONResponse(
        shown.track_json(view, context.base_url(request)),
        headers={"ETag": f'"{view.track.revision}"'},
    )


@router.patch("/{track_id}", openapi_extra=described(required=True))
async def change(
    request: Request,
    context: Admin,
    track_id: str,
    if_match: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Changes `title`, `visibility` or `metadata`. `If-Match` holds the revision that was read."""
    changes = await json_object(request)
    if unknown := sorted(set(changes) - {"title", "visibility", "metadata"}):
        raise BadInput(f"{unknown[0]!r} cannot be changed; title, visibility and metadata can")
    view = await context.keep.change(
        track_id,
        title=_title(changes.get("title")),
        visibility=visibility_word(changes["visibility"]) if "visibility" in changes else None,
        metadata=metadata_object(changes["metadata"]) if "metadata" in changes else None,
        revision=_revision(if_match),
    )
    context.lookup.forget(track_id)
    return JSONResponse(shown.track_json(view, context.base_url(request)))


@router.delete("/{track_id}", status_code=202)
async def delete(context: Admin, track_id: str) -> JSONResponse:
    """Deletes a track: 202 with the receipt, 200 once every removal is confirmed."""
    receipt = await context.keep.remove(track_id)
    context.lookup.forget(track_id)
    document = shown.receipt_json(receipt, context.keep.fronts.cache_seconds)
    return JSONResponse(document, status_code=200 if receipt.complete else 202)


@router.get("/{track_id}/receipt")
async def receipt(context: Admin, track_id: str) -> JSONResponse:
    """Proof of a deletion, or of what was withdrawn, or of how far that has come."""
    receipt = await context.keep.receipt(track_id)
    return JSONResponse(shown.receipt_json(receipt, context.keep.fronts.cache_seconds))


@router.get("/{track_id}/copies")
async def copies(context: Admin, track_id: str) -> JSONResponse:
    """Where the track's copies are, and what is known of each and of the sidecar beside it."""
    view = await context.keep.track(track_id)
    sidecars = await context.keep.sidecars(track_id)
    return JSONResponse(shown.copies_json(view.copies, sidecars))


def _title(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadInput("title is a text")
    return title_text(value)


def _revision(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().strip('"')
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise BadInput('If-Match holds a revision, as "3"')
    return int(text)
