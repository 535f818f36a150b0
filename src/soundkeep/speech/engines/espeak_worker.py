"""The inside of the offline voice: speaks one sentence after another until its input ends.

espeak-ng wants a process of its own: it keeps one global state, threads crash it, and a fault of it
must not be ours. Here it has caps on memory and CPU time, writes no file and dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from soundkeep.audio.confined import allow_cpu, cap, die_with, framed, received

NOT_INSTALLED = 3  # exit code

MEMORY_BYTES = 1024 * 1024 * 1024
CPU_SECONDS_PER_JOB = 20

# What speak_lib.h of espeak-ng calls them.
AUDIO_OUTPUT_SYNCHRONOUS, INITIALIZE_DONT_EXIT = 2, 0x8000
RATE, VOLUME, PITCH, RANGE, WORD_GAP = 1, 2, 3, 4, 7
CHARS_UTF8, END_PAUSE = 0x0001, 0x1000
POS_CHARACTER = 1
EVENT_LIST_TERMINATED, EVENT_WORD = 0, 1


class Line(msgspec.Struct, frozen=True):
    """A sentence to be spoken; without a voice, a question for the list of voices."""

    voice: str = ""  # as the list calls its file
    text: str = ""
    rate: int = 175  # words per minute
    pitch: int = 50
    range: int = 50
    volume: int = 100
    word_gap: int = 0  # in 10 ms


class Speaker(msgspec.Struct, frozen=True):
    """A voice of the list. `file` is what it is asked for by."""

    name: str
    file: str
    languages: list[str]
    gender: int


class Said(msgspec.Struct, frozen=True):
    """The samples of a sentence, and which index of its text begins at which of them."""

    refusal: str = ""
    sample_rate_hz: int = 0
    samples: bytes = b""
    onsets: list[tuple[int, int]] = []
    speakers: list[Speaker] = []


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Heard = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Espeak:
    """The library, loaded and initialised once."""

    def __init__(self, library: Path, data: Path) -> None:
        self._lib = ctypes.CDLL(str(library))
        self._lib.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        os.chdir(data.parent)  # a data path of more than 159 bytes would be an error
        self._sample_rate_hz = self._lib.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data.name), INITIALIZE_DONT_EXIT
        )
        if self._sample_rate_hz <= 0:
            raise RuntimeError("espeak-ng does not find its data")
        self._samples = bytearray()
        self._onsets: list[tuple[int, int]] = []
        self._heard = _Heard(self._hear)  # kept, or it would be collected while it is called
        self._lib.espeak_SetSynthCallback(self._heard)

    def speakers(self) -> list[Speaker]:
        """Every voice that can speak: some stand in the list without their dictionary."""
        voices = self._lib.espeak_ListVoices(None)
        found: list[Speaker] = []
        while voices[len(found)]:
            found.append(_speaker(voices[len(found)].contents))
        return [speaker for speaker in found if self.say(Line(speaker.file, "a")).onsets]

    def say(self, line: Line) -> Said:
        """The whole sentence. A text position counts characters from 1."""
        if self._lib.espeak_SetVoiceByName(line.voice.encode()) != 0:
            return Said(refusal=f"there is no voice {line.voice!r}")
        settings = {
            RATE: line.rate,
            VOLUME: line.volume,
            PITCH: line.pitch,
            RANGE: line.range,
            WORD_GAP: line.word_gap,
        }
        for which, value in settings.items():
            self._lib.espeak_SetParameter(which, value, 0)
        self._samples.clear()
        self._onsets.clear()
        text = line.text.replace("\0", " ").encode() + b"\0"
        size, flags = ctypes.c_size_t(len(text)), CHARS_UTF8 | END_PAUSE
        if self._lib.espeak_Synth(text, size, 0, POS_CHARACTER, 0, flags, None, None) != 0:
            return Said(refusal="it cannot be spoken")
        return Said("", self._sample_rate_hz, bytes(self._samples), list(self._onsets))

    def _hear(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: object) -> int:
        if samples and count > 0:
            self._samples += ctypes.string_at(samples, count * 2)
        number = 0
        while (event := events[number]).type != EVENT_LIST_TERMINATED:  # type: ignore[index]
            if event.type == EVENT_WORD:
                self._onsets.append((event.text_position - 1, event.sample))
            number += 1
        return 0


def _speaker(voice: _Voice) -> Speaker:
    name, file = voice.name.decode(), voice.identifier.decode()
    return Speaker(name, file, _languages(voice.languages), voice.gender)


def _languages(address: int) -> list[str]:
    """A byte of priority and a name that ends in NUL, again and again until priority 0."""
    found = []
    while ctypes.string_at(address, 1) != b"\0":
        language = ctypes.string_at(address + 1)
        found.append(language.decode())
        address += 1 + len(language) + 1
    return found


def main() -> None:
    """Runs until standard input ends."""
    die_with(int(sys.argv[1]))
    cap(resource.RLIMIT_AS, MEMORY_BYTES)
    cap(resource.RLIMIT_FSIZE, 0)
    cap(resource.RLIMIT_CORE, 0)
    requests, answers = sys.stdin.buffer, _answers()
    espeak = Espeak(*installed())
    while (line := received(requests, Line)) is not None:
        allow_cpu(CPU_SECONDS_PER_JOB)
        answers.write(framed(_answer(espeak, line)))
        answers.flush()


def _answer(espeak: Espeak, line: Line) -> Said:
    return espeak.say(line) if line.voice else Said(speakers=espeak.speakers())


def installed() -> tuple[Path, Path]:
    """Where the library and its data lie. Ends the process if they do not."""
    try:
        import espeakng_loader  # noqa: PLC0415 - the extra `voice`
    except ImportError:
        sys.exit(NOT_INSTALLED)
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _answers() -> BinaryIO:
    """Standard output as it was; whatever the library prints goes to standard error."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return ours


if __name__ == "__main__":
    main()
