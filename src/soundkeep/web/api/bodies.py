"""Reads the JSON body of a request, bounded, and only when a route asks for it.

FastAPI reads a declared body before any dependency runs: whoever has no key could fill the
memory. A route that takes JSON declares `described` and calls `json_object` when its key was
checked.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from soundkeep.errors import BadInput

MAX_BYTES = 1024 * 1024


def described(*, required: bool, **fields: dict[str, Any]) -> dict[str, Any]:
    """What the API's description says of such a body, and of its fields."""
    schema = {"type": "object", **({"properties": fields} if fields else {})}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": required, "content": content}}


async def json_object(request: Request, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object, or an empty one for an empty body. Raises `BadInput`."""
    return parsed_object(await whole_body(request, max_bytes))


async def whole_body(request: Request, max_bytes: int = MAX_BYTES) -> bytes:
    """As it was sent. Raises `BadInput`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise BadInput(f"the body is over {max_bytes} bytes")
    return bytes(body)


def parsed_object(body: bytes) -> dict[str, Any]:
    """The object, or an empty one for an empty body. Raises `BadInput`."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise BadInput("the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise BadInput("the body is a JSON object")
    return value
