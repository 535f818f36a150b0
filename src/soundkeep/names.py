"""What people name their tracks by: ids, owners, paths, titles and metadata, parsed at the edge.

What can be no name of ours is refused here in words, so that nothing inside looks again.
"""

from __future__ import annotations

import math
import re
import secrets
import time
import unicodedata
from typing import Any

from soundkeep.errors import BadId, BadInput, BadMetadata, BadPath

MAX_PATH_BYTES = 900  # leaves room for an owner and a prefix in a key of 1,024 bytes
MAX_TITLE_CHARS = 500
MAX_METADATA_DEPTH = 32

DEFAULT_OWNER = "admin"

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
_OWNER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._@-]{0,63}\Z")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_UNPRINTABLE = {"Cc", "Cs", "Co", "Cn"}
_REORDERING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def new_track_id() -> str:
    """An id that sorts by time: 48 bits of milliseconds, 80 random bits, Crockford's base 32."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def track_id(text: str) -> str:
    """A chosen id. Raises `BadId`."""
    if not _ID.match(text):
        raise BadId(
            "a track id has 1 to 128 of A-Z a-z 0-9 . _ - and does not begin with a full stop"
        )
    return text


def owner_name(text: str) -> str:
    """An owner's name. Raises `BadInput`."""
    if not _OWNER.match(text):
        raise BadInput("an owner's name has 1 to 64 of A-Z a-z 0-9 . _ @ - and begins plainly")
    return text


def track_path(text: str) -> str:
    """A path in Unicode NFC, relative, with no segment that is empty or points anywhere else.

    Raises `BadPath`. NFC, because two spellings of one name would be two tracks.
    """
    path = unicodedata.normalize("NFC", _encodable(text, BadPath, "a path"))
    if not path or len(path.encode()) > MAX_PATH_BYTES:
        raise BadPath(f"a path has 1 to {MAX_PATH_BYTES} bytes of UTF-8, not {len(path.encode())}")
    if "\\" in path or _REORDERING & set(path) or _unprintable(path):
        raise BadPath("a path holds no backslash, control or text-direction characters")
    for segment in path.split("/"):
        if segment.strip() != segment or segment in ("", ".", "..") or len(segment.encode()) > 255:
            raise BadPath(
                "a path's segments are not empty, '.', '..', over 255 bytes or edged with spaces"
            )
    return path


def title_text(text: str) -> str:
    """A title in NFC on one line. Raises `BadInput`."""
    title = unicodedata.normalize("NFC", _encodable(text, BadInput, "a title")).strip()
    if len(title) > MAX_TITLE_CHARS:
        raise BadInput(f"a title has at most {MAX_TITLE_CHARS} characters, not {len(title)}")
    if _unprintable(title):
        raise BadInput("a title holds no control characters")
    return title


def metadata_object(value: object) -> dict[str, Any]:
    """A JSON object of the application's own; the field `soundkeep` is ours in sidecars.

    Raises `BadMetadata`.
    """
    if not isinstance(value, dict):
        raise BadMetadata("metadata is a JSON object")
    if "soundkeep" in value:
        raise BadMetadata("metadata has no field 'soundkeep': sidecars keep their own data there")
    check_json(value, "metadata")
    return value


def check_json(value: object, what: str, depth: int = MAX_METADATA_DEPTH) -> None:
    """Raises `BadMetadata` for what neither database can keep: NUL, lone surrogates, NaN, deep
    nesting. `what` is its name in messages."""
    if depth == 0:
        raise BadMetadata(f"{what} is nested deeper than {MAX_METADATA_DEPTH}")
    if isinstance(value, str):
        if "\x00" in _encodable(value, BadMetadata, what):
            raise BadMetadata(f"{what} holds no NUL characters")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadMetadata(f"{what} holds no NaN and no infinity")
    elif isinstance(value, dict):
        for name, item in value.items():
            check_json(name, what, depth)
            check_json(item, what, depth - 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, what, depth - 1)


def _encodable(text: str, error: type[BadInput], what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise error(f"{what} must be valid Unicode") from None
    return text


def _unprintable(text: str) -> bool:
    return any(unicodedata.category(char) in _UNPRINTABLE for char in text)
