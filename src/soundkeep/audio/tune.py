"""The sample track of a fresh installation: a short tune of our own, made from sines.

Rendered inside the jail, like everything that touches a codec.
"""

from __future__ import annotations

import io
import math
from array import array

import av
from av.audio.frame import AudioFrame

RATE_HZ = 44_100
BIT_RATE = 96_000
BEAT_SECONDS = 0.32
A4_HZ, A4_NOTE = 440.0, 69

# (MIDI note, beats): up a C major pentatonic and home again.
MELODY = (
    (72, 1), (74, 1), (76, 1), (79, 2), (76, 1), (81, 2), (79, 2),
    (76, 1), (74, 1), (72, 1), (74, 2), (69, 1), (72, 4), (79, 1), (84, 3),
)  # fmt: skip
CHORDS = (
    ((48, 55, 64), 6),
    ((45, 52, 60), 4),
    ((41, 57, 60), 5),
    ((43, 50, 59), 4),
    ((48, 55, 64), 5),
)
PARTIALS = ((1, 1.0), (2, 0.35), (3, 0.12), (4, 0.05))
ATTACK_SECONDS = 0.012
DECAY_PER_SECOND = 3.2

TABLE_SIZE = 4096  # one turn of the wave; computing every sine anew took 1.9 s instead of 0.7
WAVE = [
    sum(share * math.sin(math.tau * turn * partial / TABLE_SIZE) for partial, share in PARTIALS)
    for turn in range(TABLE_SIZE)
]


def render() -> bytes:
    """Eight seconds of MP3, mono: the same bytes each time."""
    return _encode(_mix())


def _mix() -> array[int]:
    beats = sum(length for _, length in MELODY) + 2
    sound = array("d", bytes(8 * round(beats * BEAT_SECONDS * RATE_HZ)))
    start = 0.0
    for note, length in MELODY:
        _add(sound, note, start, length + 1.0, 0.30)
        start += length
    start = 0.0
    for notes, length in CHORDS:
        for note in notes:
            _add(sound, note, start, length + 0.5, 0.10)
        start += length
    peak = max(map(abs, sound))
    return array("h", (round(value / peak * 24_000) for value in sound))


def _add(sound: array[float], note: int, start: float, beats: float, loudness: float) -> None:
    """One note: a quick soft attack, a long decay, a few partials."""
    step = TABLE_SIZE * A4_HZ * 2 ** ((note - A4_NOTE) / 12) / RATE_HZ
    decay = math.exp(-DECAY_PER_SECOND / RATE_HZ)
    attack = ATTACK_SECONDS * RATE_HZ
    first, count = round(start * BEAT_SECONDS * RATE_HZ), round(beats * BEAT_SECONDS * RATE_HZ)
    for index in range(min(count, len(sound) - first)):
        swell = loudness * min(1.0, index / attack) * (1 - index / count)
        sound[first + index] += swell * WAVE[int(step * index) % TABLE_SIZE]
        loudness *= decay


def _encode(samples: array[int]) -> bytes:
    written = io.BytesIO()
    with av.open(written, "w", format="mp3") as container:
        container.metadata["title"] = "Hello from Soundkeep"
        stream = container.add_stream("libmp3lame", rate=RATE_HZ, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = AudioFrame(format="s16p", layout="mono", samples=len(samples))
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate = RATE_HZ
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return written.getvalue()
