"""Samples out of any sound, and any coding out of samples: exact, bounded, and in little memory."""

from __future__ import annotations

import io
import math
import struct
from array import array
from pathlib import Path

import av
import pytest

import audiofiles
from soundkeep.audio.formats import CODINGS
from soundkeep.audio.jail import Jail
from soundkeep.audio.sniff import sniff_file
from soundkeep.errors import JailFailed, NotAudio, TooMuchSound, WriteFailed

RATE_HZ = 24_000
PLENTY_BYTES = 1 << 30
RUN_UP = {"aac": 2048, "m4a": 1024}  # samples that these codings add: no header of theirs says so


def tone(seconds: float, rate_hz: int = RATE_HZ, pitch_hz: float = 440.0) -> bytes:
    count = round(seconds * rate_hz)
    wave = (12_000 * math.sin(math.tau * pitch_hz * at / rate_hz) for at in range(count))
    return array("h", map(round, wave)).tobytes()


def stereo_wav(left: bytes, right: bytes, rate_hz: int = RATE_HZ) -> bytes:
    both = b"".join(left[at : at + 2] + right[at : at + 2] for at in range(0, len(left), 2))
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(both), b"WAVE", b"fmt ", 16, 1, 2,
                       rate_hz, rate_hz * 4, 4, 16, b"data", len(both))  # fmt: skip
    return head + both


def heard(file: Path) -> tuple[int, int, int]:
    """Samples, rate and channels, by a decoder of the test's own."""
    with av.open(io.BytesIO(file.read_bytes())) as container:
        frames = list(container.decode(audio=0))
    samples = sum(frame.samples for frame in frames)
    return samples, frames[0].sample_rate, frames[0].layout.nb_channels


async def test_samples_that_are_coded_without_loss_come_back_as_they_were(
    jail: Jail, tmp_path: Path
) -> None:
    pieces = [tone(0.7), tone(0.001), b"", tone(1.3, pitch_hz=220)]
    files = [tmp_path / str(number) for number in range(len(pieces))]
    for file, piece in zip(files, pieces, strict=True):
        file.write_bytes(piece)
    for coding in ("wav", "flac", "pcm"):
        coded, again = tmp_path / coding, tmp_path / "again"
        await jail.encode(files, coded, sample_rate_hz=RATE_HZ, coding=coding)
        if coding == "pcm":
            assert coded.read_bytes() == b"".join(pieces)
            continue
        samples = await jail.decode(coded, again, max_bytes=PLENTY_BYTES)
        assert again.read_bytes() == b"".join(pieces)
        assert samples * 2 == len(again.read_bytes())


@pytest.mark.parametrize("name", sorted(set(CODINGS) - {"pcm"}))
async def test_every_coding_is_what_it_says_and_as_long_as_its_samples(
    jail: Jail, tmp_path: Path, name: str
) -> None:
    source, coded, twin = tmp_path / "source", tmp_path / "coded", tmp_path / "twin"
    source.write_bytes(tone(2.5))
    for target in (coded, twin):
        await jail.encode([source], target, sample_rate_hz=RATE_HZ, coding=name)
    format_ = sniff_file(coded)
    assert format_
    assert (format_.name, format_.media_type) == (name, CODINGS[name].media_type)
    samples, rate_hz, channels = heard(coded)
    assert channels == 1
    assert 0 <= samples - 2.5 * rate_hz <= RUN_UP.get(name, 0)
    assert coded.read_bytes() == twin.read_bytes()  # nothing random, no date


async def test_a_rate_that_the_coding_lacks_becomes_the_next_higher(
    jail: Jail, tmp_path: Path
) -> None:
    source, coded = tmp_path / "source", tmp_path / "coded"
    source.write_bytes(tone(1.0, 22_050))
    await jail.encode([source], coded, sample_rate_hz=22_050, coding="opus")
    samples, rate_hz, _ = heard(coded)  # Opus is always decoded at 48 kHz
    assert abs(samples - rate_hz) <= 48
    await jail.encode([source], coded, sample_rate_hz=22_050, coding="mp3", out_rate_hz=30_000)
    assert heard(coded)[1] == 32_000


async def test_a_bit_rate_is_obeyed(jail: Jail, tmp_path: Path) -> None:
    source, coded = tmp_path / "source", tmp_path / "coded"
    source.write_bytes(audiofiles.wav(10, rate_hz=RATE_HZ)[44:])
    for bit_rate in (32_000, 96_000):
        for coding in ("mp3", "opus", "aac"):
            await jail.encode(
                [source], coded, sample_rate_hz=RATE_HZ, coding=coding, bit_rate=bit_rate
            )
            assert coded.stat().st_size * 8 / 10 == pytest.approx(bit_rate, rel=0.2)


