"""Signed requests of other programs: an object to adopt, or a track to sync.

Each becomes an errand in the ledger before it is answered, so nothing that was accepted is lost.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from soundkeep.access.signatures import is_signed
from soundkeep.catalog import errands
from soundkeep.catalog.database import Tx
from soundkeep.catalog.errands import Errand
from soundkeep.copies import syncing
from soundkeep.errors import BadInput, ShuttingDown, Unauthorized
from soundkeep.model import Chore, Operation
from soundkeep.settings.secrets import reveal
from soundkeep.web.api.bodies import described, parsed_object, whole_body
from soundkeep.web.context import Anyone, Context

router = APIRouter(prefix="/api/hooks", tags=["hooks"])

TIMESTAMP, SIGNATURE = "soundkeep-timestamp", "soundkeep-signature"
MAX_BYTES = 64 * 1024  # nobody is known before the body is read
UNKNOWN = secrets.token_hex(32)  # nobody's secret, so that an unknown hook takes as long
NAMES = ("operation", "track_id", "key", "store", "withdraw")


@router.post("/{name}", openapi_extra=described(required=True, **{each: {} for each in NAMES}))
async def called(request: Request, context: Anyone, name: str) -> JSONResponse:
    """Takes an errand: `{"operation": "adopt", "store", "key"}`, or `{"operation": "sync",
    "track_id"}` with a `store` (every public one by default) and maybe `"withdraw": true`."""
    body = await whole_body(request, MAX_BYTES)
    _check_signature(request, context, name, body)
    if context.draining:
        raise ShuttingDown
    asked = _errands(context, parsed_object(body))
    await context.keep.catalog.write(_add_all, asked)
    return JSONResponse({"accepted": len(asked)}, status_code=202)


def _check_signature(request: Request, context: Context, name: str, body: bytes) -> None:
    """Raises `Unauthorized`, which says no more to anybody."""
    hook = context.keep.settings.hooks.get(name)
    secret = reveal(hook.secret) if hook is not None else UNKNOWN
    timestamp, given = (request.headers.get(each, "") for each in (TIMESTAMP, SIGNATURE))
    if not is_signed(secret, timestamp, given, body, time.time()) or hook is None:
        raise Unauthorized("this is not signed as it should be")


def _errands(context: Context, fields: dict[str, Any]) -> list[Errand]:
    """Raises `BadInput`, `NoSuchStore`."""
    operation, store = fields.get("operation"), fields.get("store")
    if store is not None and not isinstance(store, str):
        raise BadInput("store is a text")
    if operation == Chore.ADOPT:
        if store is None:
            raise BadInput("to adopt needs a store")
        [rule] = syncing.stores_named(context.keep.rules, store)
        return [Errand(Chore.ADOPT, rule.name, key=_text(fields, "key"))]
    if operation == Chore.SYNC:
        track_id = _text(fields, "track_id")
        what = Operation.DELETE if fields.get("withdraw") is True else Operation.UPLOAD
        rules = syncing.stores_named(context.keep.rules, store)
        return [Errand(Chore.SYNC, each.name, None, track_id, what) for each in rules]
    raise BadInput("operation is sync or adopt")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value or "\x00" in value:
        raise BadInput(f"the field {name!r} is needed")
    return value


def _add_all(tx: Tx, asked: list[Errand]) -> None:
    for errand in asked:
        errands.add(tx, errand)
