"""The sample tune is a short MP3 of our own, made in the jail and the same each time."""

from __future__ import annotations

import array
import io
from pathlib import Path

import av
import pytest

from soundkeep.audio.jail import Jail
from soundkeep.audio.sniff import sniff_file


@pytest.fixture
async def tune(jail: Jail) -> bytes:
    return await jail.tune()


def samples_of(sound: bytes) -> array.array[float]:
    with av.open(io.BytesIO(sound), format="mp3") as container:
        frames = [bytes(frame.planes[0]) for frame in container.decode(audio=0)]
    return array.array("f", b"".join(frames))


async def test_the_tune_is_a_short_mp3_in_mono(jail: Jail, tune: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tune"
    path.write_bytes(tune)
    format_ = sniff_file(path)
    assert format_
    sound = await jail.probe(path, format_)
    assert (sound.codec, sound.channels, sound.bit_rate) == ("mp3", 1, 96_000)
    assert 8 <= sound.duration_seconds <= 12
    assert sound.tags["title"] == "Hello from Soundkeep"


async def test_the_tune_can_be_heard_and_does_not_clip(tune: bytes) -> None:
    loudest = max(map(abs, samples_of(tune)))
    assert 0.5 < loudest < 0.99


async def test_the_tune_begins_and_ends_softly(tune: bytes) -> None:
    samples = samples_of(tune)
    assert max(map(abs, samples[:400])) < 0.05
    assert max(map(abs, samples[-400:])) < 0.05


async def test_the_tune_is_the_same_bytes_each_time(jail: Jail, tune: bytes) -> None:
    assert await jail.tune() == tune
