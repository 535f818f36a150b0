"""The aligner: when each word is heard in a take, by a clock that says the same text.

The clock is the offline voice: it speaks the same words, with marks of its own. Both sounds become
mel-frequency cepstra, a vector each 10 ms that tells sounds of speech apart whoever makes them;
dynamic time warping finds how the one must be stretched to become the other; and the clock's marks
go along. It is a pure function of two sounds and the marks.

Memory and time grow with the length of the sound, not with its square: the path is looked for
in halved resolution first, and then only near the one that was found (FastDTW, Salvador and
Chan 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from soundkeep.speech.timing import Mark

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

HOP_SECONDS = 0.01
FRAME_SECONDS = 0.032
MELS = 32
CEPSTRA = 13
MAX_HZ = 8000
FLOOR = 1e-4  # of the loudest frame's energy: below is silence, and all silence is alike
DIRECT_FRAMES = 500  # sounds shorter than this are compared frame by frame
NEAR_FRAMES = 60  # how far from the coarse path the fine one may lie
_BLOCK_FRAMES = 2000


@dataclass(frozen=True, slots=True)
class Pcm:
    """A mono sound as signed 16-bit samples."""

    samples: NDArray[np.int16]
    rate_hz: int

    @classmethod
    def of(cls, samples: bytes, rate_hz: int) -> Pcm:
        """Little-endian samples, as files and engines have them."""
        return cls(np.frombuffer(samples, dtype="<i2"), rate_hz)

    @property
    def duration_seconds(self) -> float:
        return len(self.samples) / self.rate_hz


def aligned(take: Pcm, clock: Pcm, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The clock's marks at the times at which the take says the same.

    Empty if one of the sounds is too short to hear anything in it.
    """
    limit_hz = min(MAX_HZ, take.rate_hz / 2, clock.rate_hz / 2)
    heard, told = _cepstra(take, limit_hz), _cepstra(clock, limit_hz)
    if not (len(heard) and len(told)):
        return ()
    middles = _middles(_path(told, heard))
    at_clock = _seconds(np.arange(len(middles), dtype=np.float64), clock)
    at_take = _seconds(middles, take)
    starts = np.interp([mark.start_seconds for mark in marks], at_clock, at_take)
    ends = np.interp([mark.end_seconds for mark in marks], at_clock, at_take)
    return tuple(
        replace(mark, start_seconds=float(start), end_seconds=float(end))
        for mark, start, end in zip(marks, starts, ends, strict=True)
    )


def _middles(path: Ints) -> Floats:
    """For each frame of the clock, the middle of its frames in the take."""
    _, first, count = np.unique(path[:, 0], return_index=True, return_counts=True)
    return np.asarray(np.add.reduceat(path[:, 1], first) / count)


def _seconds(frames: Floats, sound: Pcm) -> Floats:
    """The middles of frames, between the two ends of the sound."""
    middles = frames * HOP_SECONDS + FRAME_SECONDS / 2
    return np.concatenate(([0.0], middles, [sound.duration_seconds]))


# --- sounds of speech -----------------------------------------------------------------------


def _cepstra(sound: Pcm, limit_hz: float) -> Floats:
    """A row for each frame; every column has mean 0 and variance 1, as voices differ in them."""
    energies = _mel_energies(sound, limit_hz)
    if not len(energies):
        return np.empty((0, CEPSTRA))
    logs = np.log(np.maximum(energies, max(FLOOR * energies.max(), 1e-9)))
    cepstra = logs @ _cosines()
    return np.asarray((cepstra - cepstra.mean(axis=0)) / (cepstra.std(axis=0) + 1e-9))


