"""`/functions/v1/sync-to-cdn`: pushes a track to the public stores, or withdraws it, and waits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from soundkeep import shown
from soundkeep.answers import PublicCopy, Synced
from soundkeep.errors import BadInput, NoSuchTrack
from soundkeep.keep.syncs import Wanted
from soundkeep.model import Operation, Track
from soundkeep.web.aliases.alike import alias_router, calling, preflight, refusal
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Context

PATH = "/functions/v1/sync-to-cdn"
WAIT_SECONDS = 30.0
NAMES = ("trackId", "operation", "filePath", "sidecarPath")
SAID = {Operation.UPLOAD: "the track is on the CDN", Operation.DELETE: "the track left the CDN"}

router = alias_router()


@router.post(PATH, openapi_extra=described(required=True, **{name: {} for name in NAMES}))
async def sync(request: Request, context: Context = calling("sync-to-cdn")) -> JSONResponse:
    """Answers when it is done; after 30 s 504, and the ledger goes on."""
    body = await json_object(request)
    track_id, operation = body.get("trackId"), _operation(body)
    if not isinstance(track_id, str):
        raise BadInput("the field 'trackId' is needed")
    found = await context.lookup.track(track_id)
    if found is None and operation is Operation.UPLOAD:
        raise NoSuchTrack(f"there is no track {track_id[:80]}")
    if found is None:
        return _done(operation)
    _check_paths(context, body, found.track)
    wanted = Wanted(operation, track_ids=(track_id,), wait_seconds=WAIT_SECONDS)
    lines = (await context.keep.sync(wanted)).lines
    context.lookup.forget(track_id)
    for line in lines:
        if line.refusal is not None:
            raise line.refusal
    if any(line.due for line in lines):
        return refusal(504, _late(lines))
    return _done(operation, next((line.shown for line in lines if line.shown), None))


@router.options(PATH, include_in_schema=False)
async def options() -> Response:
    """For pages elsewhere."""
    return preflight("POST, OPTIONS")


def _operation(body: Mapping[str, Any]) -> Operation:
    try:
        return Operation(str(body.get("operation")))
    except ValueError:
        raise BadInput("operation is upload or delete") from None


def _check_paths(context: Context, body: Mapping[str, Any], track: Track) -> None:
    """Only the track's own are taken: its path, or where it lies in a public store."""
    rules = [rule for rule in context.keep.rules.stores if rule.public]
    keys = {str(rule.key(track.blob, track)) for rule in rules}
    beside = {str(key) for rule in rules if (key := rule.sidecar_key(track)) is not None}
    for name, own in (("filePath", keys | {track.path}), ("sidecarPath", beside)):
        if body.get(name) is not None and body[name] not in own:
            raise BadInput(f"{name} is not this track's own: leave it away")


def _late(lines: Sequence[Synced]) -> str:
    why = next((line.why for line in lines if line.due and line.why), None)
    return "it is not done yet, and goes on by itself" + (f": {why}" if why else "")


def _done(operation: Operation, shown_at: PublicCopy | None = None) -> JSONResponse:
    document: dict[str, Any] = {"success": True, "message": SAID[operation]}
    if shown_at is not None:
        document["cdn_url"] = shown_at.url
    if shown_at is not None and shown_at.sidecar_url is not None:
        document["sidecar_cdn_url"] = shown_at.sidecar_url
    document["timestamp"] = shown.when(time.time())
    return JSONResponse(document)
