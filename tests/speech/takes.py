"""Takes as an engine may send them: speech of the offline voice, and what can go wrong with it."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable

import audiofiles
from servers.fake_provider import Order, encoded
from soundkeep.speech.engines.espeak_worker import Said

RATE_HZ, OPUS_RATE_HZ = 22_050, 24_000
SAMPLE_BYTES = 2
LOUD = 6_000


def coded(samples: bytes, coding: str) -> bytes:
    """Samples as a file."""
    rate_hz = OPUS_RATE_HZ if coding == "opus" else RATE_HZ
    return encoded(Said("", RATE_HZ, samples), Order("", 1, coding, coding, "", rate_hz))


def faded(samples: bytes) -> bytes:
    """With an end like that of speech."""
    values = array("h", samples)
    length = min(len(values), RATE_HZ // 10)
    for number in range(length):
        values[-1 - number] = values[-1 - number] * number // length
    return values.tobytes()


def cut_off(samples: bytes) -> bytes:
    """Up to the middle of a vowel, at about four fifths."""
    values = array("h", samples)
    step = RATE_HZ // 50
    loud = (
        at
        for at in range(len(values) * 4 // 5, len(values), step)
        if sum(value * value for value in values[at - step : at]) / step > LOUD**2
    )
    return values[: next(loud)].tobytes()


def part(samples: bytes, share: float) -> bytes:
    """The first words, and then it is over."""
    return faded(samples[: int(len(samples) * share) // SAMPLE_BYTES * SAMPLE_BYTES])


def white(samples: bytes, peak: int = LOUD) -> bytes:
    """As much noise."""
    draw = random.Random(7)
    count = len(samples) // SAMPLE_BYTES
    return faded(array("h", (draw.randint(-peak, peak) for _ in range(count))).tobytes())


def noise_in_the_middle(samples: bytes) -> bytes:
    """A second of it."""
    middle, length = len(samples) // 4 * 2, RATE_HZ * SAMPLE_BYTES
    return samples[:middle] + white(bytes(length)) + samples[middle + length :]


def tone(samples: bytes, pitch_hz: float = 440.0) -> bytes:
    """As long, and held."""
    turn = math.tau * pitch_hz / RATE_HZ
    count = len(samples) // SAMPLE_BYTES
    return faded(array("h", (round(LOUD * math.sin(turn * at)) for at in range(count))).tobytes())


def beeps(samples: bytes) -> bytes:
    """Half a second on, half a second off."""
    values = array("h", tone(samples, 1000.0))
    for at in range(len(values)):
        values[at] *= at // (RATE_HZ // 2) % 2
    return values.tobytes()


def clipped(samples: bytes) -> bytes:
    """Fifty times too loud."""
    loud = (max(-32768, min(32767, 50 * value)) for value in array("h", samples))
    return faded(array("h", loud).tobytes())


def overwritten(file: bytes, size_bytes: int = 3000) -> bytes:
    """Garbage in the middle of a file."""
    middle = len(file) // 2
    return file[:middle] + random.Random(3).randbytes(size_bytes) + file[middle + size_bytes :]


def headed(samples: bytes) -> bytes:
    """The header of a WAV, and nothing behind it."""
    whole = coded(samples, "wav")
    return whole[: whole.index(b"data") + 8]


# What it is: the coding that was asked for, what comes instead of these samples, and why that is
# refused.
Bad = tuple[str, Callable[[bytes], bytes], str]
BAD: dict[str, Bad] = {
    "silence": ("wav", lambda good: coded(bytes(len(good)), "wav"), "silent"),
    "a whisper of hiss": ("wav", lambda good: coded(white(good, 15), "wav"), "silent"),
    "cut off in a word": ("wav", lambda good: coded(cut_off(good), "wav"), "cut off"),
    "cut off, as MP3": ("mp3", lambda good: coded(cut_off(good), "mp3"), "cut off"),
    "far too short": ("wav", lambda good: coded(part(good, 0.3), "wav"), "the text needs"),
    "one word, then silence": (
        "wav",
        lambda good: coded(part(good, 0.1) + bytes(len(good)), "wav"),
        "the text needs",
    ),
    "far too long": ("mp3", lambda good: coded(good * 5, "mp3"), "at most"),
    "white noise": ("wav", lambda good: coded(white(good), "wav"), "is noise"),
    "white noise, as MP3": ("mp3", lambda good: coded(white(good), "mp3"), "is noise"),
    "noise in the middle": (
        "wav",
        lambda good: coded(noise_in_the_middle(good), "wav"),
        "is noise",
    ),
    "a tone": ("wav", lambda good: coded(tone(good), "wav"), "is a tone"),
    "beeps": ("opus", lambda good: coded(beeps(good), "opus"), "is a tone"),
    "clipped rubbish": ("wav", lambda good: coded(clipped(good), "wav"), "clipped"),
    "another coding": ("wav", lambda good: coded(good, "mp3"), "not wav"),
    "another coding in the container": ("opus", lambda good: audiofiles.vorbis(5.0), "not opus"),
    "half a WAV": ("wav", lambda good: coded(good, "wav")[: len(good) // 2], "promises"),
    "half an MP3": (
        "mp3",
        lambda good: coded(good, "mp3")[: len(coded(good, "mp3")) // 2],
        "promises",
    ),
    "half a FLAC": (
        "flac",
        lambda good: coded(good, "flac")[: len(coded(good, "flac")) // 2],
        "promises|cannot be decoded",
    ),
    "garbage in an MP3": ("mp3", lambda good: overwritten(coded(good, "mp3")), "cannot be decoded"),
    "garbage in a FLAC": (
        "flac",
        lambda good: overwritten(coded(good, "flac")),
        "cannot be decoded|missing in its middle",
    ),
    "garbage in an AAC": ("aac", lambda good: overwritten(coded(good, "aac")), "cannot be decoded"),
    "a page of an Opus is gone": (
        "opus",
        lambda good: overwritten(coded(good, "opus"), 30),
        "missing in its middle",
    ),
    "a header without frames": ("wav", headed, "not one frame"),
    "a tag without frames": ("mp3", lambda good: b"ID3\x04\0\0\0\0\0\x7f" + bytes(127), "no audio"),
    "a page of HTML": (
        "mp3",
        lambda good: b"<!DOCTYPE html><p>a proxy speaks</p>" * 99,
        "no audio",
    ),
    "an error in JSON": ("mp3", lambda good: b'{"error": {"message": "no"}}', "no audio"),
    "a moving picture": ("mp3", lambda good: audiofiles.webm_with_video(), "video"),
}
