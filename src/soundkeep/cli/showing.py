"""`ls`, `show` and `get`: which tracks there are, where their copies are, and their bytes."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated

import typer

from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import (
    byte_progress,
    complain,
    duration,
    say,
    say_json,
    say_rows,
    size,
)
from soundkeep.cli.service import MAX_PAGE, Document, Service, Which
from soundkeep.errors import Corrupt, SettingsError

STANDARD_OUTPUT = Path("-")
HEADERS = ("id", "path", "size", "length", "who", "copies")


def ls(
    context: typer.Context,
    prefix: Annotated[str, typer.Option(help="Only paths that begin so.")] = "",
    search: Annotated[str, typer.Option(help="Only tracks with these words.")] = "",
    owner: Annotated[str | None, typer.Option(help="Only tracks of this owner.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List tracks, and where copies of each exist."""
    options = options_of(context)
    run(options, _ls(options, Which(prefix, search, owner), limit, as_json))


async def _ls(options: Options, which: Which, limit: int, as_json: bool) -> None:
    async with options.service() as service:
        if as_json:
            await _ls_json(service, which, limit)
            return
        shown = 0
        async for page in pages(service, which, limit):
            shown += len(page["items"])
            say_rows(HEADERS, map(_row, page["items"]))
            if page["next_cursor"] and shown == limit:
                complain(f"there are more than these {limit}: --limit 0 lists all")


async def _ls_json(service: Service, which: Which, limit: int) -> None:
    items: list[Document] = []
    cursor = None
    async for page in pages(service, which, limit):
        items += page["items"]
        cursor = page["next_cursor"]
    say_json({"items": items, "next_cursor": cursor})


async def pages(service: Service, which: Which, limit: int = 0) -> AsyncIterator[Document]:
    """Pages of tracks until there are no more, or `limit` (0 is none) is reached."""
    cursor, left = None, limit or sys.maxsize
    while left > 0:
        page = await service.tracks(which, min(left, MAX_PAGE), cursor)
        yield page
        cursor, left = page["next_cursor"], left - len(page["items"])
        if cursor is None:
            return


def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="The track's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a track, its copies and their sidecars."""
    options = options_of(context)
    track, copies = run(options, _track(options, id))
    if as_json:
        say_json(track)
    else:
        _say_track(track)
        _say_sidecars(copies)


async def _track(options: Options, track_id: str) -> tuple[Document, Document]:
    async with options.service() as service:
        return await service.track(track_id), await service.copies(track_id)


def get(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="The track's id.")],
    output: Annotated[
        Path | None,
        typer.Option("--out", "--output", "-o", help="Write here; - is standard output."),
    ] = None,
) -> None:
    """Get a track's bytes, verified: a whole file or none."""
    options = options_of(context)
    run(options, _get(options, id, output))


async def _get(options: Options, track_id: str, output: Path | None) -> None:
    async with options.service() as service:
        track = await service.track(track_id)
        if output == STANDARD_OUTPUT:
            await pour(service, track, sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
            return
        target = output or _unused(Path(Path(track["path"]).name))
        await write_sound(service, track, target)
    complain(f"{target}: {size(track['size_bytes'])}, SHA-256 {track['digest']}")


def _unused(path: Path) -> Path:
    if path.exists():
        raise SettingsError(f"{path} exists: name another with -o, or the same to replace it")
    return path


async def write_sound(service: Service, track: Document, target: Path, head_bytes: int = 0) -> None:
    """A track without its first bytes. Under another name first; the target changes only when every
    byte is right."""
    number, name = tempfile.mkstemp(prefix=".soundkeep-", dir=target.parent)
    try:
        with os.fdopen(number, "wb") as file, byte_progress() as progress:
            task = progress.add_task(target.name, total=track["size_bytes"])

            def write(piece: bytes) -> None:
                file.write(piece)
                progress.advance(task, len(piece))

            await pour(service, track, write, head_bytes)
            file.flush()
            os.fsync(number)
            os.fchmod(number, 0o666 & ~_umask())
        Path(name).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


async def pour(
    service: Service, track: Document, write: Callable[[bytes], object], head_bytes: int = 0
) -> None:
    """A track without its first bytes. Raises `Corrupt` if what came is not what the track says."""
    digest, passed_over = hashlib.sha256(), head_bytes
    async with aclosing(service.sound(track)) as pieces:
        async for piece in pieces:
            digest.update(piece)
            write(piece[passed_over:])
            passed_over = max(0, passed_over - len(piece))
    if digest.hexdigest() != track["digest"]:
        raise Corrupt(f"what came for {track['id']} has SHA-256 {digest.hexdigest()}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _row(track: Document) -> tuple[str, ...]:
    return (
        track["id"],
        track["path"],
        size(track["size_bytes"]),
        duration(track["duration_seconds"]),
        track["visibility"],
        _copies(track),
    )


def _copies(track: Document) -> str:
    """Stores that hold it; those that should or are in doubt say so."""
    places = track["storage_locations"].items()
    return " ".join(
        name if at["state"] == "present" else f"{name}({at['state']})" for name, at in places
    )


def _say_track(track: Document) -> None:
    names = ("id", "owner", "path", "title", "visibility", "created_at", "url", "digest")
    for name in names:
        say(f"{name:12}{track[name]}")
    length = duration(track["duration_seconds"])
    say(f"{'sound':12}{track['media_type']}, {length}, {size(track['size_bytes'])}")
    if track["metadata"]:
        say(f"{'metadata':12}{track['metadata']}")
    for store, at in track["storage_locations"].items():
        proof = f", {at['verified']}" if at["verified"] else ""
        say(f"{'copy':12}{store}: {at['state']} since {at['since']}{proof}")


def _say_sidecars(copies: Document) -> None:
    for copy in copies["items"]:
        if (sidecar := copy["sidecar"]) is not None:
            why = f": {sidecar['last_error']}" if sidecar["last_error"] else ""
            say(f"{'sidecar':12}{copy['store']}: {sidecar['state']}, {sidecar['key']}{why}")
