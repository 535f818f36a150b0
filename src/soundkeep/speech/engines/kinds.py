"""The kinds of engine, as one visible table, and how each is made from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from soundkeep.audio.formats import FORMATS
from soundkeep.errors import SettingsError
from soundkeep.settings.secrets import reveal
from soundkeep.settings.speech import (
    ElevenLabsEngineSettings,
    EngineSettings,
    EspeakEngineSettings,
    OpenAIEngineSettings,
)
from soundkeep.speech.engines import espeak as offline
from soundkeep.speech.engines.interface import AudioFormat, Engine, Price


def make_engine(name: str, settings: EngineSettings) -> Engine:
    """The engine as set. It starts nothing and asks nobody until it is used.

    Raises `SettingsError` for a format that the kind does not have, or a key that is not there.
    """
    return KINDS[settings.kind](name, settings)


def espeak(name: str, settings: EspeakEngineSettings) -> Engine:
    return offline.EspeakEngine(
        name,
        master=_master(name, settings.format, offline.FORMATS, offline.WAV.name),
        workers=settings.concurrency,
        seconds=settings.sentence_seconds,
    )


def elevenlabs(name: str, settings: ElevenLabsEngineSettings) -> Engine:
    from soundkeep.speech.engines import elevenlabs as eleven  # noqa: PLC0415 - see `_patience`

    return eleven.ElevenLabsEngine(
        name,
        reveal(settings.api_key),
        base_url=settings.base_url or eleven.BASE_URL,
        master=_master(name, settings.format, eleven.FORMATS, eleven.MASTER),
        timestamps=settings.timestamps,
        **_common(settings),
    )


def openai(name: str, settings: OpenAIEngineSettings) -> Engine:
    from soundkeep.speech.engines import openai as compatible  # noqa: PLC0415 - see `_patience`

    return compatible.OpenAIEngine(
        name,
        reveal(settings.api_key) if settings.api_key else None,
        base_url=settings.base_url or compatible.BASE_URL,
        master=_master(name, settings.format, compatible.FORMATS, compatible.MASTER),
        voices=settings.voices,
        models=settings.models,
        max_chars=settings.max_chars,
        captions=settings.captions,
        **_common(settings),
    )


KINDS: dict[str, Callable[[str, Any], Engine]] = {
    "espeak": espeak,
    "elevenlabs": elevenlabs,
    "openai": openai,
}


def _common(settings: ElevenLabsEngineSettings | OpenAIEngineSettings) -> dict[str, Any]:
    price = None if settings.price is None else Price(settings.price, settings.currency)
    return {
        "model": settings.model,
        "price": price,
        "concurrency": settings.concurrency,
        "patience": _patience(settings),
        "list_seconds": settings.list_seconds,
    }


def _patience(settings: ElevenLabsEngineSettings | OpenAIEngineSettings) -> Any:
    """An HTTP client takes 400 ms to import, which those who speak offline do without."""
    from soundkeep.speech.engines.http import Patience  # noqa: PLC0415

    return Patience(
        connect_seconds=settings.connect_seconds,
        first_byte_seconds=settings.first_byte_seconds,
        between_bytes_seconds=settings.between_bytes_seconds,
        tries=settings.tries,
        wait_seconds=settings.wait_seconds,
    )


def _master(name: str, given: str | None, known: Mapping[str, AudioFormat], usual: str) -> str:
    """What is kept must be known for a sound by itself, which bare samples are not."""
    kept = [each.name for each in known.values() if each.coding in FORMATS]
    if given is not None and given not in kept:
        raise SettingsError(f"speech.engines.{name}.format: one of {', '.join(kept)}")
    return given or usual
