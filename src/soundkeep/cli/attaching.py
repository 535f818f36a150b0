"""`import DIR --attach`: gives each file to the track that is there already, by its id or its name.

A file with the track's sound makes good every copy that is missing or damaged, as uploading it
again would. One with another sound is refused: a track's audio never changes.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from soundkeep.cli.adding import OF_ONE_FILE
from soundkeep.cli.failures import sentence
from soundkeep.cli.options import Options
from soundkeep.cli.output import printable, say
from soundkeep.cli.service import MAX_PAGE, Document, Service, Which
from soundkeep.errors import BadInput
from soundkeep.intake.folder import By, Found, names_of, walk
from soundkeep.intake.recording import NewTrack

SETTLE_SECONDS = 60.0


async def attach_all(options: Options, directory: Path, by: By) -> bool:
    """Answers whether every file had a track, and every track a file."""
    async with options.service(every_copy=True) as service:
        attaching = _Attaching(service, await _tracks(service), by)
        for file in walk(directory):
            await attaching.take(file)
        await service.settle(SETTLE_SECONDS)
    attaching.say()
    return attaching.is_whole


class _Attaching:
    """The tracks by what files for them are called, and what became of the files."""

    def __init__(self, service: Service, tracks: dict[str, Document], by: By) -> None:
        self._service = service
        self._tracks = tracks
        self._called: dict[str, set[str]] = defaultdict(set)
        for track in tracks.values():
            for name in _names(track, by):
                self._called[name].add(track["id"])
        self._attached: set[str] = set()
        self._refused: dict[str, str] = {}

    async def take(self, file: Found) -> None:
        try:
            track = self._track(file)
            new = NewTrack(id=track["id"], owner=track["owner"], path=track["path"])
            await self._service.add_file(file.path, new)
            self._attached.add(track["id"])
        except OF_ONE_FILE as error:
            self._refused[file.name] = sentence(error)

    @property
    def is_whole(self) -> bool:
        return not self._refused and len(self._attached) == len(self._tracks)

    def say(self) -> None:
        left = [track for name, track in self._tracks.items() if name not in self._attached]
        say(
            f"{len(self._attached)} tracks have their file; {len(self._refused)} files refused;"
            f" {len(left)} tracks without a file"
        )
        for name, why in sorted(self._refused.items()):
            say(f"refused  {printable(name)}: {why}")
        for track in left:
            say(f"without  {track['id']}  {printable(track['path'])}")

    def _track(self, file: Found) -> Document:
        """Raises `BadInput` unless it is for one track."""
        if file.refusal:
            raise BadInput(file.refusal)
        ids = set[str]().union(*(self._called.get(name, ()) for name in names_of(file.name)))
        if not ids:
            raise BadInput("there is no track for it")
        if len(ids) > 1:
            raise BadInput(f"it could be for several tracks: {', '.join(sorted(ids))}")
        return self._tracks[ids.pop()]


def _names(track: Document, by: By) -> frozenset[str]:
    if by is By.ID:
        return frozenset({track["id"]})
    return names_of(track["path"]) | {track["title"]}


async def _tracks(service: Service) -> dict[str, Document]:
    """All of them, by id."""
    found: dict[str, Document] = {}
    cursor = None
    while True:
        page = await service.tracks(Which(), MAX_PAGE, cursor)
        found |= {track["id"]: track for track in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found
