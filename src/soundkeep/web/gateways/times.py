"""Sound with the time of every character, as ElevenLabs' clients take it: one JSON, or a line each.

Times are those of our own timing: of words, and in proportion inside each. `alignment` has the
characters that the client sent, `normalized_alignment` those that were spoken.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from soundkeep.speech.timing import Times, character_times
from soundkeep.web.gateways.forms import Reply, replaced

JSON = (b"content-type", b"application/json")
NOTHING: dict[str, Any] = {"alignment": None, "normalized_alignment": None}


class Timestamps:
    """One JSON object, once the speech is kept and timed."""

    is_plain = False

    async def send(self, reply: Reply) -> None:
        kept = await reply.keep()
        times = msgspec.json.encode(await _alignments(reply))
        audio = _in_base64(reply.speeches.bytes_of(kept))
        headers = replaced(reply.headers(kept), JSON)
        await reply.send(headers, _object(audio, times))
        await reply.end()


class TimestampLines:
    """A line for each piece of sound. What is spoken just now is timed when all of it is there, on
    a last line without sound; what was there has its times on the first."""

    is_plain = False

    async def send(self, reply: Reply) -> None:
        times = NOTHING
        if reply.answer.hit:
            await reply.keep()
            times = await _alignments(reply)
        headers = replaced(reply.headers(), JSON)
        await reply.send(headers, _lines(reply.answer.pieces(), times))
        if reply.answer.hit:
            await reply.end()
        else:
            await reply.keep()
            await reply.end(_line(b"", await _alignments(reply)))


async def _alignments(reply: Reply) -> dict[str, Any]:
    chosen = reply.answer.chosen
    timed = await reply.speeches.timing(chosen.key, chosen.request.language)
    if timed is None:
        return NOTHING
    script, timing = timed
    shown = character_times(script.shown, timing)
    offsets = script.normalised.offsets
    text = script.normalised.text
    spoken = [
        (shown[offsets[index]][0], shown[max(offsets[index], offsets[index + 1] - 1)][1])
        for index in range(len(text))
    ]
    return {
        "alignment": _alignment(script.shown, shown),
        "normalized_alignment": _alignment(text, spoken),
    }


def _alignment(text: str, times: Sequence[Times]) -> dict[str, Any]:
    return {
        "characters": list(text),
        "character_start_times_seconds": [round(start, 3) for start, _ in times],
        "character_end_times_seconds": [round(end, 3) for _, end in times],
    }


async def _lines(
    pieces: AsyncGenerator[bytes, None], times: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        async for piece in pieces:
            yield _line(piece, times)
            times = NOTHING


def _line(audio: bytes, times: dict[str, Any]) -> bytes:
    encoded = base64.b64encode(audio).decode()
    return msgspec.json.encode({"audio_base64": encoded, **times}) + b"\n"


async def _object(audio: AsyncGenerator[bytes, None], times: bytes) -> AsyncGenerator[bytes, None]:
    """The members of `times` after the sound, which is never held whole."""
    yield b'{"audio_base64":"'
    async with aclosing(audio):
        async for piece in audio:
            yield piece
    yield b'",' + times[1:]


async def _in_base64(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    rest = b""
    async with aclosing(pieces):
        async for piece in pieces:
            joined = rest + piece
            whole = len(joined) - len(joined) % 3  # so that no padding comes in the middle
            rest = joined[whole:]
            yield base64.b64encode(joined[:whole])
    yield base64.b64encode(rest)