async def test_the_bit_rate_of_opus_holds_for_a_vowel_that_is_held(
    jail: Jail, tmp_path: Path
) -> None:
    """Left to itself it takes twice of what it was given."""
    overtones = [array("h", tone(5.0, pitch_hz=115.0 * number)) for number in range(1, 9)]
    vowel = array("h", (sum(samples) // 9 for samples in zip(*overtones, strict=True)))
    source, coded = tmp_path / "source", tmp_path / "coded"
    source.write_bytes(vowel.tobytes())
    await jail.encode([source], coded, sample_rate_hz=RATE_HZ, coding="opus", bit_rate=32_000)
    assert coded.stat().st_size * 8 / 5 == pytest.approx(32_000, rel=0.1)


@pytest.mark.parametrize("make", [audiofiles.mp3, audiofiles.opus, audiofiles.m4a, audiofiles.aac])
async def test_any_sound_becomes_samples_at_the_rate_that_is_asked(
    jail: Jail, tmp_path: Path, make: object
) -> None:
    assert callable(make)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(make(3.0))
    samples = await jail.decode(source, target, sample_rate_hz=16_000, max_bytes=PLENTY_BYTES)
    assert target.stat().st_size == samples * 2
    assert abs(samples / 16_000 - 3.0) < 0.06


async def test_a_rendition_keeps_both_channels_apart(jail: Jail, tmp_path: Path) -> None:
    left, right = tone(1.0, pitch_hz=300), bytes(2 * RATE_HZ)
    source, coded, samples = tmp_path / "source", tmp_path / "coded", tmp_path / "samples"
    source.write_bytes(stereo_wav(left, right))
    await jail.encode_file(source, coded, coding="flac")
    assert heard(coded) == (RATE_HZ, RATE_HZ, 2)
    await jail.decode(coded, samples, channels=None, max_bytes=PLENTY_BYTES)
    both = array("h", samples.read_bytes())
    assert both[0::2].tobytes() == left
    assert both[1::2].tobytes() == right


async def test_more_than_the_limit_is_an_error_and_leaves_no_file(
    jail: Jail, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(audiofiles.flac(4.0))
    size_bytes = 4 * audiofiles.RATE_HZ * 2
    with pytest.raises(TooMuchSound):
        await jail.decode(source, target, max_bytes=size_bytes - 1)
    assert not target.exists()
    assert await jail.decode(source, target, max_bytes=size_bytes) == size_bytes // 2
    with pytest.raises(TooMuchSound):
        await jail.encode_file(source, target, coding="mp3", max_bytes=1000)
    assert not target.exists()


async def test_what_is_no_sound_is_refused_and_leaves_no_file(jail: Jail, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for data in (b"", b"<html>not found</html>", audiofiles.webm_with_video()):
        source.write_bytes(data)
        with pytest.raises(NotAudio):
            await jail.decode(source, target, max_bytes=PLENTY_BYTES)
        assert not target.exists()
    source.write_bytes(b"")
    with pytest.raises(NotAudio, match="not one frame"):
        await jail.encode([source], target, sample_rate_hz=RATE_HZ, coding="mp3")


async def test_a_target_that_cannot_be_written_is_no_fault_of_the_sound(
    jail: Jail, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(audiofiles.wav(30))
    with pytest.raises(WriteFailed):
        await jail.decode(source, tmp_path / "nowhere" / "target", max_bytes=PLENTY_BYTES)


async def test_a_sound_with_damage_in_its_middle_is_heard_to_its_end(
    jail: Jail, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    whole = audiofiles.mp3(4.0)
    middle = len(whole) // 2
    source.write_bytes(whole[:middle] + bytes(1500) + whole[middle + 1500 :])
    samples = await jail.decode(source, target, max_bytes=PLENTY_BYTES)
    assert samples / audiofiles.RATE_HZ == pytest.approx(4.0, abs=0.4)


async def test_two_hours_need_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    """All that the process may have, code included, is less than the sound would take up."""
    minute, target = tmp_path / "minute", tmp_path / "target"
    minute.write_bytes(tone(1.0, 16_000) * 60)
    size_bytes = 120 * minute.stat().st_size
    jail = Jail(seconds=60, memory_bytes=size_bytes)
    try:
        await jail.encode([minute] * 120, target, sample_rate_hz=16_000, coding="wav")
        await jail.encode_file(target, tmp_path / "flac", coding="flac")
        samples = await jail.decode(tmp_path / "flac", target, max_bytes=size_bytes)
        assert samples * 2 == target.stat().st_size == size_bytes
    finally:
        await jail.close()


async def test_a_rendering_is_given_no_more_time_than_it_may_have(
    jail: Jail, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(audiofiles.wav(600, rate_hz=RATE_HZ)[44:])
    with pytest.raises(JailFailed, match="took longer than"):
        await jail.encode([source], target, sample_rate_hz=RATE_HZ, coding="mp3", seconds=0.05)
    assert not target.exists()
    await jail.tune()  # and nobody else is the worse for it
