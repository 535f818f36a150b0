"""The command itself, and the options that stand before every verb."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from soundkeep import __version__, settings
from soundkeep.cli.running import log_to_stderr

app = typer.Typer(
    name="soundkeep",
    help="Keeps audio so that it always plays and is never lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the verb."""

    config: Path | None
    data: Path | None
    url: str | None
    key: str | None
    verbose: bool

    def settings(self) -> settings.Settings:
        """The settings of this machine. Raises `SettingsError`."""
        found = settings.load(self.config)
        return found.model_copy(update={"data": self.data}) if self.data else found


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"soundkeep {__version__}")
        raise typer.Exit


@app.callback()
def before(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="The settings file.", envvar="SOUNDKEEP_CONFIG")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data directory.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Work on this server.", envvar="SOUNDKEEP_URL")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The server's admin key.", envvar="SOUNDKEEP_KEY")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what is being done.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And no more.")
    ] = False,
) -> None:
    """Keeps audio so that it always plays and is never lost."""
    log_to_stderr(verbose=verbose)
    context.obj = Options(config, data, url, key, verbose)
