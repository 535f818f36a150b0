"""`stores list`, `stores init`, `stores test`: how each store is, one made ready, one put to the
contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import complain, say, say_json, say_rows
from soundkeep.cli.service import Document
from soundkeep.errors import NoSuchStore
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.stores.interface import Store
    from soundkeep.testing.contract import Outcome

app = typer.Typer(help="See and test stores.", no_args_is_help=True)


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
            str(table["state"]),
        )
        for table in tables
    )
    say_rows(("name", "kind", "policy", "who", "key", "state"), rows)
    for table in tables:
        if table["error"] is not None:
            say(f"{table['name']} is out: {table['error']}")


async def _status(options: Options) -> Document:
    """Whoever opens the catalog looks at every store first, so this is how they are now."""
    async with options.service() as service:
        return await service.status()


@app.command("init")
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A store of the settings.")],
) -> None:
    """Make what a store needs, mark it, and print what is left for a person to do."""
    options = options_of(context)
    settings = options.local_settings("stores init")
    _check_name(settings, name)
    script = run(options, _prepare(settings, name))
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
    from soundkeep.testing.contract import run_contract  # noqa: PLC0415 - as below

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
