"""`scrub`: what scrubs have found so far, or with `--now` a look at every copy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import byte_progress, complain, say, say_json, say_rows, size
from soundkeep.cli.service import Document
from soundkeep.errors import NoSuchStore
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.catalog.scrubs import Find
    from soundkeep.copies.scrubbing import Scrubbed

SETTLE_SECONDS = 300.0
HEADERS = (
    "store",
    "mode",
    "full pass",
    "oldest proof",
    "copies",
    "bytes",
    "found",
    "healed",
    "unhealed",
)


def scrub(
    context: typer.Context,
    store: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Look at every copy now, whatever the budget.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what scrubs have found; with --now look at every copy, and mend what is wrong."""
    options = options_of(context)
    if not now:
        figures = run(options, _figures(options, store))
        say_json({"items": figures}) if as_json else say_rows(HEADERS, map(_row, figures))
        return
    document = run(options, _scrub(options.local_settings("scrub --now"), store))
    say_json(document) if as_json else _say(document)
    if not document["passed"]:
        raise typer.Exit(FAILED)


async def _figures(options: Options, store: str | None) -> list[Document]:
    async with options.service() as service:
        stores = (await service.status())["stores"]
    if store is not None and store not in {each["name"] for each in stores}:
        raise NoSuchStore(f"there is no store {store}")
    return [
        {"store": each["name"], **each["scrub"]}
        for each in stores
        if each["scrub"]["mode"] is not None and store in (None, each["name"])
    ]


async def _scrub(settings: Settings, store: str | None) -> Document:
    """Looks at everything, and then mends what was wrong."""
    from soundkeep.build import opened  # noqa: PLC0415 - SQL
    from soundkeep.catalog import scrubs  # noqa: PLC0415
    from soundkeep.worker import settled  # noqa: PLC0415

    if store is not None and store not in settings.stores:
        raise NoSuchStore(f"there is no store {store!r}; there are {', '.join(settings.stores)}")
    began = time.monotonic()
    async with opened(settings) as house:
        catalog = house.keep.catalog
        began_at = await catalog.read(lambda tx: tx.now())
        with byte_progress() as progress:
            task = progress.add_task("scrub", total=None)
            done = await house.scrubber.now(
                [store] if store else None, lambda count: progress.advance(task, count)
            )
        if any(one.found for one in done):
            await settled(house, SETTLE_SECONDS)
        found = await catalog.read(scrubs.found_since, began_at)
    return _document(done, found, time.monotonic() - began)


def _document(done: list[Scrubbed], found: list[Find], seconds: float) -> Document:
    return {
        "passed": not any(one.found or one.unread or one.out for one in done),
        "seconds": round(seconds, 3),
        "healed": sum(find.healed_at is not None for find in found),
        "unhealed": sum(find.is_open for find in found),
        "stores": [
            {
                "store": one.store,
                "mode": one.mode,
                "copies": one.copies,
                "bytes": one.bytes,
                "found": one.found,
                "unread": one.unread,
                "out": one.out,
            }
            for one in done
        ],
        "found": [
            {
                "store": find.store,
                "key": find.key,
                "digest": find.digest.hex,
                "why": find.why,
                "healed": find.healed_at is not None,
                "unhealed": find.is_open,
            }
            for find in found
        ],
    }


def _say(document: Document) -> None:
    for one in document["stores"]:
        say(
            f"{one['store']}: {one['copies']} copies looked at, {size(one['bytes'])} read,"
            f" {one['found']} wrong"
        )
        if one["unread"]:
            complain(f"{one['store']} could not be asked about {one['unread']} copies")
    for find in document["found"]:
        say(f"  {find['store']}  {find['key']}: {find['why']}{_became(find)}")
    say(f"{document['healed']} of {len(document['found'])} are healed; {document['seconds']:.1f} s")


def _became(find: Document) -> str:
    if find["healed"]:
        return ", healed"
    return "" if find["unhealed"] else ", its copy has left since"


def _row(figures: Document) -> tuple[str, ...]:
    return (
        figures["store"],
        figures["mode"],
        figures["full_pass_at"] or "never",
        figures["oldest_proof_at"] or "",
        str(figures["copies_read"]),
        size(figures["bytes_read"]),
        str(figures["found"]),
        str(figures["healed"]),
        str(figures["unhealed"]),
    )
