"""The judge: whether a take sounds like the text that was asked for, or has to be spoken again.

It cannot hear words. It refuses what no listener would take for speech of that length: silence,
noise, a tone, a sound that is damaged, breaks off or is in another coding than was asked for. A
take that is refused was paid for all the same, so every threshold lies far from what good speech
measures: `docs/decisions/0010-the-judge.md` has the figures.

The facts come out of the jail (`audio/judge.py`); the verdict is a pure function of them, the text
and the format.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from soundkeep.audio.formats import FORMATS
from soundkeep.audio.jail import Jail
from soundkeep.audio.jobs import Facts
from soundkeep.model import Sound
from soundkeep.speech.asked import Asked
from soundkeep.speech.calls import Take
from soundkeep.speech.engines.interface import AudioFormat
from soundkeep.speech.leading import Judge, Verdict

SILENT_DB = -50.0  # good speech: -15 to -25
SILENT_SECONDS = 0.02  # "A" at two and a half times the speed is heard for 0.05
CUT_OFF_DB = -18.0  # good speech ends at -39 or below; cut anywhere, three in four end above
NOISY_SHARE, NOISY_SECONDS = 0.4, 0.8  # good speech: up to 0.05, and 0.07 s of a sibilant
STEADY_SHARE = 0.4  # good speech: up to 0.03; a tone 0.95, a tone in beeps 0.45
CLIPPED_SHARE = 0.02  # good speech: up to 0.00001
MISSING_SECONDS, MISSING_SHARE = 0.25, 0.02  # of what the header promises; run-up and filling: 0.08

# Letters heard in a second, silences left out, at the usual speed. Good speech has up to 17.
FASTEST = 30.0
# Letters in a second, silences and all: 14 is usual.
SLOWEST = 6.0
SPARE_SECONDS = 4.0  # for a deep breath
TAG_SECONDS = 4.0  # a break, a laugh

# As what codecs call themselves; the others are free within their container.
CODECS = {"mp3": "mp3", "opus": "opus", "aac": "aac", "m4a": "aac", "flac": "flac", "ogg": "vorbis"}

_TAG = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
_SYLLABIC = {
    "CJK": 3.0,
    "HIRAGANA": 2.0,
    "KATAKANA": 2.0,
    "HANGUL": 2.0,
}  # letters for each, at least
SPELLED_OUT = 6.0  # letters that a digit, a sign or a foreign letter may become


def judging(jail: Jail) -> Judge:
    """The judge that measures in this jail. What it raises is `Jail.judge`'s."""

    async def judge(take: Take) -> Verdict:
        reason = amiss_in_form(take.sound, take.format) or amiss(
            await jail.judge(take.path), take.asked
        )
        return Verdict(accepted=not reason, reason=reason)

    return judge


def amiss_in_form(sound: Sound, asked: AudioFormat | None) -> str:
    """What is wrong with the coding, or nothing."""
    if asked is None or asked.coding not in FORMATS:
        return ""
    wanted = CODECS.get(asked.coding, sound.codec)
    if sound.extension == FORMATS[asked.coding].extension and sound.codec == wanted:
        return ""
    return f"it is {sound.codec} in {sound.media_type}, not {asked.coding}"


def amiss(facts: Facts, asked: Asked) -> str:
    """What is wrong with the sound, the gravest first, or nothing."""
    return next((reason for is_so, reason in _faults(facts, asked) if is_so), "")


def _faults(facts: Facts, asked: Asked) -> Iterator[tuple[bool, str]]:
    least, most = plausible_seconds(asked)
    missing = (facts.promised_seconds or 0.0) - facts.duration_seconds
    yield facts.level_db < SILENT_DB or facts.heard_seconds < SILENT_SECONDS, "it is silent"
    yield facts.damaged_packets > 0, f"{facts.damaged_packets} parts of it cannot be decoded"
    yield facts.lost_seconds > 0, f"{facts.lost_seconds:.2f} s are missing in its middle"
    yield (
        missing > max(MISSING_SECONDS, MISSING_SHARE * facts.duration_seconds),
        f"it promises {facts.promised_seconds or 0:.2f} s and has {facts.duration_seconds:.2f}",
    )
    yield (
        facts.noisy_share > NOISY_SHARE or facts.noisy_seconds > NOISY_SECONDS,
        f"{facts.noisy_share:.0%} of it is noise, {facts.noisy_seconds:.1f} s in one piece",
    )
    yield facts.steady_share > STEADY_SHARE, f"{facts.steady_share:.0%} of it is a tone"
    yield facts.clipped_share > CLIPPED_SHARE, f"{facts.clipped_share:.1%} of it is clipped"
    yield (
        facts.heard_seconds < least,
        f"{facts.heard_seconds:.2f} s are heard, and the text needs {least:.2f} at least",
    )
    yield (
        facts.duration_seconds > most,
        f"it lasts {facts.duration_seconds:.1f} s, and the text {most:.1f} at most",
    )
    yield facts.end_db > CUT_OFF_DB, "it is cut off at its end"


# --- how long a text may take ---------------------------------------------------------------


def plausible_seconds(asked: Asked) -> tuple[float, float]:
    """The least that must be heard of it, and the longest that it may last."""
    speed = _speed(asked)
    # What stands in brackets is left unsaid by one engine and read out by another.
    words = _TAG.sub(" ", asked.text)
    least = sum(_letters_at_least(char) for char in words) / FASTEST / max(1.0, speed)
    spelled = sum(_letters_at_most(char) for char in asked.text) / SLOWEST / min(1.0, speed)
    return least, SPARE_SECONDS + TAG_SECONDS * len(_TAG.findall(asked.text)) + spelled


def _speed(asked: Asked) -> float:
    """An engine may have a field for it instead."""
    setting = asked.settings.get("speed")
    return asked.speed * (setting if isinstance(setting, int | float) and setting > 0 else 1.0)


def _letters_at_least(char: str) -> float:
    """What is no letter and no digit may be left unsaid."""
    if char.isdecimal():
        return 1.0
    if not char.isalpha():
        return 0.0
    return 1.0 if char.isascii() else _SYLLABIC.get(_script(char), 1.0)


def _letters_at_most(char: str) -> float:
    """A voice says the name of what it cannot read."""
    if char.isspace():
        return 1.0
    if char.isalpha() and char.islower() and _script(char) == "LATIN":
        return 1.0
    return SPELLED_OUT


def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]
