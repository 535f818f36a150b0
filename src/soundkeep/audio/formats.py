"""The formats we know: those we may take, those we can only name, and those we can make."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A container and its coding. `demuxer` is what it is opened with, never guessed."""

    name: str
    media_type: str
    extension: str
    demuxer: str


_TABLE = (
    Format("mp3", "audio/mpeg", "mp3", "mp3"),
    Format("wav", "audio/wav", "wav", "wav"),
    Format("flac", "audio/flac", "flac", "flac"),
    Format("ogg", "audio/ogg", "ogg", "ogg"),
    Format("opus", "audio/ogg", "opus", "ogg"),
    Format("aac", "audio/aac", "aac", "aac"),
    Format("m4a", "audio/mp4", "m4a", "mov"),
    Format("webm", "audio/webm", "webm", "matroska"),
    # Not to be had by any setting: named so that a refusal can say what it is.
    Format("speex", "audio/ogg", "spx", "ogg"),
    Format("ogg-flac", "audio/ogg", "oga", "ogg"),
    Format("theora", "video/ogg", "ogv", "ogg"),
    Format("ogg-other", "application/ogg", "ogx", "ogg"),
    Format("aiff", "audio/aiff", "aiff", "aiff"),
    Format("ape", "audio/x-ape", "ape", "ape"),
    Format("wavpack", "audio/x-wavpack", "wv", "wv"),
    Format("musepack", "audio/x-musepack", "mpc", "mpc8"),
    Format("adif", "audio/aac", "aac", "aac"),  # AAC as it was stored in 1997; no browser plays it
    Format("matroska", "video/x-matroska", "mkv", "matroska"),
    Format("amr", "audio/amr", "amr", "amr"),
    Format("wma", "audio/x-ms-wma", "wma", "asf"),
    Format("midi", "audio/midi", "mid", ""),  # notes, not sound
)

FORMATS = {format_.name: format_ for format_ in _TABLE}


@dataclass(frozen=True, slots=True)
class Coding:
    """How a sound is made. Without a muxer it is bare samples (s16le, interleaved)."""

    name: str
    media_type: str
    extension: str
    muxer: str
    codec: str
    bit_rate: int = 0  # of each channel, if nothing else is asked for; 0: the coding is lossless


_MADE = (
    Coding("mp3", "audio/mpeg", "mp3", "mp3", "libmp3lame", 64_000),
    Coding("opus", "audio/ogg", "opus", "ogg", "libopus", 32_000),
    Coding("aac", "audio/aac", "aac", "adts", "aac", 64_000),
    Coding("m4a", "audio/mp4", "m4a", "ipod", "aac", 64_000),
    Coding("flac", "audio/flac", "flac", "flac", "flac"),
    Coding("wav", "audio/wav", "wav", "wav", "pcm_s16le"),
    Coding("pcm", "audio/pcm", "pcm", "", ""),
)

CODINGS = {coding.name: coding for coding in _MADE}
