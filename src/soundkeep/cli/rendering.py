"""`render`: makes tracks in another format, beside their originals."""

from __future__ import annotations

from typing import Annotated

import typer

from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import say_json, say_rows
from soundkeep.cli.service import Document

SETTLE_SECONDS = 10.0


def render(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(help="Ids of tracks.")],
    format: Annotated[str, typer.Option(help="Such as opus_48000_64, mp3_22050_32 or aac.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the tracks as JSON.")] = False,
) -> None:
    """Make tracks in another format; the originals stay as they are."""
    options = options_of(context)
    made = run(options, _render(options, ids, format))
    if as_json:
        say_json(made)
    else:
        rows = [(track["id"], track["path"], str(track["size_bytes"])) for track in made]
        say_rows(("track", "path", "bytes"), rows)


async def _render(options: Options, ids: list[str], format: str) -> list[Document]:
    async with options.service() as service:
        made = [await service.render(track_id, format) for track_id in ids]
        await service.settle(SETTLE_SECONDS)
        return [await service.track(track["id"]) for track in made]
