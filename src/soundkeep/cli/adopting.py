"""`adopt`: registers what lies in a store already, where it is; run it again to go on.

What was adopted is known by its key, and not read again. The store itself is only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import byte_progress, complain, printable, say, say_json, size
from soundkeep.cli.service import Document
from soundkeep.errors import NoSuchStore, SettingsError
from soundkeep.model import Visibility
from soundkeep.names import DEFAULT_OWNER, owner_name
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.intake.adopting import Adopted, Adoption

SETTLE_SECONDS = 60.0
SHOWN = 20


def adopt(
    context: typer.Context,
    store: Annotated[str, typer.Argument(help="The store they lie in.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="These alone, or CIDs.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    owner: Annotated[
        str, typer.Option(help="Whose they are, where nothing there says it.")
    ] = DEFAULT_OWNER,
    visibility: Annotated[
        Visibility | None,
        typer.Option(help="Who may hear them; if left out public in a public store, else private."),
    ] = None,
    sidecars: Annotated[
        str | None,
        typer.Option(help="Where the JSON of a track lies; if left out the store's sidecar_key."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read no sound; only say what would be adopted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Register the sounds that lie in a store already, as tracks under their own keys and ids."""
    options = options_of(context)
    settings = options.local_settings("adopt")
    if store not in settings.stores:
        raise NoSuchStore(f"there is no store {store!r}; there are {', '.join(settings.stores)}")
    if settings.stores[store].public and visibility is Visibility.PRIVATE:
        raise SettingsError(f"{store} is a public store: nothing of a private track may lie there")
    if keys and prefix:
        raise SettingsError("name keys, or a --prefix")
    from soundkeep.copies.placement import Layout  # noqa: PLC0415 - SQL
    from soundkeep.intake.adopting import Adoption  # noqa: PLC0415

    what = Adoption(
        store,
        prefix,
        tuple(keys or ()),
        owner=owner_name(owner),
        visibility=visibility,
        sidecars=Layout.parse_sidecars(
            sidecars or settings.stores[store].sidecar_key, public=settings.stores[store].public
        ),
        dry_run=dry_run,
    )
    adopted = run(options, _adopt(settings, what))
    say_json(_json(adopted, what)) if as_json else _say(adopted, what)
    if adopted.left_count:
        raise typer.Exit(FAILED)


async def _adopt(settings: Settings, what: Adoption) -> Adopted:
    """The copies in other stores are made before this ends, as far as they allow."""
    from soundkeep.build import opened  # noqa: PLC0415 - SQL
    from soundkeep.worker import settled  # noqa: PLC0415

    async with opened(settings) as house:
        with byte_progress() as progress:
            task = progress.add_task(f"adopting from {what.store}", total=None)
            adopted = await house.adopter.run(what, lambda count: progress.advance(task, count))
        if not what.dry_run and not await settled(house, SETTLE_SECONDS):
            complain("copies are still to be made: `soundkeep status` says where they stand")
    return adopted


def _json(adopted: Adopted, what: Adoption) -> Document:
    return {
        "store": what.store,
        "dry_run": what.dry_run,
        "adopted": adopted.adopted,
        "adopted_bytes": adopted.bytes,
        "there_already": adopted.there,
        "refused_count": adopted.left_count,
        "refused": [{"key": e.key, "code": e.code, "why": e.why} for e in adopted.left],
    }


def _say(adopted: Adopted, what: Adoption) -> None:
    verb = "would be adopted" if what.dry_run else "adopted"
    say(
        f"{adopted.adopted} objects ({size(adopted.bytes)}) of {what.store} {verb};"
        f" {adopted.there} were there already; {adopted.left_count} refused"
    )
    for left in adopted.left[:SHOWN]:
        say(f"refused  {printable(left.key)}: {left.why}")
    if adopted.left_count > SHOWN:
        say(f"         and {adopted.left_count - SHOWN} more; --json names the first thousand")
