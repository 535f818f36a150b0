"""Measures a sound inside the jail: what it is coded in, and how long it really is.

The duration is the sum of its packets, because headers lie (a variable-rate MP3 without a Xing
header claimed 414 s for 180 s). One decoded frame is the bar for being audio; a file that is cut
off or damaged further on still plays up to there, and is taken. An MP4 that is cut off before its
index (`moov`, which most encoders write last) cannot be decoded at all, and is not.
"""

from __future__ import annotations

import io
from typing import Any

import av
from av.stream import Disposition

from soundkeep.audio.jobs import Findings

TAGS = ("title", "artist", "album", "album_artist", "composer", "genre", "date", "track")
MAX_TAG_CHARS = 300
MAX_PACKETS = 20_000_000
OPTIONS = {"protocol_whitelist": "pipe"}  # a playlist or SDP in disguise opens nothing
# PCM is searched for a hidden bitstream over five megabytes, in whole packets, and read in packets
# of 4 KB: 15 ms for 1 MB, 1 ms with these. Larger packets would suit larger files better (40 ms for
# 200 MB, in place of 80), and cost each small one a millisecond more.
OPTIONS_OF = {"wav": {**OPTIONS, "probesize": "8192", "max_size": "16384"}}
SILENCE = (  # a WAV of four samples
    b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0"
    b"data\4\0\0\0\x80\x80\x80\x80"
)


class NoSound(Exception):
    """It can be opened, and holds nothing that we take. `str` says why."""


def probe(path: str, demuxer: str) -> Findings:
    """Opens the file with this demuxer and no other. Never raises but `MemoryError`."""
    try:
        with open(path, "rb") as file:
            return _probe(file, demuxer)
    except (av.FFmpegError, OSError, ValueError, EOFError, NoSound) as error:
        return Findings(refusal=words(error))


def rehearse() -> None:
    """Probes a moment of silence, so that what PyAV loads late is loaded before the caps close.

    From here on a refusal has FFmpeg's own reason too.
    """
    av.logging.set_level(av.logging.ERROR)
    _probe(io.BytesIO(SILENCE), "wav")


def open_container(file: Any, demuxer: str) -> Any:
    """As foreign bytes are opened: with this demuxer, from this file alone."""
    options = OPTIONS_OF.get(demuxer, OPTIONS)
    # Tags in no known coding are common, and no reason to refuse the sound.
    return av.open(file, format=demuxer, options=options, metadata_errors="replace")


def sound_of(container: Any) -> Any:
    """Its one stream of sound. Raises `NoSound`."""
    if any(_is_moving(stream) for stream in container.streams.video):
        raise NoSound("it holds video")
    if not container.streams.audio:
        raise NoSound("it holds no sound")
    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    return stream


def words(error: Exception) -> str:
    """Why something cannot be decoded."""
    if isinstance(error, NoSound):
        return str(error)
    if not isinstance(error, av.FFmpegError):
        return "it cannot be decoded"
    reason = _printable(str(error.log[-1] if error.log else error.strerror))
    return f"it cannot be decoded ({reason.rstrip('.')})"


def _probe(file: Any, demuxer: str) -> Findings:
    with open_container(file, demuxer) as container:
        return _measure(container)


def _measure(container: Any) -> Findings:
    stream = sound_of(container)
    frame, duration, size = _walk(container, stream)
    if frame is None:
        raise NoSound("not one frame of it can be decoded")
    return Findings(
        codec=stream.codec_context.codec.canonical_name,
        duration_seconds=round(duration, 6),
        bit_rate=round(size * 8 / duration) if duration else None,
        channels=frame.layout.nb_channels,
        sample_rate_hz=frame.sample_rate,
        tags=_tags({**container.metadata, **stream.metadata}),
    )


def _walk(container: Any, stream: Any) -> tuple[Any, float, int]:
    """The first frame, the seconds and the bytes of all packets that can be read."""
    frame, ticks, size = None, 0, 0
    packets = container.demux(stream)
    for _ in range(MAX_PACKETS):
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            break
        ticks += _heard(packet)
        size += packet.size
        if frame is None:
            frame = _first_frame(packet)
    if not ticks and stream.duration:
        ticks = stream.duration
    return frame, float(ticks * stream.time_base), size


def _heard(packet: Any) -> int:
    """The ticks of a packet, without those before time zero: a codec's run-up, never played.

    (Opus calls it pre-skip, MP4 an edit; of one real file it is 1.4 s of 12.7.)
    """
    duration = _signed(packet.duration or 0)
    if packet.pts is None or packet.pts >= 0:
        return duration
    return max(0, int(packet.pts) + duration)


def _signed(duration: int) -> int:
    """The last packet of a short Vorbis file lasts less than nothing, which FFmpeg hands out as
    nearly 2 to the power of 32: 0.05 s became 89,478."""
    return duration - (1 << 32) if duration >= 1 << 31 else duration


def _first_frame(packet: Any) -> Any:
    try:
        return next(iter(packet.decode()), None)
    except (av.FFmpegError, ValueError):
        return None


def _is_moving(stream: Any) -> bool:
    return not stream.disposition & Disposition.attached_pic


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    """The tags we show, printable and bounded."""
    found = {name.lower(): _printable(value) for name, value in metadata.items()}
    return {name: found[name] for name in TAGS if found.get(name)}


def _printable(text: str) -> str:
    """One line without control characters; Unicode's other spaces become plain ones."""
    plain = "".join(char if char.isprintable() else " " * char.isspace() for char in text)
    return plain.strip()[:MAX_TAG_CHARS].strip()
