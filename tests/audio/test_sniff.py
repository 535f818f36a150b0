"""Formats are told by content: each kind is known, look-alikes are not, and nothing raises."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import audiofiles
from soundkeep.audio.formats import FORMATS
from soundkeep.audio.sniff import sniff, sniff_file
from soundkeep.settings.house import AUDIO_TYPES

MPEG_FRAME = bytes.fromhex("fffb9000") + bytes(413)  # MPEG-1 Layer III, 128 kb/s, 44.1 kHz
OTHER_RATE = bytes.fromhex("fffb9400") + bytes(380)  # the same at 48 kHz
ADTS_FRAME = bytes.fromhex("fff15080027ffc") + bytes(12)  # 19 bytes, AAC-LC, 44.1 kHz, stereo

KINDS: dict[str, Callable[[], bytes]] = {
    "wav": audiofiles.wav,
    "mp3": audiofiles.mp3,
    "flac": audiofiles.flac,
    "ogg": audiofiles.vorbis,
    "opus": audiofiles.opus,
    "aac": audiofiles.aac,
    "m4a": audiofiles.m4a,
    "webm": audiofiles.webm,
}


def id3(size_bytes: int) -> bytes:
    sizes = bytes(size_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + sizes + b"\xff" * size_bytes


def ogg_page(packet: bytes, *, opens_a_stream: bool = True) -> bytes:
    return b"OggS\x00" + bytes([2 * opens_a_stream]) + bytes(20) + bytes([1, len(packet)]) + packet


def ebml(doctype: bytes, padding: bytes = b"") -> bytes:
    inside = padding + b"\x42\x82" + bytes([0x80 | len(doctype)]) + doctype
    return b"\x1a\x45\xdf\xa3" + b"\x40" + bytes([len(inside)]) + inside


def name_of(data: bytes) -> str | None:
    format_ = sniff(data)
    return format_ and format_.name


@pytest.mark.parametrize("name", KINDS)
def test_each_allowed_kind_is_told_by_its_content(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a name that says nothing.txt"
    path.write_bytes(KINDS[name]())
    assert sniff_file(path) is FORMATS[name]


def test_the_settings_allow_only_formats_that_we_know() -> None:
    assert set(AUDIO_TYPES) == set(KINDS) <= set(FORMATS)


def test_every_name_in_the_table_is_its_own() -> None:
    assert all(format_.name == name for name, format_ in FORMATS.items())


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"FORM\x00\x00\x00\x00AIFF", "aiff"),
        (b"FORM\x00\x00\x00\x00AIFC", "aiff"),
        (b"MAC \x96\x0f", "ape"),
        (b"wvpk", "wavpack"),
        (b"MP+\x07", "musepack"),
        (b"MPCK", "musepack"),
        (b"ADIF", "adif"),
        (b"#!AMR\n", "amr"),
        (b"MThd\x00\x00\x00\x06", "midi"),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "wma"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"\x00\x00\x00\x20ftypM4A ", "m4a"),
    ],
)
def test_a_signature_names_its_format(head: bytes, name: str) -> None:
    assert name_of(head) == name


@pytest.mark.parametrize(
    "head",
    [b"", b"R", b"RIFF\x00\x00\x00\x00AVI ", b"FORM\x00\x00\x00\x00ILBM", b"<!doctype html>"],
)
def test_what_is_no_audio_has_no_name(head: bytes) -> None:
    assert sniff(head) is None


# --- behind tags ----------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [id3(0), id3(127), id3(128), id3(100_000), id3(300) * 3])
@pytest.mark.parametrize("name", ["mp3", "flac", "aac"])
def test_sound_is_found_behind_tags(tags: bytes, name: str) -> None:
    assert name_of(tags + KINDS[name]()) == name


def test_zeros_between_the_tag_and_the_first_frame_are_padding() -> None:
    assert name_of(id3(50) + bytes(60_000) + MPEG_FRAME * 3) == "mp3"


@pytest.mark.parametrize("rest", [b"", b"junk", b"\xff" * 5_000, random.Random(1).randbytes(9_000)])
def test_a_tag_with_junk_behind_it_is_no_mp3(rest: bytes) -> None:
    assert sniff(id3(50) + rest) is None


# --- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("frame", "name"), [(MPEG_FRAME, "mp3"), (ADTS_FRAME, "aac")])
def test_three_frames_in_a_row_are_sound_whatever_follows(frame: bytes, name: str) -> None:
    assert name_of(frame * 3 + b"anything") == name
    assert name_of(b"the rest of a frame" + frame * 3 + b"anything") == name
    assert name_of(frame * 2 + b"anything") is None


@pytest.mark.parametrize("tail", [b"", b"TAG" + bytes(125), b"APETAGEX", b"LYRICSBEGIN"])
def test_a_short_file_may_end_after_fewer_frames(tail: bytes) -> None:
    assert name_of(MPEG_FRAME + tail) == "mp3"
    assert name_of(b"cut" + MPEG_FRAME * 2 + tail) == "mp3"
    assert name_of(b"cut" + MPEG_FRAME + tail) is None


def test_a_file_cut_off_in_its_second_frame_is_still_named() -> None:
    assert name_of((MPEG_FRAME * 2)[:-1]) == "mp3"


def test_frames_that_disagree_do_not_count_together() -> None:
    assert sniff(MPEG_FRAME + OTHER_RATE + MPEG_FRAME + b"anything") is None


@pytest.mark.parametrize("wrong", ["ffeb9000", "fff99000", "fffbf000", "fffb0000", "fffb9c00"])
def test_a_header_with_a_reserved_value_begins_no_frame(wrong: str) -> None:
    """Reserved: the version, the layer, the bit rate (and the free one), the sample rate."""
    assert sniff((bytes.fromhex(wrong) + bytes(413)) * 4) is None


# --- Ogg and EBML ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (b"\x01vorbis", "ogg"),
        (b"OpusHead", "opus"),
        (b"Speex   1.2", "speex"),
        (b"\x7fFLAC", "ogg-flac"),
        (b"\x80theora", "theora"),
        (b"something", "ogg-other"),
    ],
)
def test_ogg_is_named_by_its_first_packet(packet: bytes, name: str) -> None:
    assert name_of(ogg_page(packet)) == name
    assert name_of(ogg_page(b"fishead\x00") + ogg_page(packet)) == name


def test_only_pages_that_open_a_stream_name_an_ogg_file() -> None:
    later = ogg_page(b"\x01vorbis", opens_a_stream=False)
    assert name_of(ogg_page(b"fishead\x00") + later) == "ogg-other"


def test_webm_is_told_from_matroska_by_its_document_type_alone() -> None:
    assert name_of(ebml(b"webm")) == "webm"
    assert name_of(ebml(b"webm\x00\x00")) == "webm"
    assert name_of(ebml(b"matroska")) == "matroska"
    assert name_of(ebml(b"matroska") + b"webm") == "matroska"
    assert name_of(ebml(b"webm", padding=b"\xec\x84\x42\x82\x84\x00")) == "webm"
    assert name_of(ebml(b"matroska", padding=b"\xec\x84webm")) == "matroska"


# --- any bytes ------------------------------------------------------------------------------

_PREFIXES = (
    b"",
    b"ID3\x04\x00\x00",
    b"OggS\x00\x02",
    b"\x1a\x45\xdf\xa3",
    b"RIFF",
    b"\xff\xfb\x90",
)


@given(st.sampled_from(_PREFIXES), st.binary(max_size=2_000))
def test_any_bytes_give_a_format_or_none(prefix: bytes, rest: bytes) -> None:
    assert sniff(prefix + rest) in (None, *FORMATS.values())


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_cut_or_damage_of_real_sound_gives_a_format_or_none(
    name: str, data: st.DataObject
) -> None:
    sound = bytearray(KINDS[name]()[:4_096])
    for _ in range(data.draw(st.integers(0, 8))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    assert sniff(bytes(sound[: data.draw(st.integers(0, len(sound)))])) in (None, *FORMATS.values())


@pytest.mark.parametrize(
    "data",
    [
        bytes(1 << 20),
        b"\xff" * (1 << 20),
        b"\xff\xfb" * (1 << 19),
        b"ID3" + bytes(7),
        MPEG_FRAME[:4],
    ],
)
def test_little_is_read_of_a_large_file_that_says_nothing(data: bytes) -> None:
    class Counting(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            Counting.read_bytes += len(piece)
            return piece

    from soundkeep.audio import sniff as module

    module._sniff(Counting(data))
    assert Counting.read_bytes < 128 * 1024


def test_a_file_larger_than_any_head_is_sniffed_where_its_tag_ends(tmp_path: Path) -> None:
    path = tmp_path / "with a large picture"
    path.write_bytes(id3(5_000_000) + audiofiles.mp3())
    assert sniff_file(path) is FORMATS["mp3"]
