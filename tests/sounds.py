"""Short valid sounds of any size, every one with bytes of its own."""

from __future__ import annotations

import random
import struct

HEADER_BYTES = 44


def wav(size_bytes: int, seed: int) -> bytes:
    """A whole WAV file of exactly this size (an even number of at least 48 bytes)."""
    data = random.Random(seed).randbytes(size_bytes - HEADER_BYTES)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size_bytes - 8, b"WAVE", b"fmt ", 16, 1, 1,
                       44100, 88200, 2, 16, b"data", len(data))  # fmt: skip
    return head + data
