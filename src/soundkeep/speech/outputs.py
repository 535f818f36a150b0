"""Output formats: what a speech is delivered as, by names that say coding, rate and bit rate.

`mp3`, `opus_48000_64`, `pcm_24000`: the way ElevenLabs names them, and OpenAI with the rest left
out. The engine's master format passes through as it was spoken; everything else is encoded once
from the joined sound. Raw samples have no header to know them by, so they are kept as WAV and sent
without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from soundkeep.errors import UnknownFormat
from soundkeep.speech.engines.interface import AudioFormat

WAV_HEADER_BYTES = 44
DEFAULT_FORMAT = "mp3"
RAW = "pcm"
MAX_RATE_HZ = 48_000
BIT_RATES = range(8_000, 512_001)
LOSSLESS = ("wav", "flac", RAW)
OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

_MEDIA: dict[str, tuple[str, str]] = {  # media type, extension
    "mp3": ("audio/mpeg", "mp3"),
    "opus": ("audio/ogg", "opus"),
    "aac": ("audio/aac", "aac"),
    "flac": ("audio/flac", "flac"),
    "wav": ("audio/wav", "wav"),
    RAW: ("audio/pcm", "pcm"),
}


@dataclass(frozen=True, slots=True)
class Output:
    """A format as speeches are kept in it. `name` is part of a speech's key."""

    name: str
    coding: str
    media_type: str
    extension: str
    sample_rate_hz: int | None  # None: as it was spoken
    bit_rate: int | None  # bits per second; None: what the coding needs for speech
    passes_through: bool = False  # it is the engine's own master format
    head_bytes: int = 0  # of what is kept, not to be sent


def output_of(name: str, master: AudioFormat) -> Output:
    """The format of that name for what an engine speaks in `master`.

    A coding alone means the master where that has it, whatever its rate. Raises `UnknownFormat`.
    """
    coding, *numbers = name.split("_")
    if name == master.name or (not numbers and coding == master.coding):
        return _as_spoken(master)
    if coding not in _MEDIA or len(numbers) > 2 or not all(map(str.isdecimal, numbers)):
        raise UnknownFormat(f"there is no format {name!r}; there are {', '.join(_MEDIA)}")
    rate = int(numbers[0]) if numbers else None
    bit_rate = int(numbers[1]) * 1000 if len(numbers) == 2 else None
    _check(name, coding, rate, bit_rate)
    if coding == RAW:
        return _raw(name, numbers)
    media_type, extension = _MEDIA[coding]
    return Output(name, coding, media_type, extension, rate, bit_rate)


def _as_spoken(master: AudioFormat) -> Output:
    return Output(
        master.name,
        master.coding,
        master.media_type,
        master.extension,
        master.sample_rate_hz,
        master.bit_rate,
        passes_through=True,
    )


def _raw(name: str, numbers: list[str]) -> Output:
    """Kept as WAV of the same rate; what is asked for as `pcm` is 24 kHz, as OpenAI has it."""
    rate = int(numbers[0]) if numbers else 24_000
    media_type, extension = _MEDIA[RAW]
    return Output(
        f"wav_{rate}", "wav", media_type, extension, rate, None, head_bytes=WAV_HEADER_BYTES
    )


def _check(name: str, coding: str, rate_hz: int | None, bit_rate: int | None) -> None:
    """What the encoders cannot do is known before anything is spoken."""
    rates = {"opus": OPUS_RATES_HZ, "mp3": MP3_RATES_HZ}.get(coding)
    if rate_hz is not None and (rate_hz not in (rates or range(8_000, MAX_RATE_HZ + 1))):
        raise UnknownFormat(f"{name!r}: {coding} cannot have {rate_hz} samples a second")
    if bit_rate is not None and (coding in LOSSLESS or bit_rate not in BIT_RATES):
        raise UnknownFormat(f"{name!r}: {coding} cannot have {bit_rate // 1000} kbit/s")
