"""Makes a sound of others inside the jail: bare samples, or one file in any coding we make.

Everything streams, so ten hours need no more memory than a minute. The same samples give the same
bytes: muxers are kept from writing random numbers and the time of day.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from soundkeep.audio import pcm
from soundkeep.audio.formats import CODINGS, Coding
from soundkeep.audio.jobs import Findings, Job, Rendering
from soundkeep.audio.probe import NoSound, words

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

OPTIONS_OF = {"libopus": {"vbr": "constrained"}}  # else a held vowel gets twice the bit rate
# LAME without noise shaping, which is four fifths of what a book costs: 195 times as fast as it is
# heard instead of 100. A voice at 64 kbit/s is 24.6 dB above its noise (22.2 with shaping), which
# lies a little less well hidden (13.4 dB of spectral distance, not 11.7).
SPEECH_OPTIONS_OF = {**OPTIONS_OF, "libmp3lame": {"compression_level": "7"}}
BUFFER_BYTES = 256 * 1024
BITEXACT = {"fflags": "bitexact"}


class _Unwritten(Exception):
    """The target could not be written. Our own, since FFmpeg's errors are `OSError`s too."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.errno = error.errno or errno.EIO


def render(job: Job) -> Findings:
    """Carries out the job's rendering. Never raises but `MemoryError`."""
    assert job.rendering is not None
    try:
        with _Target(job.rendering.target) as target, _sources(job) as frames:
            return Findings(samples=_write(frames, target, job.rendering))
    except _Unwritten as error:
        return Findings(unwritten=error.errno)
    except (av.FFmpegError, OSError, ValueError, EOFError, NoSound) as error:
        return Findings(refusal=words(error))


@contextmanager
def _sources(job: Job) -> Iterator[Iterator[AudioFrame]]:
    rendering = job.rendering
    assert rendering is not None
    if rendering.sources:
        yield pcm.joined(rendering.sources, rendering.source_rate_hz)
        return
    with open(job.path, "rb") as file, pcm.decoding(file, job.demuxer) as frames:
        yield iter(frames)


def _write(frames: Iterator[AudioFrame], target: _Target, rendering: Rendering) -> int:
    """How many samples (of each channel) came out. Raises `NoSound`."""
    first = next(frames, None)
    if first is None:
        raise NoSound("not one frame of it can be decoded")
    coding = CODINGS[rendering.coding]
    rate_hz = _rate(coding, rendering.rate_hz or first.sample_rate)
    uniform = pcm.resampled(chain([first], frames), rate_hz=rate_hz, channels=rendering.channels)
    if not coding.muxer:
        return sum(_write_samples(frame, target) for frame in uniform)
    options = (SPEECH_OPTIONS_OF if rendering.sources else OPTIONS_OF).get(coding.codec, {})
    return _encode(pcm.numbered(uniform), target, coding, rendering.bit_rate, options)


def _write_samples(frame: AudioFrame, target: _Target) -> int:
    target.write(pcm.samples_of(frame))
    return int(frame.samples)


def _encode(
    frames: Iterator[AudioFrame],
    target: _Target,
    coding: Coding,
    bit_rate: int | None,
    options: Mapping[str, str],
) -> int:
    first = next(frames)
    samples = 0
    with av.open(target, "w", format=coding.muxer, options=BITEXACT) as container:
        stream = container.add_stream(
            coding.codec,
            rate=first.sample_rate,
            layout=first.layout.name,
            options=dict(options),
        )
        assert isinstance(stream, AudioStream)
        if coding.bit_rate:
            stream.bit_rate = bit_rate or coding.bit_rate * first.layout.nb_channels
        for frame in chain([first], frames):
            samples += frame.samples
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return samples


def _rate(coding: Coding, wanted_hz: int) -> int:
    """The least rate the codec has that loses nothing, or its greatest."""
    rates = coding.codec and av.Codec(coding.codec, "w").audio_rates
    if not rates:
        return wanted_hz
    return min((rate for rate in rates if rate >= wanted_hz), default=max(rates))


class _Target(io.BufferedWriter):
    """The file that is written. It remembers why it could not be: FFmpeg may take that for an error
    of its own."""

    def __init__(self, path: str) -> None:
        try:
            super().__init__(io.FileIO(path, "wb"), BUFFER_BYTES)
        except OSError as error:
            raise _Unwritten(error) from error
        self._failed: OSError | None = None

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except OSError as error:
            self._failed = self._failed or error
        if self._failed is not None:
            raise _Unwritten(self._failed)

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._failed = error
            raise
