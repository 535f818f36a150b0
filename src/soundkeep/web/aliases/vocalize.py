"""`POST /api/agents/vocalize`: a text spoken, and the address of its sound.

What is kept so far only in our inbox is temporary: its address goes on playing after it has moved
on, and `key` finds the lasting one. There is never audio inside an answer.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from soundkeep.shown import is_kept
from soundkeep.stores.ipfs_cid import first_cid
from soundkeep.web.aliases.alike import alias_router, calling, preflight
from soundkeep.web.aliases.public import published
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Context

PATH = "/api/agents/vocalize"
COLLECTION = "vocalize"
NOTE = "held here until it has been copied; this address goes on playing"
TEXT = {"type": "string"}

router = alias_router()


@router.post(PATH, openapi_extra=described(required=True, text=TEXT, voiceId=TEXT))
async def vocalize(request: Request, context: Context = calling("vocalize")) -> JSONResponse:
    """Says `text` as `voiceId`; answers `data.audioUrl` and `data.key`, and `data.ipfsHash` once it
    lies in IPFS."""
    body = await json_object(request)
    base_url = context.base_url(request)
    fields = {"text": body.get("text"), "voice": body.get("voiceId"), "collection": COLLECTION}
    made = await published(context, fields, base_url)
    data: dict[str, Any] = {"audioUrl": made.url(base_url), "key": made.speech["key"]}
    if cid := first_cid(copy.locator for copy in made.view.copies if is_kept(copy)):
        data["ipfsHash"] = cid
    if made.view.temporary:
        address = f"{base_url}/api/temp-audio/{quote(made.view.track.id, safe='')}"
        data |= {"audioUrl": address, "isTemporary": True, "note": NOTE}
    return JSONResponse({"success": True, "data": data})


@router.options(PATH, include_in_schema=False)
async def options() -> Response:
    """For pages elsewhere."""
    return preflight("POST, OPTIONS")
