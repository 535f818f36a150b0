"""Measures inside the jail what tells speech from what is none: levels, silences, noise, tones.

It only measures; `speech/judging.py` says what is good enough. Everything streams: what stays of a
sound is four numbers for every half window of it.

A window has some 45 ms and is Hann-weighted; two of them overlap by half.

- **Silent** is a window 35 dB below the speech or more, or below -60 dB.
- **Noise** by spectral flatness, the ratio of geometric to arithmetic mean of the power spectrum
  (Johnston 1988): white noise has 0.56 in a single window, whatever its level.
- **Held** is a window whose spectrum is that of 100 ms before: half the sum of the differences of
  the two, each scaled to 1. A tone has 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.fft import rfft, rfftfreq  # by name: numpy loads them when they are first named,
from numpy.lib.stride_tricks import sliding_window_view  # and then no file may be opened
from numpy.typing import NDArray

from soundkeep.audio import pcm
from soundkeep.audio.jobs import Facts, Findings, Job
from soundkeep.audio.probe import NoSound, words

FULL_SCALE = 32768.0
CLIPPED = 32_700  # decoders round
WINDOW_SECONDS = 0.03  # at least
BAND_HZ = (150.0, 7000.0)  # where speech is; above it many codings have nothing
SILENT_BELOW_SPEECH_DB, SILENT_DB = 35.0, -60.0
NOISY_FLATNESS = 0.42
HELD_DISTANCE, HELD_SECONDS = 0.06, 0.1
END_SECONDS = 0.015
GAP_SECONDS = 0.1  # smaller ones are how a coding keeps its clock
BATCH_WINDOWS = 256
HEAD_BYTES = 64 * 1024
NOT_TOLD = 0x7FFF_0000  # what a WAV says of its length that was sent before it was made, or more
# Without these a damaged FLAC frame is played as the noise that it has become.
STRICT = {"flac": {"err_detect": "crccheck+explode"}}

Floats = NDArray[np.float64]


def judge(job: Job) -> Findings:
    """The facts of the job's file. Never raises but `MemoryError`."""
    try:
        with open(job.path, "rb") as file:
            head = file.read(HEAD_BYTES)
            size_bytes = file.seek(0, 2)
            file.seek(0)
            with pcm.decoding(file, job.demuxer) as decoding:
                return Findings(facts=_facts(decoding, head, size_bytes, job.demuxer))
    except (av.FFmpegError, OSError, ValueError, EOFError, NoSound) as error:
        return Findings(refusal=words(error))


def _facts(decoding: pcm.Decoding, head: bytes, size_bytes: int, demuxer: str) -> Facts:
    context = decoding.stream.codec_context
    context.options = STRICT.get(context.name, {})
    clock = _Clock()
    sound = _Sound()
    for frame in pcm.resampled(clock.watch(decoding), rate_hz=None, channels=1):
        sound.hear(frame)
    if not sound.samples:
        raise NoSound("not one frame of it can be decoded")
    sound.end()
    promised = _promised_seconds(decoding.stream, head, size_bytes, demuxer)
    return sound.facts(promised, clock.lost_seconds, decoding.damaged)


