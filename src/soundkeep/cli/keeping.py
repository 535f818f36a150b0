"""`ls`, `show`, `get`, `rm`, `retry`: what is kept, and out again."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.table import Table

from soundkeep.cli.app import Options, app
from soundkeep.cli.doors import Door, Json, Listing, door
from soundkeep.cli.running import WENT_WRONG, complain, out, print_json, run, size_text
from soundkeep.errors import SettingsError, SoundkeepError, WriteFailed

PAGE_TRACKS = 1000
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.command()
def ls(
    context: typer.Context,
    prefix: Annotated[str, typer.Option(help="Paths that begin so.")] = "",
    search: Annotated[str, typer.Option(help="Words of title, path or id.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: AsJson = False,
) -> None:
    """List tracks, and where their copies are."""
    tracks = run(_list(context.obj, prefix, search, limit))
    if json:
        print_json(tracks)
        return
    table = Table("id", "path", "length", "size", "visibility", "copies", box=None)
    for track in tracks:
        table.add_row(
            track["id"],
            track["path"],
            f"{track['duration_seconds']:.0f} s",
            size_text(track["size_bytes"]),
            track["visibility"],
            _where(track),
        )
    out.print(table)


@app.command()
def show(context: typer.Context, track_id: str) -> None:
    """Show one track as JSON."""
    print_json(run(_show(context.obj, track_id)))


@app.command()
def get(
    context: typer.Context,
    track_id: str,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file to write; - is standard output.")
    ] = "",
) -> None:
    """Write a track's sound to a file: whole, or not at all."""
    written = run(_get(context.obj, track_id, output))
    if written is not None:
        out.print(str(written), markup=False)


@app.command()
def rm(
    context: typer.Context,
    track_ids: Annotated[list[str] | None, typer.Argument(help="Ids of tracks.")] = None,
    prefix: Annotated[str, typer.Option(help="All tracks whose path begins so.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Delete tracks; the receipts say how far each removal has come."""
    if bool(track_ids) == bool(prefix):
        raise SettingsError("rm takes ids, or --prefix")
    ids = track_ids or run(_ids(context.obj, prefix))
    if prefix and not yes:
        typer.confirm(f"Delete {len(ids)} tracks under {prefix!r}?", abort=True, err=True)
    receipts, failed = run(_remove(context.obj, ids))
    if json:
        print_json(receipts)
    raise typer.Exit(WENT_WRONG if failed else 0)


@app.command()
def retry(
    context: typer.Context,
    track_id: Annotated[str | None, typer.Argument(help="Only this track's copies.")] = None,
    store: Annotated[str | None, typer.Option(help="Only copies in this store.")] = None,
) -> None:
    """Make what waits in the ledger due now."""
    out.print(f"{run(_retry(context.obj, track_id, store))} due now")


async def _list(options: Options, prefix: str, search: str, limit: int) -> list[Json]:
    async with door(options) as keep:
        return await _pages(keep, prefix, search, limit)


async def _pages(keep: Door, prefix: str, search: str, limit: int) -> list[Json]:
    tracks: list[Json] = []
    cursor = None
    while len(tracks) < limit:
        wanted = min(PAGE_TRACKS, limit - len(tracks))
        page = await keep.page(Listing(prefix, search, wanted, cursor))
        tracks += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return tracks


async def _show(options: Options, track_id: str) -> Json:
    async with door(options) as keep:
        return await keep.show(track_id)


async def _get(options: Options, track_id: str, output: str) -> Path | None:
    async with door(options) as keep:
        if output == "-":
            await _copy(keep, track_id, sys.stdout.buffer)
            return None
        track = await keep.show(track_id)
        target = Path(output or track["path"].rpartition("/")[2])
        try:
            await _write_whole(keep, track_id, target)
        except OSError as error:
            raise WriteFailed(f"{target}: {error.strerror}") from None
        return target


async def _write_whole(keep: Door, track_id: str, target: Path) -> None:
    """Under another name first: a sound that breaks off leaves nothing behind."""
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            await _copy(keep, track_id, file)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


async def _copy(keep: Door, track_id: str, file: BinaryIO) -> None:
    async with aclosing(keep.get(track_id)) as pieces:
        async for piece in pieces:
            file.write(piece)
    file.flush()


async def _ids(options: Options, prefix: str) -> list[str]:
    async with door(options) as keep:
        return [track["id"] for track in await _pages(keep, prefix, "", sys.maxsize)]


async def _remove(options: Options, ids: list[str]) -> tuple[list[Json], int]:
    receipts: list[Json] = []
    async with door(options) as keep:
        for track_id in ids:
            try:
                receipts.append(await keep.remove(track_id))
                out.print(f"{track_id}  deleted", markup=False)
            except SoundkeepError as error:
                complain(str(error))
        await keep.settle()
    return receipts, len(ids) - len(receipts)


async def _retry(options: Options, track_id: str | None, store: str | None) -> int:
    async with door(options) as keep:
        due = await keep.retry(track_id, store)
        await keep.settle()
    return due


def _where(track: Json) -> str:
    """Each store with a present copy; others with their state."""
    return " ".join(
        store if copy["state"] == "present" else f"{store}({copy['state']})"
        for store, copy in sorted(track["storage_locations"].items())
    )
