"""What an answer that is no sound means: one error of ours for each, in one clear line.

The provider's own code decides where it is known, else the HTTP status. Nothing that a provider
said is repeated but its code and the name of the field it means: its sentences may hold our key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from soundkeep.errors import (
    EngineAnsweredBadly,
    EngineError,
    EngineOutOfCredit,
    EngineRefused,
    EngineThrottled,
    EngineUnauthorised,
    EngineUnavailable,
    TextTooLong,
    UnknownFormat,
    UnknownModel,
    UnknownVoice,
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Which error, what it says, and whether money may have been spent."""

    kind: type[EngineError]
    says: str
    charged: bool | None = False


REFUSED = Meaning(EngineRefused, "it does not accept the request")
BAD_KEY = Meaning(EngineUnauthorised, "it does not accept our API key for this")
NO_CREDIT = Meaning(EngineOutOfCredit, "the account has nothing left to spend")
NO_VOICE = Meaning(UnknownVoice, "it has no such voice")
NO_MODEL = Meaning(UnknownModel, "it has no such model for speech")
NO_FORMAT = Meaning(UnknownFormat, "it does not deliver this format")
TOO_LONG = Meaning(TextTooLong, "the text is too long for the model or the plan")
SLOWER = Meaning(EngineThrottled, "it asks us to slow down")
BUSY = Meaning(EngineUnavailable, "it cannot serve now")  # it did not begin
BROKEN = Meaning(EngineUnavailable, "it failed", charged=None)
ELSEWHERE = Meaning(EngineAnsweredBadly, "it sends us elsewhere; base_url may be wrong")

BY_STATUS: dict[int, Meaning] = {
    401: BAD_KEY,
    402: NO_CREDIT,
    403: BAD_KEY,
    408: BROKEN,
    413: TOO_LONG,
    429: SLOWER,
    503: BUSY,
}  # all other 3xx lead elsewhere, 4xx are refusals, 5xx may have been paid for

BY_CODE: dict[str, Meaning] = {
    # ElevenLabs: detail.status or detail.code
    "quota_exceeded": NO_CREDIT,  # under 400 and 401
    "payment_required": NO_CREDIT,
    "invalid_api_key": BAD_KEY,
    "needs_authorization": BAD_KEY,
    "missing_permissions": BAD_KEY,
    "detected_unusual_activity": BAD_KEY,
    "voice_not_found": NO_VOICE,
    "voice_does_not_exist": NO_VOICE,
    "model_not_found": NO_MODEL,
    "invalid_model_id": NO_MODEL,
    "model_can_not_do_text_to_speech": NO_MODEL,
    "invalid_output_format": NO_FORMAT,
    "output_format_not_allowed": NO_FORMAT,
    "max_character_limit_exceeded": TOO_LONG,
    "text_too_long": TOO_LONG,
    "too_many_concurrent_requests": SLOWER,
    "concurrent_limit_exceeded": SLOWER,
    "rate_limit_exceeded": SLOWER,
    "system_busy": SLOWER,
    # OpenAI and servers like it: error.code, or detail.error in Kokoro-FastAPI
    "insufficient_quota": NO_CREDIT,  # under 429: waiting does not help
    "billing_hard_limit_reached": NO_CREDIT,
    "billing_not_active": NO_CREDIT,
    "invalid_voice": NO_VOICE,
    "invalid_model": NO_MODEL,
    "unsupported_model": NO_MODEL,
    "string_above_max_length": TOO_LONG,
}

_CODE = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer whose status is not 200."""

    status: int
    code: str = ""
    field: str = ""  # of the request, if the provider names one
    retry_after_seconds: float | None = None

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        """From an answer as it came; the body may be anything, or empty."""
        code, field = _code_and_field(_decoded(body))
        return cls(status, code, field, _seconds(headers.get("retry-after")))

    def error(self, name: str) -> EngineError:
        """As ours. `name` is the engine's."""
        meaning = BY_CODE.get(self.code) or BY_STATUS.get(self.status) or self._by_class()
        line = f"{name}: {meaning.says} ({self._said()})"
        if meaning.kind is EngineThrottled:
            return EngineThrottled(line, retry_after=self.retry_after_seconds, kind=self.code)
        error = meaning.kind(line, charged=meaning.charged)
        if isinstance(error, EngineUnavailable):
            error.retry_after = self.retry_after_seconds
        return error

    def _by_class(self) -> Meaning:
        return BROKEN if self.status >= 500 else ELSEWHERE if self.status < 400 else REFUSED

    def _said(self) -> str:
        field = f", about {self.field}" if self.field else ""
        return f"HTTP {self.status} {self.code}".strip() + field


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _code_and_field(body: Any) -> tuple[str, str]:
    """From the three shapes there are: a `detail` object, a `detail` list, an `error` object."""
    table = body if isinstance(body, dict) else {}
    said = table.get("detail", table.get("error"))
    if isinstance(said, list):  # FastAPI's 422
        first = said[0] if said and isinstance(said[0], dict) else {}
        place = first.get("loc")
        parts = [str(part) for part in place] if isinstance(place, list) else []
        return _word(first.get("type")), _word(".".join(parts))
    if not isinstance(said, dict):
        return _word(said), ""
    codes = (_word(said.get(name)) for name in ("status", "code", "error", "type"))
    known = [code for code in codes if code]
    best = next((code for code in known if code in BY_CODE), known[0] if known else "")
    return best, _word(said.get("param"))


def _word(value: Any) -> str:
    """A name, or nothing: what looks like a sentence is not repeated."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def _seconds(header: str | None) -> float | None:
    """Retry-After, in either of its forms (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
