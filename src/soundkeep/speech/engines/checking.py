"""What every engine refuses before anybody is asked to speak."""

from __future__ import annotations

from soundkeep.errors import EngineRefused, TextTooLong, UnknownFormat, UnknownModel, UnknownVoice
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.interface import Engine, Model, Voice
from soundkeep.speech.engines.listing import Listing

SHOWN_CHARS = 60  # as much of a wrong name is repeated


async def check_asked(
    engine: Engine, asked: Asked, voices: Listing[Voice], models: Listing[Model]
) -> None:
    """Raises `EngineRefused`, in the kind that fits best, unless all is known and fits."""
    name = engine.name
    if not asked.text.strip():
        raise EngineRefused(f"{name}: there is no text")
    if engine.caps.format(asked.format) is None:
        raise UnknownFormat(f"{name} does not deliver the format {_shown(asked.format)}")
    if unknown := _unknown_fields(engine, asked):
        raise EngineRefused(f"{name} has no setting {_shown(unknown[0])}")
    model = await models.find(asked.model)
    if model is None:
        raise UnknownModel(f"{name} has no model {_shown(asked.model)}")
    if len(asked.text) > model.max_chars:
        size, most = len(asked.text), model.max_chars
        raise TextTooLong(f"{name}: {model.id} takes {most} characters at once, not {size}")
    if await voices.find(asked.voice) is None:
        raise UnknownVoice(f"{name} has no voice {_shown(asked.voice)}")


def _unknown_fields(engine: Engine, asked: Asked) -> list[str]:
    return [] if engine.caps.free_form else sorted(asked.settings.keys() - engine.caps.fields)


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…")
