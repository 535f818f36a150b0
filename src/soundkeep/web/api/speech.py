"""Speech over HTTP: say it, find it by any of its keys, when its words are heard, and figures.

Whoever hangs up cancels nothing: what was begun is kept, and asking again joins it.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from soundkeep import shown
from soundkeep.speech.records import speech_json
from soundkeep.speech.request import FIELDS, speech_request
from soundkeep.speech.speeches import Answer
from soundkeep.speech.text import MAX_TEXT_CHARS
from soundkeep.speech.timing import Timing
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.api.sounding import kept_sound, streamed, wants_audio
from soundkeep.web.context import Admin, Context, Working
from soundkeep.web.held import held

router = APIRouter(prefix="/api/speech", tags=["speech"])
of_tracks = APIRouter(prefix="/api/tracks", tags=["speech"])

MAX_BODY_BYTES = 6 * MAX_TEXT_CHARS  # JSON may spell a character with six
WEBVTT = "text/vtt"

_TYPES: dict[str, dict[str, Any]] = {
    "speed": {"type": "number"},
    "settings": {"type": "object"},
    "metadata": {"type": "object"},
    "timings": {"type": "boolean"},
    "substitutes": {"type": "array", "items": {"type": "string"}},
}
BODY = described(required=True, **{name: _TYPES.get(name, {"type": "string"}) for name in FIELDS})


@router.post("", openapi_extra=BODY)
async def say(request: Request, context: Working) -> Response:
    """Says a text, or has it from what was said before, and files it as its owner's track.

    Answers the speech as JSON once it is kept; with `Accept: audio/*` its sound, while it is spoken
    where that can be.
    """
    fields = await json_object(request, MAX_BODY_BYTES)
    wanted = await asyncio.to_thread(speech_request, fields)
    answer = await context.house.speeches.say(wanted)
    if wants_audio(request):
        return await _sound(context, answer)
    document = await context.house.records.made(answer, context.base_url(request))
    if document["temporary"]:
        view = await held(context, document["track_id"])
        document["temporary"] = view.temporary
    return JSONResponse(document)


async def _sound(context: Context, answer: Answer) -> Response:
    context.house.speeches.file(answer)
    headers = {
        "X-Soundkeep-Key": answer.chosen.key,
        "X-Soundkeep-Cache": "hit" if answer.hit else "miss",
    }
    if answer.substitute:
        headers["X-Soundkeep-Substitute"] = answer.chosen.engine.name
    return await streamed(answer.pieces(), answer.chosen.output.media_type, headers)


@router.get("/stats")
async def stats(context: Admin, owner: str | None = None) -> JSONResponse:
    """Hits, misses, what was spent and saved, voices by popularity, and how long things take."""
    return JSONResponse(await context.house.records.stats(owner))


@router.get("/voices")
async def voices(context: Admin, engine: str | None = None) -> JSONResponse:
    """The voices of one engine, or of all."""
    return JSONResponse(shown.items(await context.house.records.voices(engine), None))


@router.get("/{key}")
@router.head("/{key}", include_in_schema=False)
async def read(request: Request, context: Admin, key: str) -> Response:
    """What is kept under the key of a speech or of a segment, or under another that was given to
    it: as JSON, or with `Accept: audio/*` its sound."""
    found = await context.house.records.find(key)
    if not wants_audio(request):
        return JSONResponse(speech_json(found, context.base_url(request)))
    headers = {"X-Soundkeep-Key": found.key, "X-Soundkeep-Cache": "hit"}
    return await kept_sound(request, context.keep.reader, found.blob, headers)


@router.delete("/{key}", status_code=202)
async def revoke(context: Admin, key: str) -> JSONResponse:
    """Withdraws what was said under the key of a speech or of a segment, from every store, and all
    speeches and tracks made of it. To revoke twice is to revoke once."""
    revoked = await context.house.revoker.revoke(key)
    for track_id in revoked.tracks:
        context.lookup.forget(track_id)
    return JSONResponse(asdict(revoked), status_code=202)


@router.get("/{key}/timing")
async def timing(
    request: Request, context: Admin, key: str, format: Literal["json", "vtt"] | None = None
) -> Response:
    """When its sentences and words are heard, as JSON or WebVTT."""
    return _timing(request, format, *await context.house.records.timing(key))


@of_tracks.get("/{track_id}/timing")
async def timing_of_track(
    request: Request, context: Admin, track_id: str, format: Literal["json", "vtt"] | None = None
) -> Response:
    """When the sentences and words of a spoken track are heard, as JSON or WebVTT."""
    await context.keep.track(track_id)
    return _timing(request, format, *await context.house.records.timing_of_track(track_id))


def _timing(request: Request, format_: str | None, text: str, timing: Timing) -> Response:
    wants_vtt = WEBVTT in request.headers.get("accept", "")
    if format_ == "vtt" or (format_ is None and wants_vtt):
        return Response(timing.to_webvtt(text), media_type=WEBVTT)
    return JSONResponse({"text": text, **timing.to_json()})
