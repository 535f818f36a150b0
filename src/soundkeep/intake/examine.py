"""Finds out what an upload is, by its content and never by the client's word."""

from __future__ import annotations

from pathlib import Path

from soundkeep.audio.jail import Jail
from soundkeep.audio.sniff import sniff_file
from soundkeep.catalog import blobs
from soundkeep.catalog.database import Catalog
from soundkeep.errors import NotAudio, TypeNotAllowed
from soundkeep.intake.spool import Landed
from soundkeep.model import Blob, Sound


class Examiner:
    """Sniffs, applies the list of allowed types, and probes in the jail."""

    def __init__(self, jail: Jail, types: tuple[str, ...]) -> None:
        self._jail = jail
        self._types = types

    async def examine(self, path: Path) -> Sound:
        """Raises `NotAudio`, `TypeNotAllowed`, `JailFailed`."""
        format_ = sniff_file(path)  # just written, so in memory: a hop to a thread costs more
        if format_ is None:
            raise NotAudio("the content is no audio that we know")
        if format_.name not in self._types:
            raise TypeNotAllowed(
                f"the content is {format_.name}; taken are {', '.join(self._types)} (limits.types)"
            )
        return await self._jail.probe(path, format_)


async def known_or_examined(catalog: Catalog, examiner: Examiner, landed: Landed) -> Blob:
    """What landed, examined unless these very bytes were before.

    Raises what `examine` raises, and `CatalogUnavailable`.
    """
    fingerprint = landed.fingerprint
    known = await catalog.read(blobs.find, fingerprint.digest)
    if known is not None:
        return known
    sound = await examiner.examine(landed.path)
    return Blob(fingerprint.digest, fingerprint.size_bytes, fingerprint.chunk_hashes, sound)
