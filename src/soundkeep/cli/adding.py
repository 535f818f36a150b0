"""`add`: keeps single files, or standard input."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from soundkeep.cli.app import Options, app
from soundkeep.cli.doors import Door, Json, door
from soundkeep.cli.running import WENT_WRONG, complain, out, print_json, run
from soundkeep.errors import SettingsError, SoundkeepError

PIECE_BYTES = 256 * 1024


@app.command()
def add(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(help="Files; - is standard input.")],
    path: Annotated[str, typer.Option(help="The track's path.")] = "",
    id: Annotated[str, typer.Option(help="The track's id.")] = "",
    title: Annotated[str, typer.Option(help="The track's title.")] = "",
    visibility: Annotated[str, typer.Option(help="private or public.")] = "private",
    metadata: Annotated[str, typer.Option(help="A JSON object of your own.")] = "",
    owner: Annotated[str, typer.Option(help="Whose track it is.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what the path holds.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the tracks as JSON.")] = False,
) -> None:
    """Keep one or more files."""
    if len(files) > 1 and (path or id or title):
        raise SettingsError("--path, --id and --title are for one file")
    fields = {
        "path": path,
        "id": id,
        "title": title,
        "visibility": visibility,
        "metadata": metadata,
        "owner": owner,
        "replace": "true" if replace else "",
    }
    tracks = run(_add(context.obj, files, fields, quiet=json))
    if json:
        print_json(tracks)
    raise typer.Exit(WENT_WRONG if len(tracks) < len(files) else 0)


async def _add(
    options: Options, files: list[str], fields: dict[str, str], *, quiet: bool
) -> list[Json]:
    tracks: list[Json] = []
    async with door(options) as keep:
        for file in files:
            try:
                track, created = await _add_one(keep, file, fields)
            except (SoundkeepError, OSError) as error:
                complain(f"{file}: {words_of(error)}")
                continue
            tracks.append(track)
            if not quiet:
                held = "new" if created else "already there"
                out.print(f"{track['id']}  {track['path']}  ({held})", markup=False)
        await keep.settle()
    return tracks


async def _add_one(keep: Door, file: str, fields: dict[str, str]) -> tuple[Json, bool]:
    given = {name: value for name, value in fields.items() if value}
    if file == "-":
        return await keep.add(pieces_of(sys.stdin.buffer), given)
    with _opened(Path(file)) as opened:
        return await keep.add(pieces_of(opened), {"path": Path(file).name, **given})


def _opened(file: Path) -> BinaryIO:
    return file.open("rb")


async def pieces_of(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file's bytes. Read inline: a page-cache read is shorter than a thread hop."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def words_of(error: Exception) -> str:
    """An error for people."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
