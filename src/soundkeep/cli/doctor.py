"""Examines this installation: settings, disk, catalog, stores, decoder; and names the next step."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soundkeep import build
from soundkeep.access.keys import FILE_NAME
from soundkeep.audio.formats import FORMATS
from soundkeep.cli.app import Options
from soundkeep.errors import SoundkeepError
from soundkeep.settings import DatabaseStoreSettings, LocalStoreSettings, Settings

EPHEMERAL = frozenset({"tmpfs", "ramfs", "overlay"})
LITTLE_BYTES = 2_000_000_000


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
    except SoundkeepError as error:
        return [Finding("fail", f"settings: {error}", "mend that line and run doctor again")]
    findings = [Finding("ok", f"settings: keep = {', '.join(settings.policy.keep)}")]
    findings += [*_data_directory(settings), *_key_file(settings)]
    try:
        async with build.opened(settings) as house:
            findings.append(Finding("ok", f"catalog: {house.keep.catalog.url.get_backend_name()}"))
            findings += await _stores(house)
            findings.append(await _decoder(house))
    except SoundkeepError as error:
        findings.append(Finding("fail", str(error), "mend that and run doctor again"))
    return findings


def shared_device(settings: Settings) -> list[str]:
    """One sentence if all stores of `keep` that lie on this machine share one device."""
    paths = [path for _, path in _store_paths(settings) if path.exists()]
    devices = {path.stat().st_dev for path in paths}
    if len(paths) == len(settings.policy.keep) > 1 and len(devices) == 1:
        return ["all copies share one device: they survive a fault of a file, not of the disk"]
    return []


def _data_directory(settings: Settings) -> Iterator[Finding]:
    directory = settings.data_directory
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < settings.inbox.min_free_bytes + settings.limits.file_bytes:
        yield Finding("fail", f"{directory}: the disk is full", "make room: uploads are refused")
    elif free < LITTLE_BYTES:
        yield Finding("warn", f"{directory}: {free // 10**6} MB are free", "make room soon")
    else:
        yield Finding("ok", f"{directory}: {free // 10**9} GB are free")
    for name, path in [("data", directory), *_store_paths(settings)]:
        if (kind := _file_system(path)) in EPHEMERAL:
            yield Finding(
                "warn",
                f"{name}: {path} lies on {kind}",
                "if this is a container, mount a volume there: what it holds ends with it",
            )
    for sentence in shared_device(settings):
        yield Finding("warn", sentence, "put one store of policy.keep on another disk")


def _key_file(settings: Settings) -> Iterator[Finding]:
    path = settings.data_directory / FILE_NAME
    if settings.admin_key is None and path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding("warn", f"{path} can be read by others", f"chmod 600 {path}")
        else:
            yield Finding("ok", f"{path}: mode {mode:04o}")


async def _stores(house: build.House) -> list[Finding]:
    status = await house.keep.status()
    findings = []
    for store in status.stores_json():
        if store["state"] == "out":
            step = "mend the cause; what waits for it is done by itself when it is back"
            findings.append(Finding("fail", f"store {store['name']}: {store['error']}", step))
        elif store["state"] == "not configured":
            step = "put it back into the settings if it is still needed"
            findings.append(Finding("warn", f"store {store['name']} is not in the settings", step))
        else:
            findings.append(Finding("ok", f"store {store['name']} ({store['kind']})"))
    return findings


async def _decoder(house: build.House) -> Finding:
    """Renders the sample tune and probes it, both in the jail."""
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(await house.keep.jail.tune())
            file.flush()
            sound = await house.keep.jail.probe(Path(file.name), FORMATS["mp3"])
    except SoundkeepError as error:
        return Finding("fail", f"decoder: {error}", "reinstall the package `av`")
    return Finding("ok", f"decoder: {sound.codec}, {sound.duration_seconds:.1f} s of tune")


def _store_paths(settings: Settings) -> list[tuple[str, Path]]:
    """The files and directories of the stores of `keep` on this machine."""
    found = []
    on_sqlite = settings.catalog_url.startswith("sqlite")
    for name in settings.policy.keep:
        table = settings.stores[name]
        if isinstance(table, LocalStoreSettings):
            found.append((name, settings.data_directory / table.path))
        elif isinstance(table, DatabaseStoreSettings) and table.url is None and on_sqlite:
            found.append((name, settings.data_directory / (table.path or f"{name}.db")))
    return found


def _file_system(path: Path) -> str:
    """The kind of file system a path lies on, by the longest mount point above it."""
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split(" ")
        inside = mount == "/" or path == Path(mount) or Path(mount) in path.parents
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind
