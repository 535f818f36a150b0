"""Examines this installation: settings, disk, catalog, clock, stores, decoder, engines; and names
the next step. It looks at what is there and makes nothing: a data directory that does not exist
yet is said to be so."""

from __future__ import annotations

import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soundkeep import build
from soundkeep.access.keys import FILE_NAME
from soundkeep.audio.formats import FORMATS
from soundkeep.build.house import House
from soundkeep.catalog.database import Tx
from soundkeep.cli import ephemeral
from soundkeep.cli.options import Options
from soundkeep.cli.output import size
from soundkeep.copies.devices import share_one_device
from soundkeep.errors import EngineError, EngineUnauthorised, SoundkeepError
from soundkeep.settings import Settings
from soundkeep.speech.engines.interface import Engine

LITTLE_BYTES = 2_000_000_000
CLOCKS_APART_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `verdict` is ok, warn or fail; `step` is what to do about it."""

    verdict: str
    what: str
    step: str = ""

    def line(self) -> str:
        return f"{self.verdict:4}  {self.what}" + (f"\n      → {self.step}" if self.step else "")

    def as_json(self) -> dict[str, str]:
        return {"verdict": self.verdict, "what": self.what, "step": self.step}


async def examine(options: Options) -> list[Finding]:
    """Looks at everything, and goes on as far as it can."""
    try:
        settings = options.settings()
        findings = [_settings(options, settings), *_disk(settings), *_key_file(settings)]
    except SoundkeepError as error:
        return [Finding("fail", f"settings: {error}", "mend that line and run doctor again")]
    if not settings.data_directory.exists():
        what = f"data: {settings.data_directory} does not exist yet"
        return [*findings, Finding("warn", what, "`soundkeep serve` makes it")]
    return [*findings, *await _inside(settings)]


async def _inside(settings: Settings) -> list[Finding]:
    """What only an opened house can tell."""
    try:
        async with build.opened(settings) as house:
            kind = house.keep.catalog.url.get_backend_name()
            return [
                Finding("ok", f"catalog: {kind}, up to date"),
                await _clock(house),
                *await _stores(house),
                await _decoder(house),
                *[await _engine(house, engine) for engine in house.generation.engines.values()],
            ]
    except SoundkeepError as error:
        return [Finding("fail", f"{error}", "mend that and run doctor again")]


def _settings(options: Options, settings: Settings) -> Finding:
    origin = f"file {options.config}" if options.config else "no file, defaults and environment"
    return Finding("ok", f"settings: {origin}; kept in {', '.join(settings.policy.keep)}")


def _disk(settings: Settings) -> Iterator[Finding]:
    directory = settings.data_directory
    yield _room(directory, settings.inbox.min_free_bytes + settings.limits.file_bytes)
    if directory.exists() and not _is_writable(directory):
        yield Finding("fail", f"data: {directory} cannot be written", "give its owner the right")
    yield from (Finding("warn", what, step) for what, step in ephemeral.warnings(settings))
    if share_one_device(settings):
        yield Finding(
            "warn",
            "every copy lies on one device: it survives the fault of a file, not of the disk",
            "put one store of policy.keep on another disk or another machine",
        )


def _room(directory: Path, needed_bytes: int) -> Finding:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        return Finding(
            "fail", f"data: {directory}: the disk is full", "make room: it takes no more"
        )
    if free < LITTLE_BYTES:
        return Finding("warn", f"data: {directory}: {size(free)} are free", "make room soon")
    return Finding("ok", f"data: {directory}, {size(free)} free")


def _is_writable(directory: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _key_file(settings: Settings) -> Iterator[Finding]:
    path = settings.data_directory / FILE_NAME
    if settings.admin_key is not None:
        yield Finding("ok", "admin key: from the settings")
    elif path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding("warn", f"{path} can be read by others", f"chmod 600 {path}")
        else:
            yield Finding("ok", f"admin key: {path}, mode {mode:04o}")


async def _clock(house: House) -> Finding:
    """Leases go by the database's clock, so a difference harms nothing but people's reading."""
    apart = abs(await house.keep.catalog.read(Tx.now) - time.time())
    if apart > CLOCKS_APART_SECONDS:
        what = f"clock: this machine and the database are {apart:.0f} s apart"
        return Finding("warn", what, "set both by NTP")
    return Finding("ok", "clock: this machine and the database agree")


async def _stores(house: House) -> list[Finding]:
    return [_store(store) for store in (await house.keep.status(failing=0)).stores_json()]


def _store(store: dict[str, object]) -> Finding:
    name, kind = store["name"], store["kind"]
    if store["state"] == "out":
        step = "mend the cause; what waits for it is done by itself when it is back"
        return Finding("fail", f"store {name}: {store['error']}", step)
    if store["state"] == "not configured":
        step = "put it back into the settings if its copies are still needed"
        return Finding("warn", f"store {name} is not in the settings", step)
    return Finding("ok", f"store {name} ({kind}): reachable, and the right one")


async def _decoder(house: House) -> Finding:
    """Renders the sample tune and probes it, both in the jail."""
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(await house.keep.jail.tune())
            file.flush()
            sound = await house.keep.jail.probe(Path(file.name), FORMATS["mp3"])
    except SoundkeepError as error:
        return Finding("fail", f"decoder: {error}", "reinstall the package `av`")
    return Finding("ok", f"decoder: {sound.codec}, {sound.duration_seconds:.1f} s of tune")


async def _engine(house: House, engine: Engine) -> Finding:
    """Asks for its voices, which needs the key but costs nothing."""
    name = f"speech.engines.{engine.name}"
    try:
        voices = await engine.voices()
    except EngineUnauthorised as error:
        return Finding("fail", f"engine {error}", f"look at {name}.api_key")
    except EngineError as error:
        step = "mend the cause; what was said before is there all the same"
        return Finding("warn", f"engine {error}", step)
    usual = house.keep.settings.speech.engines[engine.name].voice
    if usual is not None and not any(voice.id == usual for voice in voices):
        what = f"engine {engine.name}: it has no voice {usual!r}"
        return Finding("fail", what, f"`soundkeep voices` lists them; change {name}.voice")
    return Finding("ok", f"engine {engine.name}: {len(voices)} voices")
