"""`stores`: how each is, one made ready, one put to the contract, one emptied and forgotten."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import complain, say, say_json, say_rows, size
from soundkeep.cli.service import Document
from soundkeep.errors import NoSuchStore
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.copies.forgetting import Held
    from soundkeep.stores.interface import Store
    from soundkeep.testing.running import Outcome

SETTLE_SECONDS = 30.0

app = typer.Typer(help="See, test, empty and forget stores.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the stores of the settings, and whether each can be used now."""
    options = options_of(context)
    settings = options.local_settings("stores list")
    health = {store["name"]: store for store in run(options, _status(options))["stores"]}
    tables = [
        {
            "name": name,
            "kind": table.kind,
            "keep": name in settings.policy.keep,
            "public": table.public,
            "key": table.key,
            "state": health[name]["state"],
            "error": health[name]["error"],
            "draining_since": health[name]["draining_since"],
            "leaving": health[name]["leaving"],
        }
        for name, table in settings.stores.items()
    ]
    if as_json:
        say_json(tables)
        return
    rows = (
        (
            str(table["name"]),
            str(table["kind"]),
            "kept in" if table["keep"] else "not in policy.keep",
            "public" if table["public"] else "private",
            str(table["key"]),
            f"{table['state']}, draining" if table["draining_since"] else str(table["state"]),
        )
        for table in tables
    )
    say_rows(("name", "kind", "policy", "who", "key", "state"), rows)
    for table in tables:
        if table["error"] is not None:
            say(f"{table['name']} is out: {table['error']}")
        if table["draining_since"] is not None:
            say(
                f"{table['name']} is being drained: {table['leaving']} copies are still to leave it"
            )


async def _status(options: Options) -> Document:
    """Whoever opens the catalog looks at every store first, so this is how they are now."""
    async with options.service() as service:
        return await service.status()


@app.command("init")
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A store of the settings.")],
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also if another catalog has it: no more, then.")
    ] = False,
) -> None:
    """Make what a store needs, mark it, and print what is left for a person to do."""
    options = options_of(context)
    settings = options.local_settings("stores init")
    _check_name(settings, name)
    script = run(options, _prepare(settings, name))
    if take_over:
        run(options, _take_over(settings, name))
    health = {store["name"]: store for store in run(options, _status(options))["stores"]}
    if health[name]["error"] is not None:
        complain(f"{name} is out: {health[name]['error']}")
        raise typer.Exit(FAILED)
    say(f"-- {name} is ready\n\n{script}" if script else f"{name} is ready")


async def _prepare(settings: Settings, name: str) -> str:
    """What a person may still do there, if anything. The rest is done by whoever opens the
    catalog: it marks a store, which makes directories and tables."""
    from soundkeep.stores.interface import Preparable  # noqa: PLC0415 - as below

    store = _made(settings, name)
    try:
        return await store.prepare() if isinstance(store, Preparable) else ""
    finally:
        await store.close()


async def _take_over(settings: Settings, name: str) -> None:
    from soundkeep.build.ground import opened_catalog  # noqa: PLC0415 - as below
    from soundkeep.copies import marking  # noqa: PLC0415 - as below

    async with AsyncExitStack() as closing:
        catalog = await opened_catalog(settings, closing)
        store = _made(settings, name)
        closing.push_async_callback(store.close)
        await marking.take_over(catalog, store, settings.stores[name].kind)


@app.command("test")
def test(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A store of the settings.")],
) -> None:
    """Try the whole store contract against a store in use; it tidies up behind itself."""
    options = options_of(context)
    settings = options.local_settings("stores test")
    _check_name(settings, name)
    outcomes = run(options, _test(settings, name))
    failed = sum(outcome.error is not None for outcome in outcomes)
    say(f"{len(outcomes) - failed} of {len(outcomes)} promises are kept by {name}")
    if failed:
        raise typer.Exit(FAILED)


async def _test(settings: Settings, name: str) -> list[Outcome]:
    from soundkeep.testing.running import run_contract  # noqa: PLC0415 - as below

    store = _made(settings, name)
    try:
        await store.probe()
        return await run_contract(store, heard=_say_outcome)
    finally:
        await store.close()


def _check_name(settings: Settings, name: str) -> None:
    if name not in settings.stores:
        raise NoSuchStore(f"there is no store {name!r}; there are {', '.join(settings.stores)}")


