"""`add`: keeps files, or what comes on standard input."""

from __future__ import annotations

import os
import sys
from dataclasses import replace as replaced
from pathlib import Path
from typing import Annotated

import typer

from soundkeep.cli.failures import FAILED, sentence
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import byte_progress, complain, printable, say, say_json, size
from soundkeep.cli.service import Document, Service, pieces_of
from soundkeep.errors import BadInput, Conflict, JailFailed, SettingsError
from soundkeep.intake.parsing import new_track
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Visibility
from soundkeep.names import DEFAULT_OWNER, track_path

SETTLE_SECONDS = 30.0  # for copies that the acknowledgement did not wait for
STANDARD_INPUT = "-"

# What is wrong with one file and says nothing about the next.
OF_ONE_FILE = (BadInput, Conflict, JailFailed, OSError)


def add(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(help="Files; - is standard input.")],
    path: Annotated[str | None, typer.Option(help="The track's path; of one file only.")] = None,
    id: Annotated[str | None, typer.Option(help="The track's id; of one file only.")] = None,
    title: Annotated[str | None, typer.Option(help="The title; of one file only.")] = None,
    visibility: Annotated[
        Visibility, typer.Option(help="Who may hear it without a key.")
    ] = Visibility.PRIVATE,
    metadata: Annotated[str | None, typer.Option(help="A JSON object of your own.")] = None,
    owner: Annotated[str, typer.Option(help="Whose it is.")] = DEFAULT_OWNER,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other audio at the same path.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tracks as JSON.")] = False,
) -> None:
    """Keep audio files."""
    if len(files) > 1 and (path or id or title):
        raise SettingsError("--path, --id and --title are for one file")
    given = {
        "path": path,
        "id": id,
        "title": title,
        "visibility": visibility.value,
        "metadata": metadata,
        "owner": owner,
        "replace": "true" if replace else None,
    }
    new = new_track({name: text for name, text in given.items() if text is not None})
    options = options_of(context)
    if not run(options, _add(options, files, new, as_json)):
        raise typer.Exit(FAILED)


async def _add(options: Options, files: list[str], new: NewTrack, as_json: bool) -> bool:
    """Adds one after the other; answers whether all were kept."""
    kept: list[Document] = []
    async with options.service() as service:
        for file in files:
            try:
                document, created = await _add_one(service, file, new)
            except OF_ONE_FILE as error:
                complain(f"{printable(file)}: {sentence(error)}")
                continue
            kept.append(document)
            if not as_json:
                _say_kept(document, created)
        await service.settle(SETTLE_SECONDS)
        if as_json:
            now = [await service.track(document["id"]) for document in kept]
            say_json(now[0] if len(files) == 1 and now else now)
    return len(kept) == len(files)


async def _add_one(service: Service, file: str, new: NewTrack) -> tuple[Document, bool]:
    if file == STANDARD_INPUT:
        return await service.add(pieces_of(sys.stdin.buffer), new, None)
    if new.path is None:
        new = replaced(new, path=track_path(Path(file).name))
    with open(file, "rb") as opened, byte_progress() as progress:  # noqa: ASYNC230 - quick
        size_bytes = os.fstat(opened.fileno()).st_size
        task = progress.add_task(printable(file), total=size_bytes)
        body = pieces_of(opened, lambda count: progress.advance(task, count))
        return await service.add(body, new, size_bytes)


def _say_kept(track: Document, created: bool) -> None:
    ack = track["ack"]
    how = "kept" if created else "was kept already"
    copies = f"{ack['have']} verified of {ack['wanted']} asked for"
    only = "; temporary: in the inbox only, and copied by itself" if track["temporary"] else ""
    say(f"{track['id']}  {track['path']}  {how}, {size(track['size_bytes'])}, {copies}{only}")
