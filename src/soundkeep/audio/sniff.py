"""Tells what a file is by its content: our own, because a name and a media type are only claims.

Total and bounded: any bytes give a format or None, never an exception, after a few small reads.
Signatures alone are not enough for MP3 and AAC, which have none worth the name: three consecutive
frames that agree are required ("ID3 and junk" passes for MP3 elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from soundkeep.audio.formats import FORMATS, Format

MAX_TAGS = 8  # ID3v2 tags before the sound; some taggers leave several
MAX_SYNC_BYTES = 64 * 1024  # of padding or junk between tag and first frame
FRAMES_WANTED = 3
HEAD_BYTES = 512

_FrameParser = Callable[[bytes], tuple[int, object] | None]  # length in bytes, and what kind

_MPEG_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MPEG_KBITS = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

_SIGNATURES = (
    (0, b"fLaC", "flac"),
    (0, b"MAC ", "ape"),
    (0, b"wvpk", "wavpack"),
    (0, b"MP+", "musepack"),
    (0, b"MPCK", "musepack"),
    (0, b"ADIF", "adif"),
    (0, b"#!AMR", "amr"),
    (0, bytes.fromhex("3026b2758e66cf11"), "wma"),
)
_OGG_CODECS = ((b"\x01vorbis", "ogg"), (b"OpusHead", "opus"), (b"Speex   ", "speex"))


def sniff_file(path: Path) -> Format | None:
    """What the file is, or None. Raises `OSError` only."""
    with path.open("rb") as file:
        return sniff(file)


def sniff(file: BinaryIO) -> Format | None:
    """What a seekable file is, or None."""
    start = _after_tags(file)
    head = _at(file, start, HEAD_BYTES)
    name = _by_signature(head) or _by_frames(file, start)
    return FORMATS[name] if name else None


def _by_signature(head: bytes) -> str | None:
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    return _by_container(head)


def _by_container(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b"OggS":
        return _ogg_codec(head)
    if head[4:8] == b"ftyp":
        return "m4a"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"webm" in head[:64] else "matroska"
    return None


def _ogg_codec(head: bytes) -> str:
    """The codec by the first packet, which follows the page's segment table (RFC 3533)."""
    packet = head[27 + head[26] :] if len(head) > 27 else b""
    return next((name for mark, name in _OGG_CODECS if packet.startswith(mark)), "ogg-other")


def _after_tags(file: BinaryIO) -> int:
    """Where the sound begins behind ID3v2 tags, whose sizes have seven bits a byte."""
    start = 0
    for _ in range(MAX_TAGS):
        tag = _at(file, start, 10)
        if len(tag) < 10 or tag[:3] != b"ID3" or max(tag[6:10]) > 127:
            break
        size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        has_footer = bool(tag[5] & 0x10)
        start += 10 + size + (10 if has_footer else 0)
    return start


def _by_frames(file: BinaryIO, start: int) -> str | None:
    """MP3 or AAC by frames that follow one another, from the first byte that could begin one."""
    window = _at(file, start, MAX_SYNC_BYTES)
    at = window.find(b"\xff")
    while at >= 0:
        for name, length_of in (("mp3", _mpeg_frame), ("aac", _adts_frame)):
            if _frames_follow(file, start + at, length_of):
                return name
        at = window.find(b"\xff", at + 1)
    return None


def _frames_follow(file: BinaryIO, at: int, length_of: _FrameParser) -> bool:
    """Whether three frames of one kind follow, or all there are up to the end of the file."""
    kind: object = None
    for number in range(FRAMES_WANTED):
        header = _at(file, at, 7)
        frame = length_of(header)
        if frame is None or (kind is not None and frame[1] != kind):
            return number >= 2 and _is_tail(header)
        kind = frame[1]
        at += frame[0]
    return True


def _is_tail(header: bytes) -> bool:
    """The end of the file, or a tag that stands behind the last frame."""
    return not header or header[:3] in (b"TAG", b"APE", b"LYR")


def _mpeg_frame(header: bytes) -> tuple[int, object] | None:
    """Length and kind of an MPEG audio frame (ISO 11172-3 2.4.1.3), Layers I to III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    rate_index, kbit_index = header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or layer == 0 or rate_index == 3 or kbit_index in (0, 15):
        return None
    rate_hz = _MPEG_RATES_HZ[version][rate_index]
    bits = _MPEG_KBITS[3 if version == 3 else 2, layer][kbit_index] * 1000
    padding = header[2] >> 1 & 1
    if layer == 3:
        length = (12 * bits // rate_hz + padding) * 4
    else:
        samples_by_8 = 72 if layer == 1 and version != 3 else 144
        length = samples_by_8 * bits // rate_hz + padding
    return length, (version, layer, rate_hz)


def _adts_frame(header: bytes) -> tuple[int, object] | None:
    """Length and kind of an ADTS frame (ISO 13818-7 6.2)."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    rate_index = header[2] >> 2 & 15
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    if rate_index > 12 or length < 7:
        return None
    return length, (header[2], header[3] & 0xC0)


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
