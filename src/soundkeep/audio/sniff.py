"""Tells what a file is by its content: our own, because a name and a media type are only claims.

Total and bounded: any bytes give a format or None, never an exception, after a few small reads.
Signatures alone are not enough for MP3 and AAC, which have none worth the name: three consecutive
frames that agree are required ("ID3 and junk" passes for MP3 elsewhere). A format that is told
here may still hold nothing that plays: the probe decides that.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from soundkeep.audio.formats import FORMATS, Format

MAX_TAGS = 8  # ID3v2 tags before the sound; some taggers leave several
MAX_PADDING_BYTES = 64 * 1024  # of zeros between a tag and the first frame
MAX_JUNK_BYTES = 4 * 1024  # what is cut out of a stream begins with the rest of a frame (< 2,881)
MAX_OGG_STREAMS = 8
FRAMES_WANTED = 3
MAX_FRAME_BYTES = 8191  # an ADTS length has 13 bits; an MPEG frame is shorter
HEAD_BYTES = 4 * 1024

_FrameParser = Callable[[bytes], tuple[int, object] | None]  # length in bytes, and what kind

_SYNC = re.compile(rb"\xff[\xe0-\xff]")
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
    (b"fLaC", "flac"),
    (b"MAC ", "ape"),
    (b"wvpk", "wavpack"),
    (b"MP+", "musepack"),
    (b"MPCK", "musepack"),
    (b"ADIF", "adif"),
    (b"#!AMR", "amr"),
    (b"MThd", "midi"),
    (bytes.fromhex("3026b2758e66cf11"), "wma"),
)
_OGG_CODECS = (
    (b"\x01vorbis", "ogg"),
    (b"OpusHead", "opus"),
    (b"Speex   ", "speex"),
    (b"\x7fFLAC", "ogg-flac"),
    (b"\x80theora", "theora"),
)
_OGG_SKELETON = b"fishead\x00"
_EBML_HEADER, _EBML_DOCTYPE = 0x1A45DFA3, 0x4282


def sniff_file(path: Path) -> Format | None:
    """What the file is, or None. Raises `OSError` only."""
    with path.open("rb") as file:
        return _sniff(file)


def sniff(head: bytes) -> Format | None:
    """What a file that begins with these bytes is, as far as they tell."""
    return _sniff(io.BytesIO(head))


def _sniff(file: BinaryIO) -> Format | None:
    start = _after_tags(file)
    head = _at(file, start, HEAD_BYTES)
    name = _by_signature(head) or _by_container(head) or _by_frames(file, start)
    return FORMATS[name] if name else None


def _by_signature(head: bytes) -> str | None:
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


def _by_container(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b"OggS":
        return _ogg_codec(head)
    if head[4:8] == b"ftyp":
        return "m4a"
    if int.from_bytes(head[:4], "big") == _EBML_HEADER:
        return "webm" if _ebml_doctype(head) == b"webm" else "matroska"
    return None


# --- Ogg and EBML ---------------------------------------------------------------------------


def _ogg_codec(head: bytes) -> str:
    """The codec of the first stream that is not an index (a "skeleton") of the others."""
    for packet in _ogg_first_packets(head):
        if not packet.startswith(_OGG_SKELETON):
            known = (name for mark, name in _OGG_CODECS if packet.startswith(mark))
            return next(known, "ogg-other")
    return "ogg-other"


def _ogg_first_packets(head: bytes) -> Iterator[bytes]:
    """What the pages that open a stream hold; they all stand first (RFC 3533, section 4)."""
    at = 0
    for _ in range(MAX_OGG_STREAMS):
        page = head[at:]
        opens_a_stream = len(page) > 27 and page[:4] == b"OggS" and page[5] & 0x02
        if not opens_a_stream:
            return
        begin = 27 + page[26]
        length = sum(page[27:begin])
        yield page[begin : begin + length]
        at += begin + length


def _ebml_doctype(head: bytes) -> bytes:
    """The document type of a Matroska or WebM file (RFC 8794, section 11.2.4), or nothing."""
    size, at = _ebml_size(head, 4)
    end = min(at + size, len(head))
    while at + 2 < end:
        id_bytes = _ebml_width(head[at])
        element = int.from_bytes(head[at : at + id_bytes], "big")
        size, at = _ebml_size(head, at + id_bytes)
        if element == _EBML_DOCTYPE:
            return head[at : at + size].rstrip(b"\x00")
        at += size
    return b""


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """A length, and where it ends: its first byte's leading zeros say how wide it is."""
    if at >= len(head):
        return 0, at + 1
    width = _ebml_width(head[at])
    value = int.from_bytes(head[at : at + width], "big")
    return value & ((1 << 7 * width) - 1), at + width


def _ebml_width(first: int) -> int:
    return min(9 - first.bit_length(), 8)


# --- frames ---------------------------------------------------------------------------------


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
    window = _at(file, start, MAX_PADDING_BYTES + MAX_JUNK_BYTES + FRAMES_WANTED * MAX_FRAME_BYTES)
    sound = window[:MAX_PADDING_BYTES].lstrip(b"\x00") + window[MAX_PADDING_BYTES:]
    for sync in _SYNC.finditer(sound, 0, MAX_JUNK_BYTES):
        for name, parse in (("mp3", _mpeg_frame), ("aac", _adts_frame)):
            if _frames_follow(sound, sync.start(), parse):
                return name
    return None


def _frames_follow(sound: bytes, at: int, parse: _FrameParser) -> bool:
    """Whether three frames of one kind follow, or all there are up to the end of the file.

    Two will do for a short file, and one that fills it: the probe then says what is amiss.
    """
    least = 1 if at == 0 else 2
    kind: object = None
    for number in range(FRAMES_WANTED):
        header = sound[at : at + 7]
        frame = parse(header)
        if frame is None or (kind is not None and frame[1] != kind):
            return number >= least and _is_tail(header)
        kind = frame[1]
        at += frame[0]
    return True


def _is_tail(header: bytes) -> bool:
    """The end of the file, or a tag that stands behind the last frame."""
    return not header or header[:3] in (b"TAG", b"APE", b"LYR", b"ID3")


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
