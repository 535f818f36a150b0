"""What becomes of 61 real files, many malformed on purpose: taken, or refused and why.

Each line was judged by looking at the file. Refused as undecodable are FLAC files whose metadata or
frames are broken beyond their first frame header, and an MP3 of three frames that FFmpeg's demuxer
will not open.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soundkeep.audio.jail import Jail
from soundkeep.errors import SoundkeepError
from soundkeep.intake.examine import Examiner
from soundkeep.settings.house import AUDIO_TYPES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("REAL_AUDIO", ROOT.parent / "shared" / "audio"))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the folder of real files is not here")

# Taken: type and seconds. Refused: the error's code and words of its sentence.
EXPECTED: dict[str, tuple[str, float | str]] = {
    "106-invalid-streaminfo.flac": ("not_audio", "it cannot be decoded"),
    "106-short-picture-block-size.flac": ("not_audio", "it cannot be decoded"),
    "11k-1ch-2s-silence.aif": ("type_not_allowed", "content is aiff;"),
    "48k-2ch-s16-silence.aif": ("type_not_allowed", "content is aiff;"),
    "52-overwritten-metadata.flac": ("not_audio", "not one frame of it can be decoded"),
    "52-too-short-block-size.flac": ("flac", 0.52),
    "8k-1ch-1s-silence.aif": ("type_not_allowed", "content is aiff;"),
    "8k-1ch-3.5s-silence.aif": ("type_not_allowed", "content is aiff;"),
    "8k-4ch-1s-silence.aif": ("type_not_allowed", "content is aiff;"),
    "97-unknown-23-update.mp3": ("mp3", 3.74),
    "README.md": ("not_audio", "no audio that we know"),
    "adif.aac": ("type_not_allowed", "content is adif;"),
    "alac.m4a": ("m4a", 3.68),
    "almostempty.mpc": ("not_audio", "no audio that we know"),
    "apev2-lyricsv2.mp3": ("mp3", 1.96),
    "audacious-trailing-id32-apev2.mp3": ("mp3", 1.08),
    "audacious-trailing-id32-id31.mp3": ("mp3", 3.74),
    "bad-POPM-frame.mp3": ("not_audio", "it cannot be decoded"),
    "bad-TYER-frame.mp3": ("mp3", 0.94),
    "bad-xing.mp3": ("mp3", 0.13),
    "click.mpc": ("type_not_allowed", "content is musepack;"),
    "covr-with-name.m4a": ("m4a", 3.71),
    "dsd.wv": ("type_not_allowed", "content is wavpack;"),
    "empty.aac": ("aac", 3.72),
    "empty.ogg": ("ogg", 3.68),
    "empty.spx": ("type_not_allowed", "content is speex;"),
    "example.opus": ("opus", 11.35),
    "flac_application.flac": ("not_audio", "not one frame of it can be decoded"),
    "has-tags.m4a": ("m4a", 3.71),
    "id3v1v2-combined.mp3": ("mp3", 0.16),
    "id3v22-test.mp3": ("mp3", 0.16),
    "lame-peak.mp3": ("mp3", 0.1),
    "lame.mp3": ("mp3", 0.1),
    "lame397v9short.mp3": ("mp3", 0.07),
    "mac-390-hdr.ape": ("type_not_allowed", "content is ape;"),
    "mac-396.ape": ("type_not_allowed", "content is ape;"),
    "mac-399.ape": ("type_not_allowed", "content is ape;"),
    "multipage-setup.ogg": ("ogg", 4.03),
    "multipagecomment.ogg": ("ogg", 3.68),
    "multiplexed.spx": ("type_not_allowed", "content is speex;"),
    "no-tags.flac": ("flac", 3.68),
    "no-tags.m4a": ("m4a", 3.71),
    "no-tags.mp3": ("mp3", 0.1),
    "no_length.wv": ("type_not_allowed", "content is wavpack;"),
    "ooming-header.flac": ("not_audio", "it cannot be decoded"),
    "silence-2s-PCM-16000-08-ID3v23.wav": ("wav", 2.0),
    "silence-2s-PCM-16000-08-notags.wav": ("wav", 2.0),
    "silence-2s-PCM-44100-16-ID3v23.wav": ("wav", 2.0),
    "silence-44-s-mpeg2.mp3": ("mp3", 3.77),
    "silence-44-s-mpeg25.mp3": ("mp3", 3.84),
    "silence-44-s-v1.mp3": ("mp3", 3.74),
    "silence-44-s.flac": ("flac", 3.68),
    "silence-44-s.mp3": ("mp3", 3.74),
    "silence-44-s.wv": ("type_not_allowed", "content is wavpack;"),
    "sv4_header.mpc": ("not_audio", "no audio that we know"),
    "sv5_header.mpc": ("not_audio", "no audio that we know"),
    "sv8_header.mpc": ("type_not_allowed", "content is musepack;"),
    "too-short.mp3": ("not_audio", "mp3: it cannot be decoded"),
    "variable-block.flac": ("flac", 0.93),
    "vbri.mp3": ("mp3", 0.44),
    "with-id3.aif": ("type_not_allowed", "content is aiff;"),
    "xing.mp3": ("mp3", 2.06),
}


def test_every_file_of_the_folder_is_in_the_table() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(EXPECTED)


async def test_real_files_are_taken_or_refused_as_they_should_be() -> None:
    jail = Jail(seconds=20, memory_bytes=1024 * 1024 * 1024)
    examiner = Examiner(jail, AUDIO_TYPES)
    try:
        wrong = {
            name: found
            for name, expected in EXPECTED.items()
            if not agrees(found := await outcome(examiner, FOLDER / name), expected)
        }
    finally:
        await jail.close()
    assert not wrong


async def outcome(examiner: Examiner, file: Path) -> tuple[str, float | str]:
    try:
        sound = await examiner.examine(file)
    except SoundkeepError as error:
        return error.code, str(error)
    return sound.extension, round(sound.duration_seconds, 2)


def agrees(found: tuple[str, float | str], expected: tuple[str, float | str]) -> bool:
    """The same type and seconds; of a refusal the code, and words within its sentence."""
    if isinstance(expected[1], str):
        return found[0] == expected[0] and expected[1] in str(found[1])
    return found == expected
