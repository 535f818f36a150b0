"""What an engine is asked for one segment: all that can change the sound, and nothing else.

What is asked and what is keyed are one value, so no field can reach an engine without being part
of the key. Numbers are quantised as the value is made: `1`, `1.0` and `1.00` are asked, and paid
for, as one. `keys.py` makes the key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from soundkeep.errors import BadInput

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

DECIMALS = 6  # finer than any engine's control, coarser than the noise of binary fractions
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """One segment as an engine is asked for it: its `text` is normalised, its numbers quantised.

    A setting of `None` is one that was not given: it is left out. `owner` is set only where
    owners do not share what was said (`speech.share = owner`).

    Raises `BadInput` for what JSON cannot hold.
    """

    engine: str
    model: str
    voice: str
    text: str
    language: str | None
    speed: float
    settings: Mapping[str, JSON]
    format: str
    owner: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "speed", quantised_number(self.speed))
        object.__setattr__(self, "settings", quantised(self.settings))


def quantised(value: JSON, depth: int = MAX_DEPTH) -> JSON:
    """The same value in its one form: numbers quantised, members that are `None` left out.

    Raises `BadInput` for NaN, infinities, text that is not Unicode and nesting beyond `depth`.
    """
    if depth < 0:
        raise BadInput(f"settings are nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, bool) or value is None:
        return value  # `True` is an `int` to Python, and another value to every engine
    if isinstance(value, int | float):
        return quantised_number(value)
    if isinstance(value, Mapping):
        return {
            _unicode(name): quantised(member, depth - 1)
            for name, member in value.items()
            if member is not None
        }
    return [quantised(item, depth - 1) for item in value]


def quantised_number(number: float) -> float:
    """The number to six decimals, and as an `int` when it is whole. Raises `BadInput`."""
    if isinstance(number, int):
        return int(number)
    if not math.isfinite(number):
        raise BadInput("a number is neither infinite nor NaN")
    rounded = round(number, DECIMALS)
    return int(rounded) if rounded.is_integer() else rounded


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput("text in settings must be valid Unicode") from None
    return text
