"""The names of what was said: keys that never change by accident.

A segment's key is the SHA-256 of the canonical JSON of what the engine is asked. Canonical is:
UTF-8, not ASCII with escapes, so that a kept request can be read; members sorted by name; no
white space; numbers quantised (`asked.py`); and the version of this form. A speech's key is made
in the same way of its segments' keys and the output format.

Whoever changes a byte of this form raises `FORM` and writes the migration that re-keys what is
kept; `tests/speech/golden_keys.json` notices everybody else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from soundkeep.speech.asked import JSON, Asked

FORM = 1


def canonical(asked: Asked) -> bytes:
    """The one way to write down what an engine is asked."""
    return _written(
        {
            "form": FORM,
            "engine": asked.engine,
            "model": asked.model,
            "voice": asked.voice,
            "text": asked.text,
            "language": asked.language,
            "speed": asked.speed,
            "settings": asked.settings,
            "format": asked.format,
            **({} if asked.owner is None else {"owner": asked.owner}),
        }
    )


def asked_of(request: str) -> Asked:
    """What an engine is asked, by what `canonical` wrote down."""
    fields = json.loads(request)
    assert fields.pop("form") == FORM, "a kept request is of this form: migrations see to that"
    return Asked(**fields)


def segment_key(asked: Asked) -> str:
    """The name of one segment as it was asked for: 64 hex digits."""
    return hashlib.sha256(canonical(asked)).hexdigest()


def speech_key(segment_keys: Sequence[str], format: str) -> str:
    """The name of a speech in an output format: 64 hex digits."""
    form: Mapping[str, JSON] = {"form": FORM, "format": format, "segments": list(segment_keys)}
    return hashlib.sha256(_written(form)).hexdigest()


def _written(form: Mapping[str, JSON]) -> bytes:
    return json.dumps(
        form, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()
