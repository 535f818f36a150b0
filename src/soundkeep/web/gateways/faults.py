"""What went wrong, as both protocols need to know it before each says it in its own words.

The official SDKs try again by themselves after 408, 409, 429 and 5xx. Where another try may be
paid for, or surely fails, they are told not to: a retry of theirs never costs a second charge.
"""

from __future__ import annotations

from dataclasses import dataclass

from soundkeep import errors
from soundkeep.errors import SoundkeepError
from soundkeep.web.problems import RETRY_SECONDS, status_of

# Where a gateway's status is another than that of our own API.
STATUSES: tuple[tuple[type[SoundkeepError], int], ...] = (
    (errors.EngineThrottled, 429),
    (errors.UnknownModel, 404),
    (errors.DiskFull, 503),
)
# Nothing changes by asking again at once, or the next take has to be paid for too.
FINAL = (errors.TakeRefused, errors.EngineAnsweredBadly, errors.EngineUnauthorised)
ALIAS_HINT = "the setting speech.voices can name a voice that speaks instead"


class NoSuchRoute(SoundkeepError):
    """There is nothing here."""

    code = "not_found"


class MethodNotAllowed(SoundkeepError):
    """This path takes another method."""

    code = "method_not_allowed"


@dataclass(frozen=True, slots=True)
class Fault:
    """An error on its way to a client."""

    error: SoundkeepError
    status: int
    message: str
    may_retry: bool
    retry_after_seconds: int | None

    @classmethod
    def of(cls, error: SoundkeepError) -> Fault:
        """As the error itself says it."""
        status = _status(error)
        again = _may_retry(error, status)
        after = getattr(error, "retry_after", None) or RETRY_SECONDS
        return cls(error, status, _message(error), again, max(1, round(after)) if again else None)


def _status(error: SoundkeepError) -> int:
    if isinstance(error, NoSuchRoute | MethodNotAllowed):
        return 404 if isinstance(error, NoSuchRoute) else 405
    return next((status for kind, status in STATUSES if isinstance(error, kind)), status_of(error))


def _may_retry(error: SoundkeepError, status: int) -> bool:
    surely_free = getattr(error, "charged", False) is False
    return surely_free and status in (429, 503) and not isinstance(error, FINAL)


def _message(error: SoundkeepError) -> str:
    hint = f"; {ALIAS_HINT}" if isinstance(error, errors.UnknownVoice) else ""
    return f"{error}{hint}"