def _mel_energies(sound: Pcm, limit_hz: float) -> Floats:
    size, hop = round(FRAME_SECONDS * sound.rate_hz), HOP_SECONDS * sound.rate_hz
    count = max(0, int((len(sound.samples) - size) // hop) + 1)
    begins = np.rint(np.arange(count) * hop).astype(np.int64)
    window, filters = np.hamming(size), _mel_filters(size, sound.rate_hz, limit_hz)
    energies = np.empty((count, MELS))
    for first in range(0, count, _BLOCK_FRAMES):  # a long sound would fill the memory at once
        at = begins[first : first + _BLOCK_FRAMES, None] + np.arange(size)
        spectrum = np.fft.rfft(sound.samples[at] / 32768 * window)
        energies[first : first + _BLOCK_FRAMES] = (np.abs(spectrum) ** 2) @ filters
    return energies


def _mel_filters(size: int, rate_hz: int, limit_hz: float) -> Floats:
    """Triangles, evenly spaced on the mel scale (O'Shaughnessy's formula)."""
    edges_mel = np.linspace(0, 2595 * np.log10(1 + limit_hz / 700), MELS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate_hz)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


def _cosines() -> Floats:
    """The cosine transform that turns mel energies into cepstra."""
    middles = (np.arange(MELS) + 0.5) / MELS
    return np.asarray(np.cos(np.pi * middles[:, None] * np.arange(CEPSTRA)), dtype=np.float64)


# --- warping --------------------------------------------------------------------------------


def _path(one: Floats, other: Floats) -> Ints:
    """The pairs of frames along which the two are most alike, from the first to the last."""
    if max(len(one), len(other)) <= DIRECT_FRAMES:
        return _warped(one, other, np.zeros(len(one), np.int64), np.full(len(one), len(other)))
    coarse = _path(_halved(one), _halved(other))
    return _warped(one, other, *_near(coarse, len(one), len(other)))


def _halved(frames: Floats) -> Floats:
    """Each two neighbours as their mean; the last one by itself if it has no other."""
    last = frames[len(frames) // 2 * 2 :]
    pairs = frames[: len(frames) - len(last)].reshape(-1, 2, CEPSTRA)
    return np.concatenate((pairs.mean(axis=1), last))


def _near(coarse: Ints, rows: int, columns: int) -> tuple[Ints, Ints]:
    """For each row, the columns to look at: from the first up to the second."""
    frame, first = np.unique(coarse[:, 0], return_index=True)
    last = np.append(first[1:], len(coarse)) - 1
    each = np.arange(rows) // 2
    begin = 2 * coarse[first[each], 1] - NEAR_FRAMES
    stop = 2 * coarse[last[each], 1] + 2 + NEAR_FRAMES
    assert len(frame) == each[-1] + 1  # a path passes through every row
    return np.maximum(begin, 0), np.minimum(stop, columns)


def _warped(one: Floats, other: Floats, begins: Ints, stops: Ints) -> Ints:
    """The cheapest path within the window of each row."""
    costs: list[Floats] = []
    for row, (begin, stop) in enumerate(zip(begins, stops, strict=True)):
        distance = np.sqrt(((other[begin:stop] - one[row]) ** 2).sum(axis=1))
        before = _before(costs[-1], begins[row - 1], begin, stop) if row else _origin(distance)
        # cost[j] = distance[j] + min(before[j], cost[j - 1]), for all j at once
        along = np.cumsum(distance)
        costs.append(along + np.minimum.accumulate(before - along + distance))
    return _backwards(costs, begins, len(other))


def _origin(distance: Floats) -> Floats:
    """Before the first row there is one place to come from."""
    before = np.full(len(distance), np.inf)
    before[0] = 0
    return before


def _before(above: Floats, above_begin: int, begin: int, stop: int) -> Floats:
    """The cheaper of the cells above and above to the left, for each column of a row."""
    padded = np.full(stop - begin + 1, np.inf)  # columns begin - 1 up to stop
    first, last = max(begin - 1, above_begin), min(stop, above_begin + len(above))
    padded[first - begin + 1 : last - begin + 1] = above[first - above_begin : last - above_begin]
    cheaper: Floats = np.minimum(padded[1:], padded[:-1])
    return cheaper


def _backwards(costs: list[Floats], begins: Ints, columns: int) -> Ints:
    """From the last cell back to the first, always to the cheapest neighbour."""

    def cost(row: int, column: int) -> float:
        inside = row >= 0 and 0 <= column - begins[row] < len(costs[row])
        return float(costs[row][column - begins[row]]) if inside else np.inf

    row, column = len(costs) - 1, columns - 1
    path = [(row, column)]
    while row or column:
        steps = ((row - 1, column - 1), (row - 1, column), (row, column - 1))
        row, column = min(steps, key=lambda step: cost(*step))
        path.append((row, column))
    return np.array(path[::-1], dtype=np.int64)
