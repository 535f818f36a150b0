"""Sync over HTTP: pushes tracks to stores or withdraws them, one track or many."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from soundkeep.catalog.tracks import MAX_PAGE
from soundkeep.errors import BadInput
from soundkeep.keep.syncs import SyncPage, Wanted
from soundkeep.model import Operation
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Context, Working

router = APIRouter(prefix="/api", tags=["sync"])

MAX_WAIT_SECONDS = 30
OF_EVERY_SYNC: dict[str, Any] = {
    "operation": {"type": "string", "enum": [*Operation], "default": Operation.UPLOAD},
    "store": {"type": "string", "description": "by default every public store"},
    "dry_run": {"type": "boolean", "default": False},
    "wait_seconds": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": 0},
}
OF_MANY: dict[str, Any] = {
    **OF_EVERY_SYNC,
    "track_ids": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_PAGE},
    "prefix": {"type": "string", "description": "of paths, instead of track_ids"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE},
    "cursor": {"type": "string", "description": "the last answer's next_cursor"},
}


@router.post("/tracks/{track_id}/sync", openapi_extra=described(required=False, **OF_EVERY_SYNC))
async def sync_one(request: Request, context: Working, track_id: str) -> JSONResponse:
    """Pushes one track to `store` (every public one by default), or withdraws it from there.

    `operation` is `upload` (the default) or `delete`; `wait_seconds`, up to 30, waits for the
    ledger. What no store can have is refused as a whole: 404 without the track, 409 for a private
    track in a public store.
    """
    body = _Body(await json_object(request), OF_EVERY_SYNC)
    page = await _synced(context, body.wanted(track_ids=(track_id,)))
    refusals = [line.refusal for line in page.lines if line.refusal is not None]
    if len(refusals) == len(page.lines):
        raise refusals[0]
    return JSONResponse(page.as_json())


@router.post("/sync", openapi_extra=described(required=True, **OF_MANY))
async def sync_many(request: Request, context: Working) -> JSONResponse:
    """The same for `track_ids` or for every track whose path begins with `prefix`, up to 1,000 a
    call; `next_cursor` leads on. What one track cannot is said on its line and fails no other."""
    body = _Body(await json_object(request), OF_MANY)
    return JSONResponse((await _synced(context, body.which())).as_json())


async def _synced(context: Context, wanted: Wanted) -> SyncPage:
    page = await context.keep.sync(wanted)
    for line in page.lines:
        context.lookup.forget(line.track_id)
    return page


class _Body:
    """The fields of a request, each of its type. Raises `BadInput`."""

    def __init__(self, fields: dict[str, Any], known: Collection[str]) -> None:
        if unknown := sorted(set(fields).difference(known)):
            raise BadInput(
                f"there is no field {unknown[0]!r}; there are {', '.join(sorted(known))}"
            )
        self._fields = fields

    def which(self) -> Wanted:
        """Of many tracks: by their ids, or by a prefix."""
        ids, prefix = self._fields.get("track_ids"), self._text("prefix")
        if (ids is None) == (prefix is None):
            raise BadInput('name the tracks by track_ids or by prefix ("" is all of them)')
        if ids is None:
            cursor, limit = self._text("cursor"), self._whole("limit", MAX_PAGE)
            return self.wanted(prefix=prefix, cursor=cursor, limit=limit)
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise BadInput("track_ids is a list of texts")
        if len(ids) > MAX_PAGE:
            raise BadInput(f"track_ids holds at most {MAX_PAGE}, not {len(ids)}")
        return self.wanted(track_ids=tuple(dict.fromkeys(ids)))

    def wanted(self, **which: Any) -> Wanted:
        return Wanted(
            operation=self._operation(),
            store=self._text("store"),
            dry_run=self._flag("dry_run"),
            wait_seconds=self._seconds("wait_seconds"),
            **which,
        )

    def _operation(self) -> Operation:
        try:
            return Operation(self._fields.get("operation", Operation.UPLOAD))
        except ValueError:
            raise BadInput("operation is upload or delete") from None

    def _text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise BadInput(f"{name} is a text")
        return value

    def _flag(self, name: str) -> bool:
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise BadInput(f"{name} is true or false")
        return value

    def _seconds(self, name: str) -> float:
        value = self._fields.get(name, 0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= MAX_WAIT_SECONDS:
            raise BadInput(f"{name} is a number from 0 to {MAX_WAIT_SECONDS}")
        return float(value)

    def _whole(self, name: str, most: int) -> int:
        value = self._fields.get(name, most)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise BadInput(f"{name} is a whole number from 1 to {most}")
        return value
