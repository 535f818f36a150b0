"""`orphans`: objects in the stores that no row knows, and rows that no object backs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from soundkeep import shown
from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import complain, say, say_json, size
from soundkeep.cli.service import Document
from soundkeep.errors import NoSuchStore, StoreError
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.catalog.orphans import Orphan
    from soundkeep.copies.orphans import Compared, Found

Item = TypeVar("Item")

SETTLE_SECONDS = 60.0
HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS


def orphans(
    context: typer.Context,
    store: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    execute: Annotated[
        bool,
        typer.Option("--execute", help="Remove old orphans, and write anew what is missing."),
    ] = False,
    older_than: Annotated[
        float,
        typer.Option(min=HOUR_SECONDS / DAY_SECONDS, help="Days since an orphan was first seen."),
    ] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what stores hold that no row knows, and what they lack; --execute puts it right."""
    options = options_of(context)
    settings = options.local_settings("orphans")
    if store is not None and store not in settings.stores:
        raise NoSuchStore(f"there is no store {store!r}; there are {', '.join(settings.stores)}")
    seconds = older_than * DAY_SECONDS if execute else None
    done, unlisted, failed = run(options, _compare(settings, store, seconds))
    if as_json:
        items = [_json(one) for one in done]
        say_json({"items": items, "unlisted": unlisted, "failed": failed})
    else:
        _say(done, executed=execute)
        for name in unlisted:
            say(f"{name}: cannot list what it holds, so it has no orphans that could be told")
    for name, why in failed.items():
        complain(f"{name}: {why}")
    if failed or (execute and any(one.unread.count for one in done)):
        raise typer.Exit(FAILED)


async def _compare(
    settings: Settings, only: str | None, older_than_seconds: float | None
) -> tuple[list[Compared], list[str], dict[str, str]]:
    """Each store; those of all that cannot be listed, as IPFS; and why those failed that did."""
    from soundkeep.build import opened  # noqa: PLC0415 - SQL
    from soundkeep.worker import settled  # noqa: PLC0415

    done: list[Compared] = []
    failed: dict[str, str] = {}
    async with opened(settings) as house:
        stores = house.keep.stores
        unlisted = [name for name in settings.stores if not only and not stores[name].caps.lists]
        for name in [only] if only else settings.stores:
            if name in unlisted:
                continue
            try:
                compared = await house.comparer.compare(name)
                done.append(compared)  # first: also what is done before an error is to be told
                if older_than_seconds is not None:
                    await house.comparer.mend(compared, older_than_seconds)
            except StoreError as error:
                failed[name] = f"{error.code}: {error}"
        if older_than_seconds is not None:
            await settled(house, SETTLE_SECONDS)
    return done, unlisted, failed


def _json(compared: Compared) -> Document:
    return {
        "store": compared.store,
        "objects": compared.objects,
        "orphan_count": compared.orphans.count,
        "orphan_bytes": compared.orphan_bytes,
        "orphans": [_orphan_json(orphan) for orphan in compared.orphans.named],
        "missing_count": compared.missing.count,
        "missing": [
            {
                "key": copy.key,
                "digest": copy.digest.hex,
                "verified_at": shown.when(copy.verified_at),
            }
            for copy in compared.missing.named
        ],
        "unread_count": compared.unread.count,
        "unread": compared.unread.named,
        "removed_count": compared.removed.count,
        "removed": [orphan.key for orphan in compared.removed.named],
        "removed_bytes": compared.removed_bytes,
        "doubted": compared.doubted,
    }


def _orphan_json(orphan: Orphan) -> Document:
    return {
        "key": orphan.key,
        "size_bytes": orphan.size_bytes,
        "first_seen_at": shown.when(orphan.first_seen_at),
    }


def _say(done: list[Compared], *, executed: bool) -> None:
    for compared in done:
        name, removed = compared.store, {orphan.key for orphan in compared.removed.named}
        say(
            f"{name}: {compared.objects} objects, {compared.orphans.count} orphans"
            f" ({size(compared.orphan_bytes)}), {compared.missing.count} rows without an object"
        )
        _say_unread(compared)
        for orphan in compared.orphans.named:
            days = (compared.now - orphan.first_seen_at) / DAY_SECONDS
            what = ", removed" if orphan.key in removed else ""
            say(f"  {orphan.key}  {size(orphan.size_bytes)}  seen for {days:.1f} days{what}")
        _say_more(compared.orphans, "orphans")
        if compared.removed.count:
            removed_size = size(compared.removed_bytes)
            say(f"  {compared.removed.count} orphans were removed ({removed_size})")
        for copy in compared.missing.named:
            say(f"  {copy.key}  is not there{', doubted' if executed else ''}")
        _say_more(compared.missing, "rows without an object")


def _say_unread(compared: Compared) -> None:
    """What keeps every orphan of the store where it is."""
    if compared.unread.count:
        name = compared.store
        complain(
            f"{name}: no orphan is removed while sidecars there ({compared.unread.count}) tell of"
            " what the catalog does not know: the sounds they tell of are among the orphans."
            f" `soundkeep rebuild --from {name}` (of a private store) takes in what they tell of,"
            " and changes nothing that the catalog knows. It names what it leaves: move away what"
            " is not wanted any more"
        )
        for locator in compared.unread.named:
            say(f"  {locator}  was never read")
        _say_more(compared.unread, "sidecars")


def _say_more(found: Found[Item], what: str) -> None:
    if found.count > len(found.named):
        say(f"  and {found.count - len(found.named)} more {what}")
