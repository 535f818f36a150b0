"""`status`, `check` and `retry`: how things stand, whether all is well, and try it now."""

from __future__ import annotations

from typing import Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import complain, say, say_json, say_rows, size
from soundkeep.cli.service import MAX_PAGE, Document

SETTLE_SECONDS = 30.0
STATES = ("present", "wanted", "doubted", "unwanted")
NOWHERE = (
    "belong in no store: what they have stays, and is not repaired; `soundkeep sync` to one that "
    "may have them"
)
HEADERS = ("store", "kind", "state", *STATES, "resting", "failing", "bytes", "sidecars")


def status(
    context: typer.Context,
    failed: Annotated[
        bool, typer.Option("--failed", help="List the copies whose last attempt failed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how things stand: copies in each store, and each store's health."""
    options = options_of(context)
    if failed:
        copies = run(options, _failing(options))
        say_json({"items": copies}) if as_json else _say_failing(copies)
        return
    document = run(options, _status(options))
    say_json(document) if as_json else _say_status(document)


async def _status(options: Options) -> Document:
    async with options.service() as service:
        return await service.status()


async def _failing(options: Options) -> list[Document]:
    async with options.service() as service:
        return await service.failing(MAX_PAGE)


def check(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that every copy and sidecar is where it should be; exit 1 if not."""
    options = options_of(context)
    document = run(options, _check(options))
    say_json(document) if as_json else _say_check(document)
    if not document["passed"]:
        raise typer.Exit(FAILED)


async def _check(options: Options) -> Document:
    async with options.service() as service:
        return await service.check()


def retry(
    context: typer.Context,
    id: Annotated[str | None, typer.Argument(help="Only this track's.")] = None,
    store: Annotated[str | None, typer.Option(help="Only in this store.")] = None,
) -> None:
    """Make waiting work due now, and do it unless a server does."""
    options = options_of(context)
    due = run(options, _retry(options, id, store))
    say(f"{due} rows are due now" if due != 1 else "1 row is due now")


async def _retry(options: Options, track_id: str | None, store: str | None) -> int:
    async with options.service() as service:
        due = await service.retry(track_id, store)
        await service.settle(SETTLE_SECONDS)
        return due


def _say_status(document: Document) -> None:
    say(
        f"{document['tracks']} tracks, {document['blobs']} blobs, {size(document['bytes'])};"
        f" counted at {document['counted_at']}"
    )
    say_rows(HEADERS, map(_store_row, document["stores"]))
    for store in document["stores"]:
        _say_store(store)
    if document["missing"]:
        say(f"{document['missing']} copies are still to be made")
    if document["unwritten"]:
        say(f"{document['unwritten']} sidecars are still to be written")
    if document["temporary"]:
        say(f"{document['temporary']} tracks are temporary: only the inbox has them")
    if document["unplaced"]:
        say(f"{document['unplaced']} tracks {NOWHERE}")
    if document["failing"]:
        say("the last attempt failed for some copies: `soundkeep status --failed`")
    for sidecar in document["failing_sidecars"]:
        say(f"{sidecar['store']}  {sidecar['key']}: {sidecar['last_error']}")
    if refused := document["refused_errands"]:
        say(f"{refused} errands of other programs cannot be done: `soundkeep triggers refused`")
    if document["one_device"]:
        say("every copy lies on one device of this machine: its loss would be the loss of all")


def _say_store(store: Document) -> None:
    if store["state"] == "out":
        say(f"{store['name']} is out since {store['out_since']}: {store['error']}")
    if store["draining_since"]:
        left = sum(store["copies"].values())
        say(f"{store['name']} is being drained since {store['draining_since']}: {left} left")
    if unhealed := store["scrub"]["unhealed"]:
        say(f"{unhealed} copies that a scrub of {store['name']} found wrong are not healed yet")


def _store_row(store: Document) -> tuple[str, ...]:
    return (
        store["name"],
        store["kind"] or "",
        store["state"],
        *(str(store["copies"].get(state, 0)) for state in STATES),
        str(store["resting"]),
        str(store["failing"]),
        size(store["bytes_present"]),
        _sidecars(store["sidecars"]),
    )


def _sidecars(numbers: Document) -> str:
    """Those that are written; others are named."""
    others = (f"{numbers[name]} {name}" for name in ("due", "failing") if numbers[name])
    return ", ".join([str(numbers["written"]), *others])


def _say_failing(copies: list[Document]) -> None:
    rows = (
        (
            copy["store"],
            copy["key"],
            str(copy["attempts"]),
            copy["due_at"] or "",
            copy["last_error"],
        )
        for copy in copies
    )
    say_rows(("store", "key", "attempts", "next", "why"), rows)
    if not copies:
        complain("no copy's last attempt failed")


def _say_check(document: Document) -> None:
    if document["passed"]:
        say(f"passed: every copy of {document['tracks']} tracks is where it should be")
        return
    say(
        f"not passed: {document['missing']} copies are missing,"
        f" {document['unwritten']} sidecars are not written,"
        f" {document['temporary']} tracks are in an inbox only"
    )
    if document["unplaced"]:
        say(f"{document['unplaced']} tracks {NOWHERE}")
        for track_id in document["unplaced_tracks"]:
            say(f"  {track_id}")
    for copy in document["missing_copies"]:
        why = f": {copy['last_error']}" if copy["last_error"] else ""
        say(f"  {copy['store']}  {copy['key']}  {copy['state']}{why}")
    for sidecar in document["unwritten_sidecars"]:
        why = f": {sidecar['last_error']}" if sidecar["last_error"] else ""
        say(f"  {sidecar['store']}  {sidecar['key']}  {sidecar['state']}{why}")
