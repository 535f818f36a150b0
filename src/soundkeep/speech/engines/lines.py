"""Audio with its times, as lines of JSON: how ElevenLabs and Kokoro stream both."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from soundkeep.speech.engines.http import Answer
from soundkeep.speech.engines.interface import Spoken
from soundkeep.speech.engines.marks import Follower, Spelled

Line = Mapping[str, Any]


async def spoken_lines(
    answer: Answer, follower: Follower, audio: str, spelled: Callable[[Line], Spelled]
) -> AsyncGenerator[Spoken, None]:
    """Each line's audio, which is its member of that name in Base64, and the words it completes."""
    empty = True
    async with aclosing(answer.json_lines()) as lines:
        async for line in lines:
            try:
                sound = base64.b64decode(line.get(audio) or "", validate=True)
                marks = follower.take(spelled(line))
            except (AttributeError, binascii.Error, KeyError, TypeError, ValueError):
                raise answer.bad("it sent a line that is not audio with times") from None
            empty = empty and not sound
            if sound or marks:
                yield Spoken(sound, marks)
    if empty:
        raise answer.bad("it sent no audio")
    if rest := follower.rest():
        yield Spoken(marks=rest)
