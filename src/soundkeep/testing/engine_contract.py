"""The contract of an engine as tests, each named by what is true when it passes.

Subclass `EngineContract`, supply a fixture `engine`, and inherit the tests. They make some thirty
calls of a sentence or two: against a real provider that costs a little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from soundkeep.errors import (
    EngineError,
    EngineRefused,
    TextTooLong,
    UnknownFormat,
    UnknownModel,
    UnknownVoice,
)
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.interface import AudioFormat, Bill, Engine, Spoken
from soundkeep.speech.timing import Mark
from soundkeep.testing.expecting import fails_with

TEXT = "The keep is quiet tonight. Nobody, not even the cat, is awake at 3.45 in the tower!"
SHORT = "Good night."
AWKWARD_TEXTS = (
    "a",
    "I",
    "7",
    "Grüße aus Köln, naïve façade.",
    "He said: “Don\u2019t”, and she said: \"Why not?\"",
    "Line one.\nLine two.\n\nA paragraph of its own.",
    "Tab\tand a soft\u00adhyphen, a zero\u200dwidth joiner.",
    "<b>This</b> is &amp; stays text: {\"json\": [1, 2]} [[h@loU]] %s %00",
    "🎧 Listen 🎧",
    "日本語 and Ελληνικά and עברית",
    "w" * 300,
)  # fmt: skip
SILENT_TEXTS = ("", " ", "\n\n")

MAGIC: Mapping[str, tuple[bytes, ...]] = {
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"),
    "wav": (b"RIFF",),
    "flac": (b"fLaC",),
    "opus": (b"OggS",),
    "aac": (b"\xff\xf1", b"\xff\xf9"),
}


@dataclass(frozen=True)
class Heard:
    """All that came of one call."""

    audio: bytes
    marks: list[Mark]
    bill: Bill
    pieces: list[Spoken]


class EngineContract:
    """What every engine owes."""

    at_once = 6
    wrong_field = "no_such_setting"
    secrets: tuple[str, ...] = ()  # what the engine was given and must not show

    # --- what it says it can do -------------------------------------------------------------

    async def test_the_master_format_is_one_of_those_it_delivers(self, engine: Engine) -> None:
        caps = engine.caps
        assert caps.master in caps.formats
        assert len({each.name for each in caps.formats}) == len(caps.formats)
        assert all(caps.format(each.name) == each for each in caps.formats)

    async def test_every_voice_and_model_has_an_id_of_its_own(self, engine: Engine) -> None:
        for listed in (await engine.voices(), await engine.models()):
            ids = [each.id for each in listed]
            assert ids
            assert all(ids)
            assert len(set(ids)) == len(ids)
        assert all(model.max_chars > 0 for model in await engine.models())

    # --- speaking ---------------------------------------------------------------------------

    async def test_the_bill_stands_on_the_last_piece_and_nothing_is_empty(
        self, engine: Engine
    ) -> None:
        heard = await self.hear(engine, TEXT)
        assert [piece.bill for piece in heard.pieces[:-1]] == [None] * (len(heard.pieces) - 1)
        assert all(piece.audio or piece.marks for piece in heard.pieces[:-1])
        assert heard.bill.characters > 0

    async def test_a_bill_is_never_above_its_estimate(self, engine: Engine) -> None:
        asked = await self.asked(engine, TEXT)
        estimate, bill = engine.estimate(asked), (await hear(engine, asked)).bill
        assert bill.characters <= estimate.characters
        assert (bill.cost is None) == (estimate.cost is None)
        assert bill.currency == estimate.currency
        if bill.cost is not None and estimate.cost is not None:
            assert bill.cost <= estimate.cost

    async def test_every_format_is_what_its_name_says(self, engine: Engine) -> None:
        for format_ in engine.caps.formats:
            heard = await self.hear(engine, SHORT, format=format_.name)
            assert len(heard.audio) > 100
            assert heard.audio.startswith(MAGIC.get(format_.coding, (b"",)))

    async def test_a_longer_text_is_a_longer_sound(self, engine: Engine) -> None:
        short, long = await self.hear(engine, SHORT), await self.hear(engine, TEXT)
        assert len(long.audio) > 2 * len(short.audio)

    async def test_who_speaks_faster_is_done_sooner(self, engine: Engine) -> None:
        slow = await self.hear(engine, TEXT, speed=0.8)
        fast = await self.hear(engine, TEXT, speed=1.2)
        assert len(fast.audio) < 0.9 * len(slow.audio)

    async def test_awkward_texts_are_spoken_or_refused_for_nothing(self, engine: Engine) -> None:
        for text in AWKWARD_TEXTS:
            heard = await self.hear_or_none(engine, text)
            if heard is not None:
                assert heard.audio
                self.marks_are_in_order(heard, text)

    # --- marks ------------------------------------------------------------------------------

    async def test_marks_go_forward_and_lie_within_text_and_sound(self, engine: Engine) -> None:
        heard = await self.hear(engine, TEXT)
        self.marks_are_in_order(heard, TEXT)
        seconds = self.seconds_of(heard.audio, engine.caps.master)
        if seconds is not None:
            assert all(mark.end_seconds <= seconds + 0.1 for mark in heard.marks)

    async def test_an_engine_with_timestamps_marks_every_word(self, engine: Engine) -> None:
        heard = await self.hear(engine, TEXT)
        words = [TEXT[mark.start : mark.end] for mark in heard.marks if mark.kind == "word"]
        if engine.caps.timestamps:
            assert words == [word.strip(".,!") for word in TEXT.split()]
        else:
            assert words == []

    # --- refusals ---------------------------------------------------------------------------

    async def test_what_is_unknown_is_refused_before_anything_is_spent(
        self, engine: Engine
    ) -> None:
        good = await self.asked(engine, SHORT)
        most = next(each for each in await engine.models() if each.id == good.model).max_chars
        wrong: list[tuple[type[EngineError], Asked]] = [
            (UnknownVoice, replace(good, voice="nobody's voice")),
            (UnknownVoice, replace(good, voice="")),
            (UnknownVoice, replace(good, voice="../models")),
            (UnknownModel, replace(good, model="no-such-model")),
            (UnknownFormat, replace(good, format="mp5")),
            (TextTooLong, replace(good, text="long " * (most // 5 + 1))),
            *((EngineRefused, replace(good, text=text)) for text in SILENT_TEXTS),
        ]
        if not engine.caps.free_form:
            wrong.append((EngineRefused, replace(good, settings={self.wrong_field: 1})))
        for kind, asked in wrong:
            await fails_with(kind, engine.check(asked))
            await fails_with(kind, hear(engine, asked))
            assert await _charged(engine, asked) is False
        await engine.check(good)

    # --- together and interrupted -----------------------------------------------------------

    async def test_callers_at_once_each_get_what_they_asked_for(self, engine: Engine) -> None:
        texts = [SHORT, TEXT] * (self.at_once // 2)
        heard = await asyncio.gather(*(self.hear(engine, text) for text in texts))
        sizes = [len(each.audio) for each in heard]
        assert min(sizes[1::2]) > 2 * max(sizes[::2])

    async def test_a_body_left_early_gives_everything_back(self, engine: Engine) -> None:
        asked = await self.asked(engine, TEXT)
        for _ in range(self.at_once):  # more than there are places
            async with aclosing(engine.speak(asked)) as pieces:
                await anext(pieces)
        assert (await hear(engine, asked)).audio

    async def test_a_caller_who_is_cancelled_takes_no_place_with_him(self, engine: Engine) -> None:
        asked = await self.asked(engine, TEXT)
        for rounds in range(self.at_once):
            call = asyncio.ensure_future(hear(engine, asked))
            for _ in range(rounds):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        assert (await hear(engine, asked)).audio

    async def test_what_it_shows_of_itself_holds_no_secret(self, engine: Engine) -> None:
        shown = f"{engine!r} {engine.caps!r} {vars(engine)!r}"
        assert not [secret for secret in self.secrets if secret in shown]

    async def test_closing_twice_is_the_same_as_once(self, engine: Engine) -> None:
        await self.hear(engine, SHORT)
        await engine.close()
        await engine.close()

    # --- what the tests are made of ---------------------------------------------------------

    def seconds_of(self, audio: bytes, format_: AudioFormat) -> float | None:
        """How long the sound is, if that can be told here."""
        rate = format_.sample_rate_hz
        return len(audio) / 2 / rate if format_.coding == "pcm" and rate else None

    async def asked(self, engine: Engine, text: str, **changes: Any) -> Asked:
        """The text in the first voice, model and master format, but for the changes."""
        asked = Asked(
            engine=engine.name,
            model=(await engine.models())[0].id,
            voice=(await self.a_voice(engine)),
            text=text,
            language=None,
            speed=1.0,
            settings={},
            format=engine.caps.master.name,
        )
        return replace(asked, **changes)

    async def a_voice(self, engine: Engine) -> str:
        """Who speaks in the tests."""
        return (await engine.voices())[0].id

    async def hear(self, engine: Engine, text: str, **changes: Any) -> Heard:
        """All that comes of the text."""
        return await hear(engine, await self.asked(engine, text, **changes))

    async def hear_or_none(self, engine: Engine, text: str) -> Heard | None:
        """All that comes of the text, or None if it was refused, which must have cost nothing."""
        asked = await self.asked(engine, text)
        try:
            return await hear(engine, asked)
        except EngineRefused as error:
            if error.charged is not False:
                raise
            return None

    def marks_are_in_order(self, heard: Heard, text: str) -> None:
        """Every mark holds something, and starts never go back, kind by kind."""
        for kind in ("word", "sentence"):
            marks = [mark for mark in heard.marks if mark.kind == kind]
            assert all(0 <= mark.start < mark.end <= len(text) for mark in marks)
            assert all(0 <= mark.start_seconds <= mark.end_seconds for mark in marks)
            starts = [(mark.start, mark.start_seconds) for mark in marks]
            assert [start for start, _ in starts] == sorted({start for start, _ in starts})
            assert [at for _, at in starts] == sorted(at for _, at in starts)


async def hear(engine: Engine, asked: Asked) -> Heard:
    """All pieces of a call, to its end."""
    async with aclosing(engine.speak(asked)) as speaking:
        pieces = [piece async for piece in speaking]
    bill = pieces[-1].bill
    assert bill is not None
    audio = b"".join(piece.audio for piece in pieces)
    return Heard(audio, [mark for piece in pieces for mark in piece.marks], bill, pieces)


async def _charged(engine: Engine, asked: Asked) -> bool | None:
    try:
        await hear(engine, asked)
    except EngineError as error:
        return error.charged
    raise AssertionError("it was not refused")
