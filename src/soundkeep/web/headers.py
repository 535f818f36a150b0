"""The headers of sound: the same whichever store answers, and safe for any file name."""

from __future__ import annotations

import base64
from urllib.parse import quote

from soundkeep.model import Track

Headers = list[tuple[bytes, bytes]]

EXPOSED = b"Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest"
PUBLIC_CACHE = b"public, max-age=31536000, immutable"  # true: audio under an id never changes
PRIVATE_CACHE = b"private, no-cache"  # a browser may keep it, and asks each time whether it may
PREFLIGHT_SECONDS = b"86400"


def etag_of(track: Track) -> str:
    """A strong ETag: the digest of the bytes themselves."""
    return f'"{track.blob.digest.hex}"'


def sound_headers(track: Track) -> Headers:
    """What every answer about a track's sound carries, but for its length and range."""
    digest = base64.b64encode(track.blob.digest.raw)
    return [
        (b"etag", etag_of(track).encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", PUBLIC_CACHE if track.public else PRIVATE_CACHE),
        (b"content-disposition", disposition(track.path.rpartition("/")[2])),
        (b"repr-digest", b"sha-256=:" + digest + b":"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"sandbox"),
    ]


def disposition(name: str) -> bytes:
    """`inline` with the file's name, as RFC 6266 and RFC 8187 spell it for any name.

    The plain parameter keeps only harmless ASCII; the other has everything.
    """
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode("ascii")


def cors_headers(origin: bytes | None, allowed: frozenset[str]) -> Headers:
    """What lets a page elsewhere read the sound: nothing if its origin is not allowed."""
    if "*" in allowed:
        return [
            (b"access-control-allow-origin", b"*"),
            (b"access-control-expose-headers", EXPOSED),
        ]
    if origin is None or origin.decode("latin-1") not in allowed:
        return [(b"vary", b"Origin")]
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED),
        (b"vary", b"Origin"),
    ]


def preflight_headers() -> Headers:
    """What an OPTIONS request wants to know."""
    return [
        (b"access-control-allow-methods", b"GET, HEAD"),
        (b"access-control-allow-headers", b"Authorization, Range, If-Range, If-None-Match"),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]


def header_lines(headers: Headers) -> bytes:
    """As they go over the wire."""
    return b"".join(b"%b: %b\r\n" % field for field in headers)
