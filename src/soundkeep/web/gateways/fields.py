"""What both protocols ask of a request before they look at what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from soundkeep.errors import BadSpeech
from soundkeep.web.exchange import Exchange
from soundkeep.web.gateways.faults import MethodNotAllowed


def only(exchange: Exchange, method: str) -> None:
    """Raises `MethodNotAllowed` for any other."""
    if exchange.method != method:
        raise MethodNotAllowed(f"{exchange.path} takes {method}, not {exchange.method}")


def decoded(body: bytes) -> dict[str, Any]:
    """The fields of a JSON object. Raises `BadSpeech`."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadSpeech("the body of the request is not a JSON object") from None


def text(given: Mapping[str, Any], name: str) -> str | None:
    """A field that is a text or absent. Raises `BadSpeech`."""
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise BadSpeech(f"{name} is a text")
    return value
