"""What an engine is asked for one segment, exactly: all that changes the sound, and nothing else.

The text is normalised and the numbers are quantised before one is made (`text`, `keys`), so that
equal sounds are equal values. `keys` turns it into the segment's key; an engine sends it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, slots=True)
class Asked:
    """One segment, as its engine is asked for it."""

    engine: str  # the name it has in the settings
    model: str
    voice: str
    text: str
    language: str | None = None  # a BCP 47 tag, where the engine takes one
    speed: float = 1.0
    settings: Mapping[str, JSON] = field(default_factory=dict)  # every other field, by its own name
    format: str = ""  # by the engine's own name for it
    owner: str | None = None  # only where owners do not share
