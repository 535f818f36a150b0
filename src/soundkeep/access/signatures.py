"""Signed requests: who knows the secret sent this body, and just now.

The signature is `sha256=` and the HMAC-SHA256, in hex, of the time in seconds, a full stop and the
body. A request that is older than the window, or from the future, is refused whatever its
signature: one that somebody recorded is of no use later. (What hooks ask for may be repeated
without harm.)
"""

from __future__ import annotations

import hashlib
import hmac

WINDOW_SECONDS = 300
SCHEME = "sha256="


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What the sender puts into its header."""
    signed = timestamp.encode("latin-1", "replace") + b"." + body
    return SCHEME + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def is_signed(secret: str, timestamp: str, given: str, body: bytes, now: float) -> bool:
    """Whether the signature fits, in a time that does not depend on where it differs."""
    fits = hmac.compare_digest(
        signature(secret, timestamp, body).encode(), given.encode("latin-1", "replace")
    )
    is_recent = timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12
    return fits and is_recent and abs(now - int(timestamp)) <= WINDOW_SECONDS
