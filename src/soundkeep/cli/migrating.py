"""`migrate`: moves tracks from one store to another; without `--execute` it only says what is due.

Whatever ends it in the middle, it is run again and goes on: what is done is in the ledger.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import byte_progress, complain, duration, say, say_json, size
from soundkeep.cli.service import Document
from soundkeep.errors import SettingsError
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.build.house import House
    from soundkeep.copies.migrating import Move, Moved

SETTLE_SECONDS = 60.0
FIELDS = ("prefix", "owner", "since", "until")
UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
RATE = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)\Z")


def migrate(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store they are in.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store they shall be in.")],
    execute: Annotated[bool, typer.Option("--execute", help="Do it.")] = False,
    delete_after: Annotated[
        bool, typer.Option("--delete-after", help="Withdraw from FROM what TO is proven to have.")
    ] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only these: prefix=PATH, owner=NAME, since=DATE, until=DATE."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Tracks between two pauses.")] = 1000,
    pause: Annotated[float, typer.Option(min=0, help="Seconds to rest after each batch.")] = 0,
    bandwidth: Annotated[
        str | None, typer.Option(help="Bytes per second at most, as 500k, 10M or 1G.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Move tracks from one store to another; says what is due unless told to --execute."""
    options = options_of(context)
    if delete_after and not execute:
        raise SettingsError("--delete-after needs --execute")
    settings = options.local_settings("migrate")
    fields = {
        "source": source,
        "target": target,
        "delete_after": delete_after,
        "batch": batch,
        "pause_seconds": pause,
        "bytes_per_second": _rate(bandwidth),
    }
    moved = run(options, _migrate(settings, fields, _filters(where or []), execute=execute))
    say_json(_json(moved, fields, execute)) if as_json else _say(moved, fields, execute)
    if execute and not moved.complete:
        raise typer.Exit(FAILED)


async def _migrate(
    settings: Settings, fields: dict[str, Any], filters: dict[str, Any], *, execute: bool
) -> Moved:
    # Not above: SQL, which other verbs need not.
    from soundkeep.build import opened  # noqa: PLC0415
    from soundkeep.catalog.moving import Selection  # noqa: PLC0415
    from soundkeep.copies.migrating import Move  # noqa: PLC0415

    move = Move(**fields, which=Selection(**filters))
    async with opened(settings) as house:
        return await (_moved(house, move) if execute else house.migrator.look(move))


async def _moved(house: House, move: Move) -> Moved:
    """Sidecars are written, and what was withdrawn is removed, before this ends."""
    from soundkeep.worker import settled  # noqa: PLC0415

    with byte_progress() as progress:
        task = progress.add_task(f"{move.source} to {move.target}", total=None)
        if not progress.disable:
            progress.update(task, total=(await house.migrator.look(move)).bytes)
        moved = await house.migrator.run(move, lambda count: progress.advance(task, count))
    await settled(house, SETTLE_SECONDS)
    return moved


def _filters(said: list[str]) -> dict[str, Any]:
    """What `--where` says. Raises `SettingsError`."""
    found: dict[str, Any] = {}
    for each in said:
        name, equals, value = each.partition("=")
        if not equals or name not in FIELDS:
            raise SettingsError(f"--where is one of {', '.join(FIELDS)}, as prefix=book/")
        found[name] = _moment(value) if name in ("since", "until") else value
    return found


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--where: {text!r} is no date, as 2026-01-31") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    match = RATE.match(text)
    if match is None or not float(match[1]):
        raise SettingsError(f"--bandwidth: {text!r} is no rate, as 500k, 10M or 1G")
    return float(match[1]) * UNITS[match[2]]


def _json(moved: Moved, fields: dict[str, Any], executed: bool) -> Document:
    figures = {
        "tracks": moved.tracks,
        "bytes": moved.bytes,
        "there": moved.there,
        "due": moved.due,
        "due_bytes": moved.due_bytes,
        "refused": moved.refused,
        "refusals": [
            {"track_id": track_id, "code": why.code, "detail": str(why)}
            for track_id, why in moved.refusals
        ],
        "speech_copies": moved.nameless,
    }
    done = {
        "copied": moved.copied,
        "copied_bytes": moved.copied_bytes,
        "waiting": moved.waiting,
        "withdrawn": moved.withdrawn,
        "seconds": round(moved.seconds, 3),
    }
    estimate = {"estimate_seconds": moved.estimate_seconds}
    where = {"from": fields["source"], "to": fields["target"], "executed": executed}
    return {**where, **figures, **(done if executed else estimate)}


def _say(moved: Moved, fields: dict[str, Any], executed: bool) -> None:
    source, target = fields["source"], fields["target"]
    say(f"{source} has {moved.tracks} tracks of these, {size(moved.bytes)}")
    say(f"{target} has {moved.there} of them; {moved.due} ({size(moved.due_bytes)}) were not there")
    if executed:
        say(f"copied {moved.copied}, {size(moved.copied_bytes)}, in {moved.seconds:.1f} s")
        if fields["delete_after"]:
            say(f"withdrew {moved.withdrawn} from {source}; `soundkeep status` says what has left")
    elif moved.estimate_seconds is not None:
        say(f"copying them takes about {duration(moved.estimate_seconds)}; --execute does it")
    for track_id, why in moved.refusals:
        complain(f"{track_id}: {why}")
    if moved.waiting:
        complain(f"{moved.waiting} are still to be copied: run it again to go on")
    if moved.nameless:
        say(f"{moved.nameless} copies there are speech: policy.keep says where those lie")
