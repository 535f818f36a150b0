"""`import --csv` and `import --database`: what was spoken elsewhere, by a table of it.

Each line that cannot be taken is named with the reason; the others go on. What was taken is there
the next time, so an import that was interrupted is run again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from soundkeep.cli.failures import sentence
from soundkeep.cli.output import complain, printable, say
from soundkeep.errors import CatalogUnavailable, DiskFull, SettingsError, SoundkeepError
from soundkeep.intake.folder import By, Named
from soundkeep.model import Visibility
from soundkeep.settings import Settings
from soundkeep.settings.addresses import database_url

if TYPE_CHECKING:
    from soundkeep.build.house import House
    from soundkeep.intake.claiming import Claims
    from soundkeep.speech.table_import import How
    from soundkeep.speech.tables import Line, Mapped, Table

ENDS_ALL = (CatalogUnavailable, DiskFull, SettingsError)
SETTLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A table, and how its lines are understood."""

    table: Table
    said: list[str]  # as `column=field,column=field`
    defaults: Mapping[str, str]
    folder: Path
    dry_run: bool
    visibility: Visibility = Visibility.PRIVATE
    claims: Sequence[str] = ()  # as `theirs=ours,theirs=ours`
    attach: By | None = None  # a line without audio has the file in `folder` that is called so


def opened(csv: Path | None, database: str | None, table: str | None) -> Table:
    """The table that was named. Raises `SettingsError`."""
    from soundkeep.speech.tables import csv_table, database_table  # noqa: PLC0415 - SQL

    if csv is not None:
        return csv_table(csv)
    if database is None or table is None:
        raise SettingsError("--database needs --table")
    return database_table(database_url(database), table)


def given(defaults: Mapping[str, str | None]) -> dict[str, str]:
    """What was said of all lines."""
    return {name: value for name, value in defaults.items() if value}


async def take_all(settings: Settings, reading: Reading, places: int) -> bool:
    """Takes every line, so many at once; answers whether all could be taken."""
    from soundkeep.build import opened as opened_house  # noqa: PLC0415 - as in `Options.service`
    from soundkeep.speech.table_import import How  # noqa: PLC0415

    tally, files = _Tally(), _Files(reading)
    async with _columns(reading, files) as mapped, opened_house(settings) as house:
        how = How(reading.visibility, _claims(house, reading.claims))
        await _Taking(house, reading, mapped, tally, how).run(places)
        if not reading.dry_run:
            await _settled(house)
    tally.say(dry_run=reading.dry_run)
    files.say()
    return not tally.refused


@asynccontextmanager
async def _columns(reading: Reading, files: _Files) -> AsyncIterator[Mapped]:
    from soundkeep.speech.tables import Mapped  # noqa: PLC0415

    try:
        await reading.table.open()
        said = _said(reading.said)
        yield Mapped(reading.table.columns, said, reading.defaults, files.find_file)
    finally:
        await reading.table.close()


def _claims(house: House, said: Sequence[str]) -> Claims | None:
    """Which of our stores their names mean; None if what they say is not to be looked at."""
    from soundkeep.intake.claiming import Claims  # noqa: PLC0415 - SQL

    settings, stores = house.keep.settings, _said(said, "--claims is theirs=ours")
    for name in stores.values():
        if name not in settings.stores:
            raise SettingsError(f"--claims: there is no store {name!r} in the settings")
    urls = {name: table.public_url for name, table in settings.stores.items()}
    spellings = {name: house.keep.stores[name].caps.spelling for name in settings.stores}
    return Claims(stores, urls, spellings) if stores else None


def _said(options: Sequence[str], form: str = "--map is column=field") -> dict[str, str]:
    """`column=field` pairs; a column with no field behind it means nothing."""
    said = {}
    for pair in ",".join(options).split(","):
        column, equals, name = pair.partition("=")
        if pair and not equals:
            raise SettingsError(f"{form}, not {pair!r}")
        if pair:
            said[column.strip()] = name.strip()
    return said


async def _settled(house: House) -> None:
    """The copies are made before the command ends, as far as their stores allow."""
    from soundkeep.worker import Worker  # noqa: PLC0415

    worker = Worker(house, resident=False)
    worker.start()
    try:
        if not await worker.settle(SETTLE_SECONDS):
            complain("copies are still to be made: `soundkeep status` says where they stand")
    finally:
        await worker.stop(SETTLE_SECONDS)


class _Files:
    """The files that lines without audio are given, if they are to be given any."""

    def __init__(self, reading: Reading) -> None:
        self._by = reading.attach
        self._named = Named(reading.folder) if reading.attach is not None else None
        self.find_file = self._find if self._named is not None else None

    def _find(self, id_: str | None, title: str | None, path: str | None) -> str:
        assert self._named is not None
        if self._by is By.ID:
            return self._named.take(id_)
        return self._named.take(title, PurePosixPath(path).name if path else None)

    def say(self) -> None:
        """The files that no line was without."""
        for name in self._named.left() if self._named is not None else ():
            say(f"no line is without audio for  {printable(name)}")


@dataclass(slots=True)
class _Tally:
    """What became of the lines. Only those that were refused are remembered."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def say(self, *, dry_run: bool) -> None:
        refusals = sum(map(len, self.refused.values()))
        taken, there = self.counts["taken"], self.counts["there already"]
        verb = "would be taken" if dry_run else "taken"
        say(f"{taken} lines {verb}; {there} were there already; {refusals} refused")
        for why, names in sorted(self.refused.items()):
            say(f"{len(names)} refused: {why}")
            for name in names:
                say(f"  {printable(name)}")


class _Taking:
    """The lines on their way in."""

    def __init__(
        self, house: House, reading: Reading, mapped: Mapped, tally: _Tally, how: How
    ) -> None:
        self._house = house
        self._reading = reading
        self._mapped = mapped
        self._tally = tally
        self._how = how

    async def run(self, places: int) -> None:
        """What ends one ends all: the catalog, the disk, or the table itself."""
        free = asyncio.Semaphore(places)
        try:
            async with asyncio.TaskGroup() as group, aclosing(self._reading.table.lines()) as lines:
                async for line in lines:
                    await free.acquire()
                    group.create_task(self._take(line, free))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _take(self, line: Line, free: asyncio.Semaphore) -> None:
        tables = self._house.tables
        try:
            entry = self._mapped.entry(line)
            folder = self._reading.folder
            if self._reading.dry_run:
                became = await tables.look(entry, folder)
            else:
                became = await tables.take(entry, folder, self._how)
        except ENDS_ALL:
            raise
        except SoundkeepError as error:
            self._tally.refused[sentence(error)].append(self._mapped.name(line))
        else:
            self._tally.counts[became.value] += 1
        finally:
            free.release()
