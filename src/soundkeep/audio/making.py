"""How a sound shall be made, by a name that says coding, rate and bit rate.

`mp3`, `opus_48000_64`, `pcm_24000`: samples a second, then kbit/s, as ElevenLabs names its
formats; what is left out is chosen for speech. What no encoder of ours can do is refused by name,
before any work is done.
"""

from __future__ import annotations

from dataclasses import dataclass

from soundkeep.audio.formats import CODINGS, Coding
from soundkeep.errors import UnknownFormat

MAX_RATE_HZ = 48_000
MIN_RATE_HZ = 8_000
BIT_RATES = range(8_000, 512_001)
RATES_HZ = {
    "opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    "mp3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}


@dataclass(frozen=True, slots=True)
class Making:
    """A coding and its measures; None where the name leaves them open."""

    name: str
    coding: Coding
    rate_hz: int | None = None
    bit_rate: int | None = None  # bits per second


def making(name: str) -> Making:
    """What the name says. Raises `UnknownFormat`."""
    word, *numbers = name.split("_")
    coding = CODINGS.get(word)
    if coding is None or len(numbers) > 2 or not all(_is_number(each) for each in numbers):
        raise UnknownFormat(f"there is no format {name!r}; there are {', '.join(CODINGS)}")
    rate_hz = int(numbers[0]) if numbers else None
    bit_rate = int(numbers[1]) * 1000 if len(numbers) == 2 else None
    rates = RATES_HZ.get(word, range(MIN_RATE_HZ, MAX_RATE_HZ + 1))
    if rate_hz is not None and rate_hz not in rates:
        raise UnknownFormat(f"{name!r}: {word} cannot have {rate_hz} samples a second")
    if bit_rate is not None and not (coding.bit_rate and bit_rate in BIT_RATES):
        raise UnknownFormat(f"{name!r}: {word} cannot have {bit_rate // 1000} kbit/s")
    return Making(name, coding, rate_hz, bit_rate)


def file_making(name: str) -> Making:
    """The same for a file that is known for a sound by itself, which bare samples are not.

    Raises `UnknownFormat`.
    """
    made = making(name)
    if not made.coding.muxer:
        raise UnknownFormat(f"{name!r}: bare samples are no file that can be kept; there is wav")
    return made


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and not text.startswith("0")
