"""Problem documents (RFC 9457): the one table from the error tree to HTTP status codes."""

from __future__ import annotations

import msgspec

from soundkeep import errors

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    402: "Payment required",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Content too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Unprocessable content",
    429: "Too many requests",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
    507: "Insufficient storage",
}

# The most specific first; the first that fits decides.
STATUSES: tuple[tuple[type[errors.SoundkeepError], int], ...] = (
    (errors.UploadTooLarge, 413),
    (errors.TooMuchSound, 413),
    (errors.NotAudio, 415),
    (errors.TypeNotAllowed, 415),
    (errors.DigestMismatch, 422),
    (errors.RangeNotSatisfiable, 416),
    (errors.BadInput, 400),
    (errors.RevisionChanged, 412),
    (errors.Conflict, 409),
    (errors.NoSuchTrack, 404),
    (errors.NoSuchSpeech, 404),
    (errors.NoTiming, 404),
    (errors.NoSuchStore, 404),
    (errors.NoSuchPlan, 404),
    (errors.NoSuchTake, 404),
    (errors.Unauthorized, 401),
    (errors.TooManyRequests, 429),
    (errors.DiskFull, 507),
    (errors.WriteFailed, 503),
    (errors.CatalogUnavailable, 503),
    (errors.JailFailed, 503),
    (errors.UrlUnavailable, 502),
    (errors.Unplayable, 503),
    (errors.OverBudget, 402),  # which no SDK tries again
    (errors.TakeRefused, 502),
    (errors.EngineRefused, 400),
    (errors.EngineOutOfCredit, 402),
    (errors.EngineUnauthorised, 502),
    (errors.EngineAnsweredBadly, 502),
    (errors.EngineError, 503),
    (errors.ShuttingDown, 503),
    (errors.StoreError, 503),
    (errors.SoundkeepError, 500),
)
RETRY_SECONDS = 5


def status_of(error: errors.SoundkeepError) -> int:
    """The status code for an error of ours."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def problem(status: int, code: str, detail: str) -> bytes:
    """A problem document. Without a `type` of its own it is about:blank, told apart by `code`."""
    title = TITLES.get(status, "Error")
    document = {"title": title, "status": status, "code": code, "detail": detail}
    return msgspec.json.encode({"type": "about:blank", **document})


def headers_of(status: int) -> dict[str, str]:
    """What a refusal carries besides its document."""
    if status == 401:
        return {"WWW-Authenticate": 'Bearer realm="soundkeep"'}
    return {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
