"""Short, valid audio of every kind, as bytes: the same seed gives the same sound, another another.

WAV is plain arithmetic and costs next to nothing. The coded kinds are noise through PyAV's own
encoders, kept for the run.
"""

from __future__ import annotations

import io
import random
import struct
from functools import cache

import av
from av.audio.frame import AudioFrame

RATE_HZ = 48_000  # the one rate that every codec here takes
WAV_HEADER_BYTES = 44
SMALLEST_WAV_BYTES = 200


def wav(seconds: float = 1.0, seed: int = 0, rate_hz: int = 8_000) -> bytes:
    """Mono WAV of 16 bits: 16,000 bytes a second and 44 of header."""
    data = _noise(round(seconds * rate_hz), seed)
    return _wav_header(len(data), rate_hz, sample_bytes=2) + data


def wav_of_size(size_bytes: int, seed: int = 0) -> bytes:
    """A WAV of exactly this many bytes, 200 or more (8 bits, 8,000 samples a second)."""
    assert size_bytes >= SMALLEST_WAV_BYTES
    data = random.Random(seed).randbytes(size_bytes - WAV_HEADER_BYTES)
    return _wav_header(len(data), rate_hz=8_000, sample_bytes=1) + data


def mp3(seconds: float = 1.0, seed: int = 0, **tags: str) -> bytes:
    """MP3 of constant bit rate, with an ID3v2 tag."""
    return _coded("mp3", "libmp3lame", seconds, seed, tags)


def flac(seconds: float = 1.0, seed: int = 0, **tags: str) -> bytes:
    """FLAC of 16 bits."""
    return _coded("flac", "flac", seconds, seed, tags)


def vorbis(seconds: float = 1.0, seed: int = 0, **tags: str) -> bytes:
    """Vorbis in Ogg (FFmpeg's own encoder, which knows stereo only)."""
    return _coded("ogg", "vorbis", seconds, seed, tags)


def opus(seconds: float = 1.0, seed: int = 0, **tags: str) -> bytes:
    """Opus in Ogg."""
    return _coded("ogg", "libopus", seconds, seed, tags)


def aac(seconds: float = 1.0, seed: int = 0) -> bytes:
    """AAC as a bare stream of ADTS frames."""
    return _coded("adts", "aac", seconds, seed, {})


def m4a(seconds: float = 1.0, seed: int = 0, **tags: str) -> bytes:
    """AAC in MP4, with its index (`moov`) at the end, as encoders write it."""
    return _coded("ipod", "aac", seconds, seed, tags)


def webm(seconds: float = 1.0, seed: int = 0, **tags: str) -> bytes:
    """Opus in WebM."""
    return _coded("webm", "libopus", seconds, seed, tags)


def mp3_with_cover(seconds: float = 1.0) -> bytes:
    """An MP3 that holds a picture of its cover, which is a video stream to FFmpeg."""
    written = io.BytesIO()
    with av.open(written, "w", format="mp3") as container:
        sound = container.add_stream("libmp3lame", rate=RATE_HZ, layout="mono")
        cover = container.add_stream("png", rate=1)
        assert isinstance(sound, av.AudioStream)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 8, 8, "rgb24"
        for packet in (*cover.encode(av.VideoFrame(8, 8, "rgb24")), *cover.encode(None)):
            container.mux(packet)
        for packet in (*sound.encode(_frame(seconds, 0)), *sound.encode(None)):
            container.mux(packet)
    return written.getvalue()


def webm_with_video(frames: int = 3) -> bytes:
    """A WebM that holds a moving picture beside nothing else."""
    written = io.BytesIO()
    with av.open(written, "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    return written.getvalue()


def _coded(muxer: str, codec: str, seconds: float, seed: int, tags: dict[str, str]) -> bytes:
    return _encoded(muxer, codec, seconds, seed, tuple(sorted(tags.items())))


@cache
def _encoded(
    muxer: str, codec: str, seconds: float, seed: int, tags: tuple[tuple[str, str], ...]
) -> bytes:
    layout = "stereo" if codec == "vorbis" else "mono"
    written = io.BytesIO()
    # Without "bitexact", muxers write a random number or the time of day.
    with av.open(written, "w", format=muxer, options={"fflags": "bitexact"}) as container:
        container.metadata.update(tags)
        stream = container.add_stream(
            codec, rate=RATE_HZ, layout=layout, options={"strict": "experimental"}
        )
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 64_000
        for packet in (*stream.encode(_frame(seconds, seed)), *stream.encode(None)):
            container.mux(packet)
    return written.getvalue()


def _frame(seconds: float, seed: int) -> AudioFrame:
    samples = round(seconds * RATE_HZ)
    frame = AudioFrame(format="s16", layout="mono", samples=samples)
    frame.planes[0].update(_noise(samples, seed))
    frame.sample_rate, frame.pts = RATE_HZ, 0
    return frame


def _noise(samples: int, seed: int) -> bytes:
    """Sixteen-bit samples whose high byte is small: noise, but quiet."""
    noise = bytearray(random.Random(seed).randbytes(samples * 2))
    noise[1::2] = noise[1::2].translate(bytes((value % 16 - 8) % 256 for value in range(256)))
    return bytes(noise)


def _wav_header(data_bytes: int, rate_hz: int, sample_bytes: int) -> bytes:
    pcm, mono = 1, 1
    format_ = struct.pack(
        "<HHIIHH", pcm, mono, rate_hz, rate_hz * sample_bytes, sample_bytes, sample_bytes * 8
    )
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36 + data_bytes, b"WAVE", b"fmt ", len(format_))
        + format_
        + struct.pack("<4sI", b"data", data_bytes)
    )
