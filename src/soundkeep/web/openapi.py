"""What FastAPI cannot know of itself: the hot path and its headers, and how keys are sent."""

from __future__ import annotations

from typing import Any

SECURITY = {"key": {"type": "http", "scheme": "bearer", "description": "the admin key"}}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _asked(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, **_header(description)}


_ALWAYS = {
    "ETag": _header("the SHA-256 of the bytes, a strong validator"),
    "Accept-Ranges": _header("bytes"),
    "Cache-Control": _header("public tracks: a year and immutable; private: no-cache"),
    "Content-Disposition": _header("inline, with the file's name"),
    "Repr-Digest": _header("sha-256=:base64: (RFC 9530)"),
}
_BYTES = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}
_RANGE = {"Content-Range": _header("bytes first-last/size")}

_GET: dict[str, Any] = {
    "tags": ["sound"],
    "summary": "The sound",
    "description": "Public, or with the key. The id may be followed by an extension. Every byte "
    "was verified; when no copy is left in mid-stream the connection is aborted.",
    "security": [{}, {"key": []}],
    "parameters": [
        {"name": "track_id", "in": "path", "required": True, "schema": {"type": "string"}},
        _asked("Range", "bytes=first-last, bytes=first- or bytes=-last"),
        _asked("If-Range", "the ETag under which a range is wanted; else the whole is sent"),
        _asked("If-None-Match", "ETags that the client has"),
        {
            "name": "delivery",
            "in": "query",
            "required": False,
            "description": "stream: never send me to a store",
            "schema": {"type": "string", "enum": ["stream"]},
        },
    ],
    "responses": {
        "200": {"description": "the whole sound", "headers": _ALWAYS, "content": _BYTES},
        "206": {
            "description": "the range",
            "headers": {**_ALWAYS, **_RANGE},
            "content": _BYTES,
        },
        "304": {"description": "the client has it", "headers": _ALWAYS},
        "307": {
            "description": "a store serves it (`delivery = redirect`)",
            "headers": {"Location": _header("its copy there; never cached")},
        },
        "404": {"description": "no such track, or not without a key"},
        "416": {
            "description": "the range lies beyond the end",
            "headers": {**_ALWAYS, "Content-Range": _header("bytes */size")},
        },
        "503": {"description": "no good copy can be reached now"},
    },
}

AUDIO = {"get": _GET, "head": {**_GET, "summary": "The sound's headers"}}
