"""Output formats: every name is understood, or refused before anything is spoken."""

from __future__ import annotations

import pytest

from soundkeep.errors import UnknownFormat
from soundkeep.speech.engines.interface import AudioFormat
from soundkeep.speech.outputs import Output, output_of

MASTER = AudioFormat("mp3_44100_128", "mp3", "audio/mpeg", "mp3", 44100, 128_000)


@pytest.mark.parametrize("name", ["mp3_44100_128", "mp3"])
def test_the_masters_own_name_and_its_bare_coding_pass_through(name: str) -> None:
    output = output_of(name, MASTER)
    assert output.passes_through
    assert output.name == "mp3_44100_128"


def test_another_rate_of_the_same_coding_is_encoded() -> None:
    expected = Output("mp3_22050_32", "mp3", "audio/mpeg", "mp3", 22050, 32_000)
    assert output_of("mp3_22050_32", MASTER) == expected


def test_raw_samples_are_a_wav_of_which_the_head_is_not_sent() -> None:
    output = output_of("pcm_16000", MASTER)
    assert (output.name, output.coding, output.head_bytes) == ("wav_16000", "wav", 44)
    assert output.media_type == "audio/pcm"
    assert output_of("pcm", MASTER).sample_rate_hz == 24_000


@pytest.mark.parametrize(
    "name",
    ["vorbis", "ulaw_8000", "mp3_44101", "opus_44100", "wav_16000_64", "mp3_44100_7", "wav_96000",
     "mp3_", "mp3_44100_128_1", "mp3_\u0663"],
)  # fmt: skip
def test_what_no_encoder_can_make_is_refused(name: str) -> None:
    with pytest.raises(UnknownFormat):
        output_of(name, MASTER)
