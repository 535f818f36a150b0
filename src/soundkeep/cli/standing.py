"""`status`, `check`, `stores`, `settings`, `doctor`: how things stand."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Table

from soundkeep.build import opened
from soundkeep.cli import doctor as doctors
from soundkeep.cli import selftest
from soundkeep.cli.app import Options, app
from soundkeep.cli.doors import Json, door, only_here
from soundkeep.cli.running import WENT_WRONG, out, print_json, run, size_text
from soundkeep.errors import NoSuchStore
from soundkeep.settings import Settings
from soundkeep.testing.contract import Outcome, run_contract

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]

stores_app = typer.Typer(help="The stores: list them, or test one.", no_args_is_help=True)
app.add_typer(stores_app, name="stores")


@app.command()
def status(
    context: typer.Context,
    failed: Annotated[bool, typer.Option("--failed", help="Only copies that failed.")] = False,
    json: AsJson = False,
) -> None:
    """How many tracks there are, and how many copies in each store."""
    found = run(_status(context.obj))
    if json:
        print_json(found["failing"] if failed else found)
        return
    if not failed:
        _say_status(found)
        for line in _one_device(context.obj):
            out.print(line, markup=False)
    for copy in found["failing"]:
        where = f"{copy['store']}/{copy['key']}"
        out.print(
            f"failed {copy['attempts']}x, next {copy['due_at']}: {where}: {copy['last_error']}",
            markup=False,
        )


@app.command()
def check(context: typer.Context, json: AsJson = False) -> None:
    """Count whether every copy is where it should be; exit 1 if not."""
    found = run(_check(context.obj))
    if json:
        print_json(found)
    else:
        _say_status(found | {"stores": _named(found["stores"])})
        for copy in found["missing_copies"]:
            why = f": {copy['last_error']}" if copy["last_error"] else ""
            out.print(
                f"missing: {copy['store']}/{copy['key']} is {copy['state']}{why}", markup=False
            )
        out.print("all copies are where they should be" if found["passed"] else "NOT all is well")
    raise typer.Exit(0 if found["passed"] else WENT_WRONG)


@stores_app.command(name="list")
def list_stores(context: typer.Context, json: AsJson = False) -> None:
    """Each store and its health; exit 1 if one is out."""
    stores = run(_status(context.obj))["stores"]
    if json:
        print_json(stores)
    else:
        _say_stores(stores)
    raise typer.Exit(WENT_WRONG if any(store["state"] == "out" for store in stores) else 0)


@stores_app.command(name="test")
def test_store(context: typer.Context, name: str) -> None:
    """Run the contract suite against a configured store; it cleans up after itself."""
    only_here(context.obj, "stores test")
    outcomes = run(_test(context.obj.settings(), name))
    for outcome in outcomes:
        verdict = f"FAILED: {outcome.error}" if outcome.error else "ok"
        out.print(f"{outcome.sentence}: {verdict}", markup=False)
    raise typer.Exit(WENT_WRONG if any(outcome.error for outcome in outcomes) else 0)


@app.command(name="settings")
def show_settings(context: typer.Context) -> None:
    """Print the settings in force as JSON; secrets are not shown."""
    only_here(context.obj, "settings")
    print_json(_plain(context.obj.settings().model_dump()))


@app.command()
def doctor(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="Try ranges and caching of any server's audio URL.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Examine this installation and name the next step; or any server, with --url."""
    options: Options = context.obj
    address = url or options.url
    if address:
        findings = run(selftest.examine(address, options.key))
    else:
        findings = run(doctors.examine(options))
    if json:
        print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            out.print(finding.line(), markup=False)
    raise typer.Exit(WENT_WRONG if any(finding.verdict == "fail" for finding in findings) else 0)


async def _status(options: Options) -> Json:
    async with door(options) as keep:
        return await keep.status()


async def _check(options: Options) -> Json:
    async with door(options) as keep:
        return await keep.check()


async def _test(settings: Settings, name: str) -> list[Outcome]:
    async with opened(settings) as house:
        store = house.keep.stores.get(name)
        if store is None:
            raise NoSuchStore(f"there is no store {name}")
        return await run_contract(store, prefix=f"soundkeep-test-{secrets.token_hex(4)}/")


def _say_status(found: Json) -> None:
    out.print(
        f"{found['tracks']} tracks, {found['blobs']} blobs, {size_text(found['bytes'])}; "
        f"{found['missing']} copies missing, {found['temporary']} tracks temporary "
        f"(counted {found['counted_at']})"
    )
    _say_stores(found["stores"])


def _say_stores(stores: list[Json]) -> None:
    table = Table("store", "state", "copies", "bytes", "why", box=None)
    for store in stores:
        copies = ", ".join(f"{number} {state}" for state, number in store["copies"].items())
        table.add_row(
            store["name"],
            store.get("state", ""),
            copies or "none",
            size_text(store["bytes_present"]),
            store.get("error") or "",
        )
    out.print(table)


def _named(shares: list[Json]) -> list[Json]:
    return [{**share, "name": share["store"], "copies": share["states"]} for share in shares]


def _one_device(options: Options) -> list[str]:
    """Says so when every copy is on one disk: a backup there survives a fault, not the disk."""
    if options.url:
        return []
    return [f"note: {text}" for text in doctors.shared_device(options.settings())]


def _plain(value: Any) -> Any:
    """Settings as JSON can show them, without secrets."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, SecretStr):
        return "********"
    return value if isinstance(value, str | int | float | bool | None) else str(value)
