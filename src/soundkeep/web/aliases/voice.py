"""`/api/voice`: a chapter's text spoken once, in as many books as use it, and found by its hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response

from soundkeep.errors import BadInput, NoSuchSpeech
from soundkeep.web.aliases.alike import alias_router, calling, preflight
from soundkeep.web.aliases.public import published
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Context

PATH = "/api/voice"
MODEL = "eleven_multilingual_v2"
FORMAT = "mp3_44100_128"
NAMES = ("text", "voiceId", "bookId", "chapterId", "model", "speakingRate", "format")

router = alias_router()


@router.post(PATH, openapi_extra=described(required=True, **{name: {} for name in NAMES}))
async def say(request: Request, context: Context = calling("voice")) -> JSONResponse:
    """Says `text` as `voiceId`, and files it under the book."""
    body = await json_object(request)
    if not body.get("voiceId"):
        raise BadInput("the field 'voiceId' is needed")
    base_url = context.base_url(request)
    made = await published(context, await _fields(context, body), base_url)
    return _answer(made.speech, made.url(base_url), made.speech["key"])


@router.get(PATH)
async def find(
    request: Request,
    content_hash: Annotated[str, Query(alias="contentHash")],
    context: Context = calling("voice"),
) -> JSONResponse:
    """The same by its hash, which may be one of an import."""
    base_url = context.base_url(request)
    speech, url = await context.house.records.public(content_hash, base_url)
    if url is None:
        raise NoSuchSpeech(
            f"there is no public audio {content_hash[:80]}: no track of it is public"
        )
    return _answer(speech, url, content_hash)


@router.options(PATH, include_in_schema=False)
async def options() -> Response:
    """For pages elsewhere."""
    return preflight("GET, POST, OPTIONS")


async def _fields(context: Context, body: Mapping[str, Any]) -> dict[str, Any]:
    model = body.get("model") or MODEL
    engine, model = await context.house.speeches.chooser.named(str(model))
    of_chapter = {
        name: body[name] for name in ("bookId", "chapterId") if body.get(name) is not None
    }
    book = body.get("bookId")
    return {
        "text": body.get("text"),
        "voice": body["voiceId"],
        "engine": engine,
        "model": model,
        "speed": body.get("speakingRate"),
        "format": body.get("format") or FORMAT,
        "collection": None if book is None else str(book),
        "metadata": of_chapter,
    }


def _answer(speech: Mapping[str, Any], url: str, content_hash: str) -> JSONResponse:
    document = {
        "success": True,
        "audioUrl": url,
        "contentHash": content_hash,
        "cached": speech["cached"],
        "wordCount": speech["words"],
        "durationSec": speech["duration_seconds"],
    }
    return JSONResponse(document)
