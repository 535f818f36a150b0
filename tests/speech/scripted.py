"""An engine that says what the test wrote down, at the moment that the test allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from decimal import Decimal

from soundkeep.errors import EngineUnavailable
from soundkeep.speech.asked import Asked
from soundkeep.speech.calls import Take
from soundkeep.speech.engines.interface import (
    AudioFormat,
    Bill,
    EngineCaps,
    Mark,
    Model,
    Price,
    Spoken,
    Voice,
)
from soundkeep.speech.leading import Verdict

WAV = AudioFormat("wav", "wav", "audio/wav", "wav", 44100)
PRICE = Price(Decimal(1000), "USD")  # a character costs 1
PIECE_BYTES = 32 * 1024


def asked(text: str = "Hello.") -> Asked:
    return Asked("scripted", "m", "v", text, None, 1, {}, "wav")


async def accept(take: Take) -> Verdict:
    """The judge of tests that are about something else than sound."""
    return Verdict(accepted=True)


class ScriptedEngine:
    """`audio` is what it says; `error` comes after `error_at` pieces, if there is one."""

    name = "scripted"
    caps = EngineCaps(WAV, (WAV,), timestamps=True, price=PRICE)

    def __init__(self, audio: bytes) -> None:
        self.audio = audio
        self.error: BaseException | None = None
        self.error_at = 0
        self.marks = True  # whether it tells when its words are heard
        self.lists = True  # whether it can be asked what it has
        self.calls = 0
        self.broken_off = 0
        self.may_begin = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_begin.set()
        self.may_end.set()

    async def voices(self) -> list[Voice]:
        return [Voice("v", "V")]

    async def models(self) -> list[Model]:
        if not self.lists:
            raise EngineUnavailable("it is out", charged=False)
        return [Model("m", "M", 5000)]

    def estimate(self, asked: Asked) -> Bill:
        return Bill.of(PRICE, len(asked.text))

    async def check(self, asked: Asked) -> None:
        pass

    async def speak(self, asked: Asked) -> AsyncGenerator[Spoken, None]:
        self.calls += 1
        try:
            await self.may_begin.wait()
            for number, at in enumerate(range(0, len(self.audio), PIECE_BYTES)):
                if self.error is not None and number == self.error_at:
                    raise self.error
                yield Spoken(self.audio[at : at + PIECE_BYTES])
            await self.may_end.wait()
        except (GeneratorExit, asyncio.CancelledError):
            self.broken_off += 1
            raise
        marks = (Mark(0.0, 0.5, 0, len(asked.text), "word"),) if self.marks else ()
        yield Spoken(marks=marks, bill=Bill.of(PRICE, len(asked.text), "request-1"))

    async def close(self) -> None:
        pass
