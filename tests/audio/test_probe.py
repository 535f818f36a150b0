"""What a probe says of sound: how long it really is, what it is, and what it cannot take."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import audiofiles
from soundkeep.audio.formats import FORMATS
from soundkeep.audio.jail import Jail
from soundkeep.audio.sniff import sniff_file
from soundkeep.errors import NotAudio
from soundkeep.model import Sound

FRAMES_SECONDS = {"mp3": 2 * 1152 / 48_000, "aac": 2 * 1024 / 48_000}  # of run-up and filling

KINDS: dict[str, Callable[..., bytes]] = {
    "wav": audiofiles.wav,
    "mp3": audiofiles.mp3,
    "flac": audiofiles.flac,
    "ogg": audiofiles.vorbis,
    "opus": audiofiles.opus,
    "aac": audiofiles.aac,
    "m4a": audiofiles.m4a,
    "webm": audiofiles.webm,
}
CODECS = {"wav": "pcm_s16le", "ogg": "vorbis", "m4a": "aac", "webm": "opus"}
TAGGED = ("mp3", "flac", "ogg", "opus", "m4a", "webm")

Probe = Callable[[bytes], "Sound"]


class Prober:
    """Writes bytes down and probes them as what they are sniffed to be, or as said."""

    def __init__(self, jail: Jail, path: Path) -> None:
        self._jail, self._path = jail, path

    async def __call__(self, data: bytes, name: str = "") -> Sound:
        self._path.write_bytes(data)
        format_ = FORMATS[name] if name else sniff_file(self._path)
        assert format_
        return await self._jail.probe(self._path, format_)


@pytest.fixture
def probe(jail: Jail, tmp_path: Path) -> Prober:
    return Prober(jail, tmp_path / "sound")


@pytest.mark.parametrize("seconds", [0.05, 1.0, 7.25])
@pytest.mark.parametrize("name", KINDS)
async def test_each_kind_is_measured(probe: Prober, name: str, seconds: float) -> None:
    data = KINDS[name](seconds)
    sound = await probe(data)
    assert (sound.media_type, sound.extension) == (
        FORMATS[name].media_type,
        FORMATS[name].extension,
    )
    assert sound.codec == CODECS.get(name, name)
    # A bare stream of frames cannot say where in its frames the sound begins and ends.
    assert sound.duration_seconds == pytest.approx(seconds, abs=FRAMES_SECONDS.get(name, 0.001))
    assert sound.channels == (2 if name == "ogg" else 1)
    assert sound.sample_rate_hz == (8_000 if name == "wav" else 48_000)
    assert sound.bit_rate
    assert sound.bit_rate * sound.duration_seconds / 8 <= len(data) + 1  # the rate is rounded


# --- headers lie ----------------------------------------------------------------------------


async def test_the_duration_is_summed_and_not_taken_from_a_header(probe: Prober) -> None:
    """The Xing frame of 3 s of sound says 3 s; behind it stand 6 s."""
    three = audiofiles.mp3(3.0, seed=1)
    frames = three[three.index(b"Xing") :] if b"Xing" in three else three[three.index(b"Info") :]
    first_frame = frames[frames.index(b"\xff\xfb") :]
    sound = await probe(three + first_frame)
    assert sound.duration_seconds == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize("claimed", [0, 1_000, 0xFFFF_FFFF])
async def test_a_wav_that_lies_about_its_size_is_as_long_as_its_bytes(
    probe: Prober, claimed: int
) -> None:
    """A recorder that was stopped by force, or streamed, leaves 0 or the largest number there."""
    wav = bytearray(audiofiles.wav(1.0))
    wav[4:8] = wav[40:44] = struct.pack("<I", claimed)
    sound = await probe(bytes(wav))
    assert sound.duration_seconds == pytest.approx(min(claimed or 16_000, 16_000) / 16_000)


@pytest.mark.parametrize("name", ["wav", "mp3", "flac", "ogg", "opus", "aac", "webm"])
async def test_a_file_that_is_cut_off_plays_up_to_there(probe: Prober, name: str) -> None:
    whole = KINDS[name](4.0)
    sound = await probe(whole[: len(whole) // 2])
    assert 0.9 < sound.duration_seconds < 3.0  # Ogg loses the rest of a page, about a second


async def test_an_mp4_that_is_cut_off_before_its_index_is_refused(probe: Prober) -> None:
    whole = audiofiles.m4a(4.0)
    with pytest.raises(NotAudio, match="m4a: it cannot be decoded"):
        await probe(whole[: len(whole) // 2])


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg", "opus", "aac"])
async def test_damage_in_the_middle_does_not_refuse_the_rest(probe: Prober, name: str) -> None:
    damaged = bytearray(KINDS[name](4.0))
    middle = len(damaged) // 2
    damaged[middle : middle + 700] = bytes(700)
    sound = await probe(bytes(damaged))
    assert 1.0 < sound.duration_seconds < 4.2


# --- what is not taken ----------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
async def test_a_head_without_one_frame_is_refused(probe: Prober, name: str) -> None:
    head = {"wav": 44, "aac": 40, "mp3": 60}.get(name, 100)
    with pytest.raises(NotAudio, match=f"^{name}: "):
        await probe(KINDS[name]()[:head], name)


@pytest.mark.parametrize("name", KINDS)
async def test_no_bytes_and_junk_are_refused(probe: Prober, name: str) -> None:
    for data in (b"", b"\x00", b"junk" * 1_000, bytes(10_000)):
        with pytest.raises(NotAudio):
            await probe(data, name)


async def test_a_moving_picture_is_refused(probe: Prober) -> None:
    with pytest.raises(NotAudio, match="webm: it holds video"):
        await probe(audiofiles.webm_with_video())


async def test_a_cover_picture_is_no_video(probe: Prober) -> None:
    sound = await probe(audiofiles.mp3_with_cover())
    assert sound.codec == "mp3"


async def test_a_file_that_is_gone_is_refused_and_does_no_harm(jail: Jail, tmp_path: Path) -> None:
    with pytest.raises(NotAudio):
        await jail.probe(tmp_path / "gone", FORMATS["mp3"])


# --- tags -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAGGED)
async def test_tags_are_read_from_each_kind_that_has_them(probe: Prober, name: str) -> None:
    sound = await probe(KINDS[name](0.5, 0, title="Ein Lied für 🎧", artist="Ünïcode"))
    assert sound.tags == {"title": "Ein Lied für 🎧", "artist": "Ünïcode"}


async def test_a_tag_is_one_line_of_bounded_length(probe: Prober) -> None:
    sound = await probe(audiofiles.flac(0.5, title="a\x07b\nc\u3000d\u202ee" + "x" * 5_000))
    assert sound.tags["title"].startswith("ab c dex")
    assert len(sound.tags["title"]) == 300


async def test_a_tag_in_no_known_coding_does_not_refuse_the_sound(probe: Prober) -> None:
    name = b"Motorh\xe9ad\x00"
    info = b"INFOIART" + struct.pack("<I", len(name)) + name
    wav = audiofiles.wav(0.5) + b"LIST" + struct.pack("<I", len(info)) + info
    sound = await probe(wav)
    assert sound.duration_seconds == 0.5
    assert sound.tags["artist"].startswith("Motorh")


async def test_tags_that_we_do_not_show_are_left_out(probe: Prober) -> None:
    sound = await probe(audiofiles.flac(0.5, title="t", comment="c", lyrics="l"))
    assert sound.tags == {"title": "t"}


# --- nothing else is opened -----------------------------------------------------------------


@pytest.mark.parametrize(
    "playlist",
    [
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.mp3\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{other}'\n",
    ],
    ids=["sdp", "m3u8-network", "m3u8-file", "concat"],
)
@pytest.mark.parametrize("name", ["mp3", "wav", "m4a", "webm", "ogg"])
async def test_a_playlist_in_disguise_opens_nothing(
    probe: Prober, tmp_path: Path, unused_tcp_port: int, playlist: str, name: str
) -> None:
    other = tmp_path / "other.mp3"
    other.write_bytes(audiofiles.mp3())
    with pytest.raises(NotAudio):
        await probe(playlist.format(port=unused_tcp_port, other=other).encode(), name)


async def test_pcm_is_not_walked_packet_by_small_packet(probe: Prober) -> None:
    """Compared with each other on this machine, since a machine's speed is no promise of ours."""
    took = []
    for data in (audiofiles.wav(60.0), audiofiles.mp3(60.0)):
        await probe(data)
        begun = time.perf_counter()
        for _ in range(5):
            await probe(data)
        took.append((time.perf_counter() - begun) / len(data))
    assert took[0] < took[1]
