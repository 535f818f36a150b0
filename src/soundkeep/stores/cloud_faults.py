"""What obstore's errors mean: one error of ours for each, in one clear line.

Most are a `GenericError`, whose text tells the HTTP status and what was the matter with the
connection. Nothing of that text is repeated, since it may hold a signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore import exceptions

from soundkeep.errors import (
    Misconfigured,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    TooLarge,
    Truncated,
    Unavailable,
    Unsupported,
)
from soundkeep.stores.http_service import Meaning

NO_BUCKET: Meaning = Misconfigured, "there is no such bucket, or these credentials may not see it"
DENIED: Meaning = PermissionDenied, "the credentials are wrong, or do not allow this"
LATE: Meaning = TimedOut, "no answer in time"
FULL: Meaning = QuotaExceeded, "the store has no room left"

BY_KIND: dict[type[Exception], Meaning] = {
    exceptions.PermissionDeniedError: DENIED,
    exceptions.UnauthenticatedError: DENIED,
    exceptions.NotSupportedError: (Unsupported, "the store cannot do this"),
    exceptions.InvalidPathError: (Unsupported, "the store takes no such name"),
}
BY_STATUS: dict[int, Meaning] = {
    301: NO_BUCKET,
    400: (Misconfigured, "the store does not understand the request"),
    401: DENIED,
    403: DENIED,
    404: NO_BUCKET,  # of a list
    408: LATE,
    413: (TooLarge, "the object is larger than the store takes"),
    416: (Truncated, "the range lies outside the object"),
    429: (Throttled, "the store asks us to slow down"),
    501: (Unsupported, "the store cannot do this"),
    507: FULL,
}
BY_WORDS: tuple[tuple[str, Meaning], ...] = (  # in the order in which they are looked for
    ("serverbusy", (Throttled, "the store asks us to slow down")),
    ("slowdown", (Throttled, "the store asks us to slow down")),
    ("quotaexceeded", FULL),
    ("kind: timeout", LATE),
    ("timed out", LATE),
    ("certificate", (Misconfigured, "its certificate is not trusted")),
    ("object was only", (Truncated, "the range lies outside the object")),
    ("kind: connect", (Unavailable, "cannot be reached")),
)

_STATUS = re.compile(r"status(?: code)?: (\d{3})")


class Absent(Exception):
    """404 for one object: it is not there, or its bucket is not."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns what obstore raises into errors of ours, which begin with `what`.

    Where nothing is looked for by its name, 404 is said of the bucket.
    """
    try:
        with looking(what):
            yield
    except Absent as error:
        raise _error(what, NO_BUCKET) from error


@contextmanager
def looking(what: str) -> Iterator[None]:
    """The same for what is asked of one object. Raises `Absent`, too."""
    try:
        yield
    except FileNotFoundError as error:
        if "ContainerNotFound" in str(error) or "NoSuchBucket" in str(error):
            raise _error(what, NO_BUCKET) from error
        raise Absent(what) from error
    except exceptions.BaseError as error:
        raise _error(what, _meaning(error)) from error


def _error(what: str, meaning: Meaning) -> StoreError:
    kind, text = meaning
    return kind(f"{what}: {text}")


def _meaning(error: Exception) -> Meaning:
    if type(error) in BY_KIND:
        return BY_KIND[type(error)]
    text = str(error).lower()
    for words, meaning in BY_WORDS:
        if words in text:
            return meaning
    status = _STATUS.search(text)
    usual: Meaning = Unavailable, "the store cannot do this now"
    return BY_STATUS.get(int(status[1]), usual) if status else usual
