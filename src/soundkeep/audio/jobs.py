"""What the jail is asked and answers.

Apart from both sides, so that the inside loads nothing of the outside (asyncio alone: 8 MB).
"""

from __future__ import annotations

import msgspec

CPU_SECONDS_PER_JOB = 30


class Rendering(msgspec.Struct, frozen=True):
    """A sound to be made of others, whole, in the file `target`.

    `sources` are files of bare samples (s16le, mono, at `source_rate_hz`), or the job's own file
    if there are none. A rate or a count of channels that is `None` stays what it is, as far as the
    coding has it.
    """

    target: str
    max_bytes: int
    coding: str
    sources: tuple[str, ...] = ()
    source_rate_hz: int = 0
    rate_hz: int | None = None
    channels: int | None = None
    bit_rate: int | None = None


class Job(msgspec.Struct, frozen=True):
    """What a jail process is asked: `hello`, `probe` a file, `judge` or
    `render` one, or the `tune`."""

    verb: str
    path: str = ""
    demuxer: str = ""
    rendering: Rendering | None = None
    cpu_seconds: int = CPU_SECONDS_PER_JOB


class Facts(msgspec.Struct, frozen=True):
    """What can be measured of speech without knowing what it says. Levels are in decibels below
    full scale, shares from 0 to 1. `audio/judge.py` says how each is measured."""

    duration_seconds: float
    promised_seconds: float | None  # by a header that knows
    lost_seconds: float  # by the clock, in the middle
    damaged_packets: int
    peak_db: float
    level_db: float  # of what is not silent
    heard_seconds: float  # without the silences
    leading_seconds: float  # of silence
    trailing_seconds: float
    end_db: float  # of the last milliseconds, against `level_db`
    clipped_share: float
    noisy_share: float  # of what is heard: like white noise
    noisy_seconds: float  # the longest stretch of that
    steady_share: float  # of what is heard: like a tone that is held


class Findings(msgspec.Struct, frozen=True):
    """What a job found. `refusal` says why the bytes are no sound we take; `unwritten` is the
    `errno` of a file that could not be written."""

    refusal: str = ""
    unwritten: int = 0
    codec: str = ""
    duration_seconds: float = 0.0
    bit_rate: int | None = None
    channels: int | None = None
    sample_rate_hz: int | None = None
    tags: dict[str, str] = {}
    rendered: bytes = b""
    samples: int = 0
    facts: Facts | None = None