def _made(settings: Settings, name: str) -> Store:
    from soundkeep.stores.kinds import make_store  # noqa: PLC0415 - SQL, which `list` needs not

    return make_store(
        name, settings.stores[name], data=settings.data_directory, catalog_url=settings.catalog_url
    )


def _say_outcome(outcome: Outcome) -> None:
    word = "ok  " if outcome.error is None else "FAIL"
    say(f"{word}  {outcome.sentence} ({outcome.seconds:.1f} s)")
    if outcome.error is not None:
        text = " ".join(str(outcome.error).split()) or "what came is not what was promised"
        say(f"      {type(outcome.error).__name__}: {text}")


@app.command("drain")
def drain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A store of the settings.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the store as JSON.")] = False,
) -> None:
    """Empty a store: place nothing more there, and let what lies there leave by the copy law."""
    options = options_of(context)
    store = run(options, _drain(options, name))
    say_json(store) if as_json else _say_drained(store)


async def _drain(options: Options, name: str) -> Document:
    """Over a directory the work is begun here; what is left goes with the next worker."""
    async with options.service() as service:
        await service.drain(name)
        await service.settle(SETTLE_SECONDS)
        return await service.drain(name)


def _say_drained(store: Document) -> None:
    held = sum(store["copies"].values())
    if not held:
        say(f"{store['name']} is empty. Take it out of the settings, and forget it")
        return
    say(f"{store['name']} is being drained: {held} copies are still there")
    if store["failing"]:
        say("some cannot leave yet: `soundkeep status --failed` says why")


@app.command("resume")
def resume(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A store that is being drained.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the store as JSON.")] = False,
) -> None:
    """Use a store again that is being drained."""
    options = options_of(context)
    store = run(options, _resume(options, name))
    say_json(store) if as_json else say(f"{name} is in use")


async def _resume(options: Options, name: str) -> Document:
    async with options.service() as service:
        await service.resume(name)
        await service.settle(SETTLE_SECONDS)
        return await service.resume(name)


@app.command("forget")
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A store that is gone, or the inbox of a lost host.")],
    execute: Annotated[
        bool, typer.Option("--execute", help="Also if something is needed that only it has.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Forget a store that is no more; exit 1, and change nothing, if it is needed."""
    options = options_of(context)
    settings = options.local_settings("stores forget")
    held, forgotten = run(options, _forget(settings, name, execute=execute))
    if as_json:
        say_json(_held_json(name, held, forgotten=forgotten))
    else:
        _say_held(name, held, forgotten=forgotten)
    if not forgotten:
        raise typer.Exit(FAILED)


async def _forget(settings: Settings, name: str, *, execute: bool) -> tuple[Held, bool]:
    from soundkeep.build import opened  # noqa: PLC0415 - SQL

    async with opened(settings) as house:
        held = await house.forgetter.look(name)
        forgets = execute or not held.needed_copies
        if forgets:
            await house.forgetter.forget(name, needed_too=execute)
        return held, forgets


def _held_json(name: str, held: Held, *, forgotten: bool) -> Document:
    return {
        "name": name,
        "forgotten": forgotten,
        "copies": held.copies,
        "bytes": held.bytes,
        "needed_copies": held.needed_copies,
        "lost_copies": held.lost_copies,
        "lost_bytes": held.lost_bytes,
        "needed": [
            {
                "digest": needed.copy.digest.hex,
                "key": needed.copy.key,
                "size_bytes": needed.size_bytes,
                "others": needed.others,
                "lost": needed.lost,
                "tracks": [track.id for track in needed.tracks],
            }
            for needed in held.needed
        ],
    }


def _say_held(name: str, held: Held, *, forgotten: bool) -> None:
    for needed in held.needed:
        names = ", ".join(f"{track.id} ({track.path})" for track in needed.tracks) or "speech"
        how = "nobody else has it" if needed.lost else f"{needed.others} other stores have it"
        say(f"  {needed.copy.key}  {size(needed.size_bytes)}  {names}: {how}")
    if held.needed_copies > len(held.needed):
        say(f"  and {held.needed_copies - len(held.needed)} more")
    if forgotten:
        say(f"{name} is forgotten: {held.copies} copies, {size(held.bytes)}")
        return
    say(f"{name} is needed: {held.needed_copies} of its {held.copies} copies lack others")
    say(f"{held.lost_copies} ({size(held.lost_bytes)}) would be lost: --execute forgets all of it")
