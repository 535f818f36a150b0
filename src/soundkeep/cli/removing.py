"""`rm`: deletes tracks by id, or all under a prefix, and says how far each removal has come."""

from __future__ import annotations

from typing import Annotated

import typer

from soundkeep.cli.failures import FAILED, sentence
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import complain, say, say_json
from soundkeep.cli.service import Document, Which
from soundkeep.cli.showing import pages
from soundkeep.errors import NoSuchTrack, SettingsError

SETTLE_SECONDS = 10.0


def rm(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of tracks.")] = None,
    prefix: Annotated[str | None, typer.Option(help="All paths that begin so.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipts as JSON.")] = False,
) -> None:
    """Delete tracks."""
    if bool(ids) == bool(prefix):
        raise SettingsError("name the tracks by their ids, or all of them by --prefix")
    options = options_of(context)
    if prefix:
        ids = run(options, _ids(options, prefix))
        if not yes:
            typer.confirm(f"Delete {len(ids)} tracks under {prefix!r}?", abort=True, err=True)
    if not run(options, _rm(options, ids or [], as_json)):
        raise typer.Exit(FAILED)


async def _ids(options: Options, prefix: str) -> list[str]:
    async with options.service() as service:
        found = pages(service, Which(prefix=prefix))
        return [track["id"] async for page in found for track in page["items"]]


async def _rm(options: Options, ids: list[str], as_json: bool) -> bool:
    """Deletes each; answers whether all were there to delete."""
    deleted: list[str] = []
    async with options.service() as service:
        for track_id in ids:
            try:
                await service.remove(track_id)
            except NoSuchTrack as error:
                complain(sentence(error))
                continue
            deleted.append(track_id)
        await service.settle(SETTLE_SECONDS)
        receipts = [await service.receipt(track_id) for track_id in deleted]
    if as_json:
        say_json(receipts)
    else:
        _say(receipts)
    return len(deleted) == len(ids)


def _say(receipts: list[Document]) -> None:
    for receipt in receipts:
        stores = ", ".join(f"{line['store']} {line['outcome']}" for line in receipt["stores"])
        say(f"{receipt['id']}  deleted: {stores or 'there were no copies'}")
        if receipt["cached_until"]:
            say(f"  it was public: players' caches may hold it until {receipt['cached_until']}")
