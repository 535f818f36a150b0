"""`rebuild`: makes a catalog anew from one store, or tries what that would bring back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import count_progress, printable, say, say_json, size
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.copies.drill import Comparison
    from soundkeep.copies.rebuild import Rebuild, Tally

SHOWN = 20


def rebuild(
    context: typer.Context,
    from_: Annotated[str, typer.Option("--from", help="The store that is read.")],
    drill: Annotated[
        bool, typer.Option("--drill", help="Only say what would be lost; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a catalog anew from the sidecars and sounds of one store; run it again to go on."""
    options = options_of(context)
    settings = options.local_settings("rebuild")
    document = run(options, (_drill if drill else _rebuild)(settings, from_))
    if as_json:
        say_json(document)
    else:
        _say(document)
    if document["left_count"] or document.get("lost_count"):
        raise typer.Exit(FAILED)


async def _rebuild(settings: Settings, store: str) -> dict[str, Any]:
    from soundkeep.rebuilding import rebuilding  # noqa: PLC0415 - what other verbs do without

    async with rebuilding(settings, store) as work:
        return _tally_json(store, await _run(work))


async def _drill(settings: Settings, store: str) -> dict[str, Any]:
    from soundkeep.rebuilding import drilling  # noqa: PLC0415

    async with drilling(settings, store) as (work, compare):
        tally = await _run(work)
        return {**_tally_json(store, tally), **_comparison_json(await compare())}


async def _run(work: Rebuild) -> Tally:
    with count_progress() as progress:
        task = progress.add_task("sidecars", total=None)
        return await work.run(lambda: progress.advance(task))


def _tally_json(store: str, tally: Tally) -> dict[str, Any]:
    return {
        "store": store,
        "taken": {kind.value: number for kind, number in tally.taken.items()},
        "there_already": {kind.value: number for kind, number in tally.there.items()},
        "bytes_read": tally.bytes_read,
        "left_count": tally.left_count,
        "left": [{"key": each.key, "why": each.why} for each in tally.left],
    }


def _comparison_json(found: Comparison) -> dict[str, Any]:
    return {
        "compared": found.compared,
        "lost_count": found.loss_count,
        "lost": [{"kind": each.kind, "name": each.name, "why": each.why} for each in found.losses],
        "unknown_count": found.unknown_count,
        "unknown": [{"kind": each.kind, "name": each.name} for each in found.unknown],
    }


def _say(document: dict[str, Any]) -> None:
    taken, there = document["taken"], document["there_already"]
    say(
        f"{taken['track']} tracks and {taken['segment']} segments of speech taken from"
        f" {document['store']}, {size(document['bytes_read'])} read;"
        f" {there['track']} and {there['segment']} were there already;"
        f" {document['left_count']} sidecars left"
    )
    for left in document["left"][:SHOWN]:
        say(f"left  {printable(left['key'])}: {left['why']}")
    _say_more(document["left_count"])
    if "lost_count" in document:
        _say_lost(document)
    else:
        say("`soundkeep serve` or `soundkeep work` makes the copies in the other stores now")


def _say_lost(document: dict[str, Any]) -> None:
    compared = ", ".join(f"{number} {noun}" for noun, number in document["compared"].items())
    say(f"a drill: nothing was changed. Of {compared} {document['lost_count']} would be lost")
    for lost in document["lost"][:SHOWN]:
        say(f"lost  {lost['kind']} {printable(lost['name'])}: {lost['why']}")
    _say_more(document["lost_count"])
    if document["unknown_count"]:
        say(f"{document['unknown_count']} are told of there that the catalog does not know")
    for unknown in document["unknown"][:SHOWN]:
        say(f"new   {unknown['kind']} {printable(unknown['name'])}")
    _say_more(document["unknown_count"])


def _say_more(number: int) -> None:
    if number > SHOWN:
        say(f"      and {number - SHOWN} more; --json names the first thousand")
