"""The command line: verbs on a data directory itself, or with `--url` on a server.

Each file holds a group of verbs; `service` is what those that work on both sides ask for, with
`local` and `remote` behind it. What can go wrong is one line on stderr and an exit code of the
table in `failures`; `docs/cli.md` lists every verb and option.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import soundkeep
from soundkeep.cli import (
    adding,
    adopting,
    examining,
    importing,
    migrating,
    orphans,
    plans,
    rebuilding,
    removing,
    rendering,
    scrubbing,
    serving,
    showing,
    speaking,
    standing,
    stores,
    syncing,
    triggers,
)
from soundkeep.cli import settings as settings_verb
from soundkeep.cli.failures import exit_code, sentence
from soundkeep.cli.options import Options
from soundkeep.cli.output import complain

app = typer.Typer(
    help="Keeps audio so that it always plays and is never lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("serve")(serving.serve)
app.command("work")(serving.work)
app.command("add")(adding.add)
app.command("import")(importing.import_)
app.command("ls")(showing.ls)
app.command("show")(showing.show)
app.command("get")(showing.get)
app.command("say")(speaking.say)
app.command("voices")(speaking.voices)
app.command("rm")(removing.rm)
app.command("sync")(syncing.sync)
app.command("migrate")(migrating.migrate)
app.command("adopt")(adopting.adopt)
app.command("render")(rendering.render)
app.command("status")(standing.status)
app.command("check")(standing.check)
app.command("scrub")(scrubbing.scrub)
app.command("orphans")(orphans.orphans)
app.command("retry")(standing.retry)
app.command("rebuild")(rebuilding.rebuild)
app.command("settings")(settings_verb.settings)
app.command("doctor")(examining.doctor)
app.add_typer(stores.app, name="stores")
app.add_typer(plans.app, name="plans")
app.add_typer(triggers.app, name="triggers")


def main() -> None:
    """The program: runs the command line and ends with its exit code."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files
    try:
        app()
    except Exception as error:
        complain(sentence(error))
        sys.exit(exit_code(error))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"soundkeep {soundkeep.__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Settings file (TOML).", envvar="SOUNDKEEP_CONFIG")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Work on this server.", envvar="SOUNDKEEP_URL")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The server's admin key.", envvar="SOUNDKEEP_KEY")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before every verb."""
    context.obj = Options(config=config, data=data, url=url, key=key, verbose=verbose)
