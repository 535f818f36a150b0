"""Warns of data that lies where a container's own disk does, and ends with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

from soundkeep.copies.devices import path_of
from soundkeep.settings import Settings

EPHEMERAL = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
MOUNTS = Path("/proc/self/mounts")  # Linux; elsewhere nobody can tell
PAGE = "docs/without-a-disk.md"
MOUNT_A_VOLUME = "if this is a container, mount a volume there"


def warnings(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is found and what to do, for everything that would be lost with the machine."""
    catalog = _catalog_file(settings)
    if catalog is not None and (kind := _ephemeral(catalog)):
        yield (
            f"catalog: {catalog} lies on {kind}: the names of all tracks end with it",
            f"{MOUNT_A_VOLUME}, or let SOUNDKEEP_CATALOG name a PostgreSQL ({PAGE})",
        )
    for name in settings.policy.keep:
        path = path_of(name, settings)
        if path is not None and (kind := _ephemeral(path)):
            yield (
                f"store {name}: {path} lies on {kind}: its copies end with it",
                f"{MOUNT_A_VOLUME}, or keep them elsewhere ({PAGE})",
            )
    inbox = settings.inbox_directory
    if kind := _ephemeral(inbox):
        yield f"inbox: {inbox} lies on {kind}: {_inbox_holds(settings)}", _inbox_needs(settings)
    if settings.admin_key is None and (kind := _ephemeral(settings.data_directory)):
        yield (
            f"admin key: it lies on {kind}: a new disk has a new key",
            "set SOUNDKEEP_ADMIN_KEY, or admin_key in the settings",
        )


def _inbox_holds(settings: Settings) -> str:
    if settings.policy.ack_copies:
        return "an upload that was answered with `temporary: true` ends with it"
    return "uploads are acknowledged while nothing else has them, and end with it"


def _inbox_needs(settings: Settings) -> str:
    if settings.policy.ack_copies:
        return f"fine if callers mind that answer; else {MOUNT_A_VOLUME}"
    return f"set policy.ack_copies to 1, or {MOUNT_A_VOLUME}"


def _catalog_file(settings: Settings) -> Path | None:
    url = make_url(settings.catalog_url)
    is_file = url.get_backend_name() == "sqlite" and url.database
    return Path(url.database) if is_file and url.database else None


def _ephemeral(path: Path) -> str | None:
    kind = file_system(path)
    return kind if kind in EPHEMERAL else None


def file_system(path: Path) -> str:
    """The kind of file system a path lies on, by the longest mount point above it; "" if nobody
    can tell."""
    best, kind = "", ""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount)
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind
