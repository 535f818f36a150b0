"""The offline voice: espeak-ng in processes of its own, which need no account and no network.

It speaks sentence by sentence, so that every sentence's time is exact and the first one is heard
before the last is made. `espeak_worker` is the inside of a process, `espeak_processes` keeps them.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec
from sentencex import get_sentence_boundaries

from soundkeep.errors import EngineRefused
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.checking import check_asked
from soundkeep.speech.engines.espeak_processes import Processes
from soundkeep.speech.engines.espeak_worker import Line, Said, Speaker
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
from soundkeep.speech.engines.listing import Listing
from soundkeep.speech.engines.marks import Onset, Span, by_onsets, words

SAMPLE_RATE_HZ = 22050
SAMPLE_BYTES = 2
WAV = AudioFormat("wav_22050", "wav", "audio/wav", "wav", SAMPLE_RATE_HZ)
PCM = AudioFormat("pcm_22050", "pcm", "audio/pcm", "pcm", SAMPLE_RATE_HZ)
FORMATS = {each.name: each for each in (WAV, PCM)}

MODEL = "espeak-ng"
MAX_CHARS = 10_000  # some ten minutes, 26 MB
WORDS_PER_MINUTE = 175
SPEEDS = (0.5, 2.5)  # espeak itself goes from 80 to 450 words
LIMITS = {"pitch": (0, 99), "range": (0, 99), "volume": (0, 200), "word_gap": (0, 100)}
GENDERS = {1: "male", 2: "female"}


@dataclass(frozen=True, slots=True)
class _Sentence:
    span: Span
    said: Said
    head: bytes = b""

    @property
    def seconds(self) -> float:
        return len(self.said.samples) / SAMPLE_BYTES / SAMPLE_RATE_HZ


class EspeakEngine:
    """espeak-ng as an engine. It starts its processes when they are needed."""

    def __init__(
        self, name: str, *, master: str = WAV.name, workers: int = 2, seconds: float = 20
    ) -> None:
        self.name = name
        self.caps = EngineCaps(
            master=FORMATS[master],
            formats=tuple(FORMATS.values()),
            timestamps=True,
            fields=frozenset(LIMITS),
            price=Price(Decimal(0), "USD"),
        )
        self._processes = Processes(name, workers=workers, seconds=seconds)
        self._files: dict[str, str] = {}  # of voices, as the library asks for them
        self._voices = Listing(self._list_voices)
        self._models = Listing(_list_models)

    async def voices(self) -> list[Voice]:
        return await self._voices.all()

    async def models(self) -> list[Model]:
        return await self._models.all()

    def estimate(self, asked: Asked) -> Bill:
        return Bill(len(asked.text), Decimal(0), "USD")

    async def check(self, asked: Asked) -> None:
        await check_asked(self, asked, self._voices, self._models)
        self._line(asked)

    async def speak(self, asked: Asked) -> AsyncGenerator[Spoken, None]:
        await self.check(asked)
        begin = 0.0
        async with aclosing(self._framed(asked)) as sentences:
            async for sentence in sentences:
                marks = _marks(asked.text, sentence, begin)
                yield Spoken(audio=sentence.head + sentence.said.samples, marks=marks)
                begin += sentence.seconds
        yield Spoken(bill=self.estimate(asked))

    async def close(self) -> None:
        await self._processes.close()

    async def _framed(self, asked: Asked) -> AsyncGenerator[_Sentence, None]:
        """As the format wants it: a WAV begins with its length, so all of it is made first."""
        async with aclosing(self._sentences(asked)) as sentences:
            if asked.format == PCM.name:
                async for sentence in sentences:
                    yield sentence
                return
            whole = [sentence async for sentence in sentences]
        head = _wav_header(sum(len(each.said.samples) for each in whole))
        for number, sentence in enumerate(whole):
            yield sentence if number else replace(sentence, head=head)

    async def _sentences(self, asked: Asked) -> AsyncGenerator[_Sentence, None]:
        """Each with its samples, as they come. What has no words has no sound either."""
        line, heard = self._line(asked), False
        for start, end in sentence_spans(asked.text, asked.language or asked.voice):
            said = await self._say(msgspec.structs.replace(line, text=asked.text[start:end]))
            heard = heard or bool(said.onsets)
            if said.onsets:
                yield _Sentence((start, end), said)
        if not heard:
            raise EngineRefused(f"{self.name}: nothing in this text can be spoken")

    async def _say(self, line: Line) -> Said:
        said = await self._processes.ask(line)
        if said.refusal:
            raise EngineRefused(f"{self.name}: {said.refusal}")
        return said

    def _line(self, asked: Asked) -> Line:
        """What does not depend on the sentence. Raises `EngineRefused`."""
        if not SPEEDS[0] <= asked.speed <= SPEEDS[1]:
            raise EngineRefused(f"{self.name}: speed is from {SPEEDS[0]:g} to {SPEEDS[1]:g}")
        settings = {field: self._whole(asked, field) for field in asked.settings}
        rate = round(WORDS_PER_MINUTE * asked.speed)
        line = Line(voice=self._files[asked.voice], rate=rate)
        return msgspec.structs.replace(line, **settings)

    def _whole(self, asked: Asked, field: str) -> int:
        value, (least, most) = asked.settings[field], LIMITS[field]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise EngineRefused(f"{self.name}: {field} is a whole number from {least} to {most}")
        return value

    async def _list_voices(self) -> list[Voice]:
        speakers = _by_id((await self._processes.ask(Line())).speakers)
        self._files = {id_: speaker.file for id_, speaker in speakers.items()}
        return [
            Voice(id_, each.name, tuple(each.languages), GENDERS.get(each.gender))
            for id_, each in speakers.items()
        ]


async def _list_models() -> list[Model]:
    return [Model(MODEL, "eSpeak NG", MAX_CHARS)]


def _by_id(speakers: list[Speaker]) -> dict[str, Speaker]:
    """By language, as people know them. A voice is asked for by its file all the same: `en-gb` is
    refused by the library, though its list has it."""
    found: dict[str, Speaker] = {}
    for speaker in speakers:
        language, file = speaker.languages[0], speaker.file.rpartition("/")[2].lower()
        found[file if language in found else language] = speaker
    return found


def sentence_spans(text: str, language: str) -> list[Span]:
    """The sentences of a text with something in them, without the white space around them."""
    found = get_sentence_boundaries(language.partition("-")[0], text)
    spans = ((int(each["start_index"]), int(each["end_index"])) for each in found)
    return [_trimmed(text, *span) for span in spans if text[slice(*span)].strip()]


def _trimmed(text: str, start: int, end: int) -> Span:
    said = text[start:end]
    return start + len(said) - len(said.lstrip()), end - len(said) + len(said.rstrip())


def _marks(text: str, sentence: _Sentence, begin: float) -> tuple[Mark, ...]:
    """The sentence and its words, in a sound in which it begins at that second."""
    start, end = sentence.span
    until = begin + sentence.seconds
    onsets = [
        Onset(start + index, begin + sample / SAMPLE_RATE_HZ)
        for index, sample in sentence.said.onsets
    ]
    spoken = by_onsets(words(text, start, end), onsets, begin, until)
    return (Mark(begin, until, start, end, kind="sentence"), *spoken)


def _wav_header(data_bytes: int) -> bytes:
    rate, size = SAMPLE_RATE_HZ, SAMPLE_BYTES
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * size, size, 8 * size)
    riff = struct.pack("<4sI4s", b"RIFF", 36 + data_bytes, b"WAVE")
    return riff + chunk + struct.pack("<4sI", b"data", data_bytes)
