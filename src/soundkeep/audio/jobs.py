"""What the jail is asked and answers.

Apart from both sides, so that the inside loads nothing of the outside (asyncio alone: 8 MB).
"""

from __future__ import annotations

import msgspec


class Job(msgspec.Struct, frozen=True):
    """What a jail process is asked: `hello`, `probe` a file, or render the `tune`."""

    verb: str
    path: str = ""
    demuxer: str = ""


class Findings(msgspec.Struct, frozen=True):
    """What a probe found. `refusal` says why the bytes are no sound we take."""

    refusal: str = ""
    codec: str = ""
    duration_seconds: float = 0.0
    bit_rate: int | None = None
    channels: int | None = None
    sample_rate_hz: int | None = None
    tags: dict[str, str] = {}
    rendered: bytes = b""
