"""How tests ask an engine, and what they ask it."""

from __future__ import annotations

from typing import Any

from soundkeep.errors import EngineError
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.interface import Engine
from soundkeep.testing.engine_contract import Heard, hear

TEXT = "Hello world, it is 3.5 km away. Then he went home, and nobody ever saw him again."


def asked(engine: Engine, model: str, voice: str, text: str = TEXT, **changes: Any) -> Asked:
    """The text at its usual speed in the master format, but for the changes."""
    given: dict[str, Any] = {"language": None, "speed": 1, "settings": {}}
    given |= {"format": engine.caps.master.name} | changes
    return Asked(engine.name, model, voice, text, **given)


async def fault(engine: Engine, what: Asked) -> EngineError:
    """The error that comes of it."""
    try:
        heard: Heard = await hear(engine, what)
    except EngineError as error:
        return error
    raise AssertionError(f"it was spoken: {heard.bill}")
