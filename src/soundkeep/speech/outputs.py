"""Output formats: what a speech is delivered as.

The engine's master format passes through as it was spoken; everything else is encoded once from
the joined sound. Raw samples have no header to know them by, so they are kept as WAV and sent
without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from soundkeep.audio.making import making
from soundkeep.speech.engines.interface import AudioFormat

WAV_HEADER_BYTES = 44
RAW = "pcm"
RAW_RATE_HZ = 24_000  # of what is asked for as `pcm`, as OpenAI has it


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
    if name in (master.name, master.coding):
        return Output(
            master.name,
            master.coding,
            master.media_type,
            master.extension,
            master.sample_rate_hz,
            master.bit_rate,
            passes_through=True,
        )
    made = making(name)
    media_type, extension = made.coding.media_type, made.coding.extension
    if made.coding.name == RAW:
        rate_hz = made.rate_hz or RAW_RATE_HZ
        kept_as = f"wav_{rate_hz}"
        return Output(
            kept_as, "wav", media_type, extension, rate_hz, None, head_bytes=WAV_HEADER_BYTES
        )
    return Output(name, made.coding.name, media_type, extension, made.rate_hz, made.bit_rate)
