"""What is said of a track in words, over HTTP or on the command line, parsed before any byte."""

from __future__ import annotations

from typing import Any

import msgspec

from soundkeep.errors import BadInput, BadMetadata
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Visibility
from soundkeep.names import (
    DEFAULT_OWNER,
    metadata_object,
    owner_name,
    title_text,
    track_id,
    track_path,
)

FIELDS = ("path", "title", "visibility", "id", "owner", "metadata", "replace")


def new_track(fields: dict[str, str]) -> NewTrack:
    """Empty fields are as good as none. Raises `BadPath`, `BadId`, `BadMetadata`, `BadInput`."""
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise BadInput(f"there is no field {unknown[0]!r}; there are {', '.join(FIELDS)}")
    given = {name: value for name, value in fields.items() if value != ""}
    return NewTrack(
        id=track_id(given["id"]) if "id" in given else None,
        owner=owner_name(given.get("owner", DEFAULT_OWNER)),
        path=track_path(given["path"]) if "path" in given else None,
        title=title_text(given["title"]) if "title" in given else None,
        visibility=visibility_word(given.get("visibility", Visibility.PRIVATE)),
        metadata=_metadata(given.get("metadata", "{}")),
        replace=_truth(given.get("replace", "false")),
    )


def visibility_word(value: object) -> Visibility:
    """Raises `BadInput`."""
    if value not in list(Visibility):
        raise BadInput("visibility is 'private' or 'public'")
    return Visibility(str(value))


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise BadInput("replace is 'true' or 'false'")
    return text.lower() in ("true", "1")


def _metadata(text: str) -> dict[str, Any]:
    try:
        return metadata_object(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        raise BadMetadata("metadata is not valid JSON") from None
