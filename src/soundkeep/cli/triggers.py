"""`triggers`: what other programs ask for, and the SQL by which their tables ask."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import printable, say, say_json
from soundkeep.errors import NoSuchStore, SettingsError
from soundkeep.settings import Settings

if TYPE_CHECKING:
    from soundkeep.catalog.errands import Errand

app = typer.Typer(help="Let other programs ask for things.", no_args_is_help=True)

MOST = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TABLE = re.compile(rf"{_NAME.pattern}(?:\.{_NAME.pattern})?")

SQL = """\
-- Rows that other programs insert into {table} become errands of Soundkeep, in the transaction that
-- inserts them: none is lost, whether or not Soundkeep runs. Run it as a role that may write to
-- Soundkeep's table `errands`; running it again changes nothing.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF NEW.{column} IS NOT NULL THEN
        INSERT INTO {schema}.errands (chore, store, {field})
            VALUES ('{chore}', '{store}', NEW.{column}::text);
        PERFORM pg_notify('{channel}', '');
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS {function} ON {table};
CREATE TRIGGER {function} AFTER INSERT OR UPDATE OF {column} ON {table}
    FOR EACH ROW EXECUTE FUNCTION {function}();
"""


@app.command("sql")
def sql(
    context: typer.Context,
    table: Annotated[str, typer.Argument(help="The table they insert into, as schema.table.")],
    store: Annotated[str, typer.Option(help="The store that it is about.")],
    key: Annotated[str | None, typer.Option(help="The column with the key to adopt.")] = None,
    track: Annotated[str | None, typer.Option(help="Or with the id of the track to sync.")] = None,
    schema: Annotated[str, typer.Option(help="Where Soundkeep's own tables are.")] = "public",
) -> None:
    """Print the SQL of a PostgreSQL trigger: what other programs insert is adopted, or synced."""
    from soundkeep.catalog.database import NOTIFY_CHANNEL  # noqa: PLC0415 - SQL

    settings = options_of(context).local_settings("triggers sql")
    if store not in settings.stores:
        raise NoSuchStore(f"there is no store {store!r}; there are {', '.join(settings.stores)}")
    if (key is None) == (track is None):
        raise SettingsError("name the column: --key or --track")
    column = key or track or ""
    for name, pattern in ((table, _TABLE), (column, _NAME), (schema, _NAME)):
        if not pattern.fullmatch(name):
            raise SettingsError(f"{name!r} is no plain name of a table or a column")
    chore, field = ("adopt", "key") if key else ("sync", "track_id")
    function = f"soundkeep_{chore}_{table.replace('.', '_')}"[:63]
    names = {"table": table, "column": column, "schema": schema, "function": function}
    say(SQL.format(chore=chore, field=field, store=store, channel=NOTIFY_CHANNEL, **names))


@app.command("refused")
def refused(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what was asked for and cannot be done, the last first."""
    options = options_of(context)
    found = run(options, _refused(options.local_settings("triggers refused")))
    if as_json:
        names = ("store", "key", "track_id", "last_error")
        say_json({"items": [{name: getattr(each, name) for name in names} for each in found]})
        return
    for each in found:
        say(f"{each.store}  {printable(each.key or each.track_id or '')}: {each.last_error}")


async def _refused(settings: Settings) -> list[Errand]:
    from soundkeep.build.ground import opened_catalog  # noqa: PLC0415 - SQL
    from soundkeep.catalog import errands  # noqa: PLC0415

    async with AsyncExitStack() as closing:
        catalog = await opened_catalog(settings, closing)
        return await catalog.read(errands.refused, MOST)
