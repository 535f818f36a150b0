"""Refused takes over HTTP: an operator hears what the judge did not accept, and may accept it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse

from soundkeep import shown
from soundkeep.audio.sniff import sniff_file
from soundkeep.catalog.refusals import Refusal
from soundkeep.errors import BadCursor
from soundkeep.web.context import Admin, Working

router = APIRouter(prefix="/api/speech/refused", tags=["speech"])

UNKNOWN = "application/octet-stream"


@router.get("")
async def refused(context: Admin, cursor: str | None = None) -> JSONResponse:
    """The takes that are kept aside, on all hosts, in the order in which they were refused."""
    page = await context.house.aside.refused(_number(cursor))
    items = [_line(refusal) for refusal in page]
    return JSONResponse(shown.items(items, str(page[-1].id) if page else None))


@router.get("/{take_id}")
async def hear(context: Admin, take_id: int) -> FileResponse:
    """The take's sound as it was spoken; of takes on this host's disk only."""
    file = await context.house.aside.file(take_id)
    format_ = sniff_file(file)
    return FileResponse(file, media_type=format_.media_type if format_ else UNKNOWN)


@router.post("/{take_id}/accept")
async def accept(context: Working, take_id: int) -> JSONResponse:
    """Makes the take the segment, as if it had never been refused. It was paid for already."""
    segment = await context.house.aside.accept(take_id)
    return JSONResponse({"segment_key": segment.key, "digest": segment.digest.hex})


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise BadCursor("a cursor is what next_cursor of the last page said")
    return int(cursor)


def _line(refusal: Refusal) -> dict[str, Any]:
    return {
        "id": refusal.id,
        "segment_key": refusal.segment_key,
        "reason": refusal.reason,
        "host": refusal.host,
        "refused_at": shown.when(refusal.made_at),
    }