class _Clock:
    """Compares what the frames say of their times with how long they are."""

    def __init__(self) -> None:
        self.lost_seconds = 0.0
        self._next: float | None = None

    def watch(self, frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
        for frame in frames:
            at = frame.time if frame.time is not None else self._next or 0.0
            if self._next is not None and at - self._next > GAP_SECONDS:
                self.lost_seconds += at - self._next
            self._next = at + frame.samples / frame.sample_rate
            yield frame


class _Sound:
    """What is known of a sound by now."""

    def __init__(self) -> None:
        self.samples = 0
        self._rate_hz = 0
        self._peak = self._clipped = 0
        self._waiting = np.empty(0)  # less than a batch, and what the next batch overlaps
        self._powers: list[Floats] = []
        self._flatness: list[Floats] = []
        self._distances: list[Floats] = []
        self._before = np.empty((0, 0))
        self._last = np.empty(0)

    def hear(self, frame: AudioFrame) -> None:
        if not self.samples:
            self._begin(frame.sample_rate)
        samples = np.frombuffer(pcm.samples_of(frame), dtype="<i2").astype(np.float64)
        loud = np.abs(samples)
        self.samples += len(samples)
        self._peak = max(self._peak, int(loud.max(initial=0)))
        self._clipped += int(np.count_nonzero(loud >= CLIPPED))
        self._last = np.concatenate((self._last, samples))[-self._end_samples :]
        self._waiting = np.concatenate((self._waiting, samples))
        while len(self._waiting) >= (BATCH_WINDOWS + 1) * self._hop:
            self._measure(BATCH_WINDOWS)

    def end(self) -> None:
        """Fills the last window with silence."""
        windows = -(-len(self._waiting) // self._hop)
        missing = (windows + 1) * self._hop - len(self._waiting)
        self._waiting = np.concatenate((self._waiting, np.zeros(missing)))
        self._measure(windows)

    def facts(self, promised: float | None, lost: float, damaged: int) -> Facts:
        levels = _decibels(np.concatenate(self._powers))
        speech = _speech_level(levels)
        heard = levels > max(speech - SILENT_BELOW_SPEECH_DB, SILENT_DB)
        where = np.flatnonzero(heard)
        count = max(1, len(where))
        flat = (np.concatenate(self._flatness) > NOISY_FLATNESS) & heard
        held = (np.concatenate(self._distances) < HELD_DISTANCE) & heard
        seconds = self._hop / self._rate_hz
        duration = self.samples / self._rate_hz
        return Facts(
            duration_seconds=duration,
            promised_seconds=promised,
            lost_seconds=lost,
            damaged_packets=damaged,
            peak_db=float(_decibels(np.array((self._peak / FULL_SCALE) ** 2))),
            level_db=speech,
            heard_seconds=min(duration, len(where) * seconds),
            leading_seconds=float(where[0]) * seconds if len(where) else duration,
            trailing_seconds=float(len(levels) - 1 - where[-1]) * seconds
            if len(where)
            else duration,
            end_db=float(_decibels(np.mean(self._last**2) / FULL_SCALE**2)) - speech,
            clipped_share=self._clipped / self.samples,
            noisy_share=float(np.count_nonzero(flat)) / count,
            noisy_seconds=_longest_run(flat) * seconds,
            steady_share=float(np.count_nonzero(held)) / count,
        )

    def _begin(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        size = 1 << int(WINDOW_SECONDS * rate_hz).bit_length()
        self._hop = size // 2
        self._end_samples = max(1, round(END_SECONDS * rate_hz))
        self._window = np.hanning(size)
        frequencies = rfftfreq(size, 1 / rate_hz)
        self._band = (frequencies >= BAND_HZ[0]) & (frequencies <= BAND_HZ[1])
        self._lag = max(1, round(HELD_SECONDS * rate_hz / self._hop))

    def _measure(self, windows: int) -> None:
        """Takes the next windows off what waits."""
        size = 2 * self._hop
        every = sliding_window_view(self._waiting, size)
        cut = every[:: self._hop][:windows] / FULL_SCALE
        self._waiting = self._waiting[windows * self._hop :]
        self._powers.append(np.mean(cut**2, axis=1))
        spectra = (np.abs(rfft(cut * self._window, axis=1)) ** 2)[:, self._band] + 1e-20
        mean = spectra.mean(axis=1)
        self._flatness.append(np.exp(np.log(spectra).mean(axis=1)) / mean)
        self._distances.append(self._moved(spectra / spectra.sum(axis=1, keepdims=True)))

    def _moved(self, spectra: Floats) -> Floats:
        """How far each spectrum is from the one a while ago; the first ones have none, and count as
        moved."""
        known = len(self._before)
        joined = np.concatenate((self._before, spectra)) if known else spectra
        distances = np.ones(len(joined))
        distances[self._lag :] = np.abs(joined[self._lag :] - joined[: -self._lag]).sum(axis=1) / 2
        self._before = joined[-self._lag :]
        return distances[known:]


def _speech_level(levels: Floats) -> float:
    """The mean power of what is within 35 dB of the loudest window: pauses do not count."""
    loud = levels[levels > levels.max() - SILENT_BELOW_SPEECH_DB]
    return float(_decibels(np.mean(10 ** (loud / 10))))


def _decibels(powers: Any) -> Any:
    return 10 * np.log10(np.maximum(powers, 1e-12))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


# --- what the header promises ---------------------------------------------------------------


def _promised_seconds(stream: Any, head: bytes, size_bytes: int, demuxer: str) -> float | None:
    """What a header says that counts; most durations are only estimates from the size."""
    if demuxer == "mp3":
        return _by_xing(stream, head)
    if demuxer == "wav":
        return _by_riff(stream, head, size_bytes)
    if demuxer in ("flac", "mov") and stream.duration:
        return float(stream.duration * stream.time_base)
    return None


def _by_xing(stream: Any, head: bytes) -> float | None:
    """The count of frames in the tag of LAME and Xing, which hides in a first frame of its own."""
    for mark in (b"Xing", b"Info"):
        at = head.find(mark)
        if at > 0 and len(head) >= at + 12 and head[at + 7] & 1:
            frames = int.from_bytes(head[at + 8 : at + 12], "big")
            rate_hz = stream.codec_context.sample_rate
            return float(frames * (1152 if rate_hz >= 32_000 else 576) / rate_hz)
    return None


def _by_riff(stream: Any, head: bytes, size_bytes: int) -> float | None:
    (riff_bytes,) = struct.unpack_from("<I", head, 4)
    if not stream.duration or not 0 < riff_bytes < NOT_TOLD:
        return None
    missing_bytes = max(0, riff_bytes + 8 - size_bytes)
    heard = float(stream.duration * stream.time_base)
    return heard + float(missing_bytes * 8 / stream.codec_context.bit_rate)
