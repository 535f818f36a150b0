"""`import`: keeps every file of a directory tree, and can be run again at any time.

A file is skipped when its path is there already with the same bytes: the sizes are compared, and
only then is the file hashed. So an import that was interrupted, even by kill -9, goes on where it
was. A fixed number of files is in flight and nothing is remembered of a file that went well, so
memory does not grow with the tree.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from soundkeep.cli import attaching, tables
from soundkeep.cli.adding import OF_ONE_FILE
from soundkeep.cli.failures import FAILED, sentence
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import byte_progress, complain, printable, say, size
from soundkeep.cli.service import Document, Service
from soundkeep.errors import SettingsError
from soundkeep.intake.folder import By, Found, walk
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Visibility
from soundkeep.names import DEFAULT_OWNER, owner_name, track_path

SETTLE_SECONDS = 60.0  # without any progress, for copies that the acknowledgements left over
LOOK_AGAIN_SECONDS = 0.5


def import_(
    context: typer.Context,
    directory: Annotated[Path | None, typer.Argument(help="The directory tree.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=100, help="Files in flight at once.")] = 10,
    pause: Annotated[
        float, typer.Option(min=0, help="Seconds each place rests after a file.")
    ] = 0.0,
    prefix: Annotated[str, typer.Option(help="Goes before every path.")] = "",
    visibility: Annotated[
        Visibility, typer.Option(help="Who may hear them without a key.")
    ] = Visibility.PRIVATE,
    owner: Annotated[str, typer.Option(help="Whose they are.")] = DEFAULT_OWNER,
    csv: Annotated[Path | None, typer.Option(help="A table of speech: a CSV file.")] = None,
    database: Annotated[str | None, typer.Option(help="Or a database's URL.")] = None,
    table: Annotated[str | None, typer.Option(help="And the name of its table.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="What columns mean: column=field,…")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(help="The folder under which the table's paths lie.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Who spoke it, if no column says.")] = None,
    model: Annotated[str | None, typer.Option(help="With what, if no column says.")] = None,
    voice: Annotated[str | None, typer.Option(help="In which voice, likewise.")] = None,
    collection: Annotated[str | None, typer.Option(help="In which collection, likewise.")] = None,
    claims: Annotated[
        list[str] | None,
        typer.Option(help="Look where a table says that copies are: their name=our store,…"),
    ] = None,
    attach: Annotated[
        By | None,
        typer.Option(help="Give files to tracks, or lines, that are there: by id or by name."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a table: only count what would be taken.")
    ] = False,
) -> None:
    """Keep every audio file of a directory tree, or what a table of speech names; run it again to
    go on."""
    options = options_of(context)
    if sum(source is not None for source in (directory, csv, database)) != 1:
        raise SettingsError("name one source: a directory, --csv FILE, or --database URL --table T")
    if directory is None:
        found = tables.opened(csv, database, table)
        defaults = {
            "owner": owner,
            "engine": engine,
            "model": model,
            "voice": voice,
            "collection": collection,
        }
        folder = files or (csv.parent if csv is not None else Path())
        reading = tables.Reading(
            found,
            map_ or [],
            tables.given(defaults),
            folder,
            dry_run,
            visibility,
            claims or (),
            attach,
        )
        taking = tables.take_all(options.local_settings("import --csv"), reading, batch)
        if not run(options, taking):
            raise typer.Exit(FAILED)
        return
    if not directory.is_dir():
        raise SettingsError(f"{directory} is no directory")
    if attach is not None:
        if not run(options, attaching.attach_all(options, directory, attach)):
            raise typer.Exit(FAILED)
        return
    importing = Importing(
        directory, prefix, NewTrack(owner=owner_name(owner), visibility=visibility), pause
    )
    if not run(options, _import(options, importing, batch)):
        raise typer.Exit(FAILED)


async def _import(options: Options, importing: Importing, batch: int) -> bool:
    began = time.monotonic()
    if options.url is None:
        importing.without = frozenset({options.settings().data_directory.resolve()})
    async with options.service(every_copy=True) as service:
        await importing.run(service, batch)
        checked = await _made(service)
    importing.tally.say(time.monotonic() - began)
    unmade = checked["missing"] + checked["temporary"]
    if unmade:
        complain(
            f"{unmade} copies are still to be made; `soundkeep status` says where they stand,"
            " and a running server or `soundkeep work` makes them"
        )
    return not importing.tally.refused and not unmade


async def _made(service: Service) -> Document:
    """Waits until every copy is where it should be, or nothing has moved for a while."""
    await service.settle(SETTLE_SECONDS)
    checked, moved_at = await service.check(), time.monotonic()
    while not checked["passed"] and time.monotonic() - moved_at < LOOK_AGAIN_SECONDS * 10:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        again = await service.check()
        if again["missing"] < checked["missing"] or again["temporary"] < checked["temporary"]:
            moved_at = time.monotonic()
        checked = again
    return checked


@dataclass(slots=True)
class Tally:
    """What became of the files. Only those that were refused are remembered by name."""

    kept: int = 0
    kept_bytes: int = 0
    skipped: int = 0
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def refuse(self, name: str, why: str) -> None:
        self.refused[why].append(name)

    def say(self, seconds: float) -> None:
        """The summary, with the refused files by the reason."""
        rate = size(self.kept_bytes / seconds) if seconds else size(0)
        said = f"kept {self.kept} files, {size(self.kept_bytes)}, in {seconds:.1f} s ({rate}/s)"
        say(f"{said}; {self.skipped} were there already; {self._refusals()} refused")
        for why, names in sorted(self.refused.items()):
            say(f"{len(names)} refused: {why}")
            for name in sorted(names):
                say(f"  {printable(name)}")

    def _refusals(self) -> int:
        return sum(map(len, self.refused.values()))


@dataclass(slots=True)
class Importing:
    """One import: where from, and how what it finds is named."""

    directory: Path
    prefix: str
    as_said: NewTrack
    pause_seconds: float
    without: frozenset[Path] = frozenset()
    tally: Tally = field(default_factory=Tally)

    async def run(self, service: Service, places: int) -> None:
        """Takes files from the tree in so many places at once. What ends one ends all."""
        files, total = await asyncio.to_thread(self._measure)
        with byte_progress() as progress:
            task = progress.add_task(f"{files} files", total=total)
            found = walk(self.directory, self.without)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(places):
                        group.create_task(self._take(service, found, progress, task))
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None

    def _measure(self) -> tuple[int, int]:
        files = total = 0
        for found in walk(self.directory, self.without):
            files, total = files + 1, total + found.size_bytes
        return files, total

    async def _take(
        self, service: Service, found: Iterator[Found], progress: Progress, task: TaskID
    ) -> None:
        """One place: takes the next file until there is none."""
        for file in found:
            try:
                await self._keep(service, file)
            except OF_ONE_FILE as error:
                self.tally.refuse(file.name, sentence(error))
            progress.advance(task, file.size_bytes)
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)

    async def _keep(self, service: Service, file: Found) -> None:
        if file.refusal:
            self.tally.refuse(file.name, file.refusal)
            return
        path = track_path(self.prefix + file.name)
        held = await service.digest_at(self.as_said.owner, path, file.size_bytes)
        if held is not None and held == await asyncio.to_thread(_sha256, file.path):
            self.tally.skipped += 1
            return
        await service.add_file(file.path, replaced(self.as_said, path=path))
        self.tally.kept += 1
        self.tally.kept_bytes += file.size_bytes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
