"""Sound as samples, inside the jail: 16 bits, as frames of any length, never all of it at once.

What a player would hear is what comes out: the codec's run-up is cut off, a damaged packet is left
out and counted, and what follows it is heard. `encode` makes files of the frames, `judge` measures
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from soundkeep.audio.probe import open_container, sound_of

SAMPLE_BYTES = 2
LAYOUTS = {1: "mono", 2: "stereo"}
PIECE_SAMPLES = 16 * 1024


class Decoding:
    """The frames of an open file, once, as they are coded."""

    def __init__(self, container: Any) -> None:
        """Raises `NoSound`."""
        self.stream = sound_of(container)
        self.damaged = 0  # packets by now that could not be decoded
        self._packets = container.demux(self.stream)

    def __iter__(self) -> Iterator[AudioFrame]:
        while True:
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            except av.FFmpegError:
                self.damaged += 1
                return
            try:
                yield from packet.decode()
            except (av.FFmpegError, ValueError):
                # Files that were joined as they were have a tag at each join, and play.
                self.damaged += not bytes(packet).startswith(b"ID3")


@contextmanager
def decoding(file: BinaryIO, demuxer: str) -> Iterator[Decoding]:
    """Opens a file. Raises `NoSound`, `av.FFmpegError`."""
    with open_container(file, demuxer) as container:
        yield Decoding(container)


def resampled(
    frames: Iterable[AudioFrame], *, rate_hz: int | None, channels: int | None
) -> Iterator[AudioFrame]:
    """The same sound with 16 bits a sample, all frames alike, whatever changes in its middle.

    More than two channels become two.
    """
    resampler, kind, rate, layout = None, None, rate_hz, LAYOUTS.get(channels or 0)
    for frame in frames:
        rate = rate or frame.sample_rate
        layout = layout or LAYOUTS.get(frame.layout.nb_channels, "stereo")
        found = frame.format.name, frame.layout.name, frame.sample_rate
        if resampler is None or found != kind:
            yield from resampler.resample(None) if resampler else ()
            resampler, kind = AudioResampler("s16", layout, rate), found
        frame.pts = None  # gaps in the clock are no silence
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def joined(paths: Iterable[str], rate_hz: int) -> Iterator[AudioFrame]:
    """Files of mono samples, one after the other. Raises `OSError`."""
    for path in paths:
        with open(path, "rb") as file:
            while samples := file.read(PIECE_SAMPLES * SAMPLE_BYTES):
                yield frame_of(samples, rate_hz)


def frame_of(samples: bytes, rate_hz: int) -> AudioFrame:
    """A frame of mono samples."""
    frame = AudioFrame("s16", "mono", len(samples) // SAMPLE_BYTES)
    frame.planes[0].update(samples)
    frame.sample_rate = rate_hz
    return frame


def numbered(frames: Iterable[AudioFrame]) -> Iterator[AudioFrame]:
    """With the clock that an encoder goes by."""
    at = 0
    for frame in frames:
        frame.pts, frame.time_base = at, Fraction(1, frame.sample_rate)
        at += frame.samples
        yield frame


def samples_of(frame: AudioFrame) -> bytes:
    """Its samples, interleaved. A plane is longer than what it holds."""
    size = frame.samples * frame.layout.nb_channels * SAMPLE_BYTES
    return bytes(memoryview(frame.planes[0])[:size])
