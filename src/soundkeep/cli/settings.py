"""`settings`: what is in force, with secrets masked, as TOML that can be a settings file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from soundkeep.cli.options import Options, options_of
from soundkeep.cli.output import say, say_json

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def settings(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the settings in force, and which file they come from."""
    options = options_of(context)
    table = options.local_settings("settings").model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    if as_json:
        say_json(table)
        return
    say(f"# {_origin(options)}")
    for line in toml_lines(table):
        say(line)


def _origin(options: Options) -> str:
    if options.config is None:
        return "no settings file: defaults and the environment"
    return f"from {options.config.absolute()} and the environment"


def toml_lines(table: dict[str, Any], name: str = "") -> Iterator[str]:
    """A table as TOML: its own values first, then the tables within."""
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    if name and len(tables) < len(table):
        yield ""
        yield f"[{name}]"
    for key, value in table.items():
        if key not in tables:
            yield f"{_key(key)} = {_value(value)}"
    for key, inner in tables.items():
        yield from toml_lines(inner, f"{name}.{_key(key)}" if name else _key(key))


def _key(text: str) -> str:
    return text if BARE_KEY.match(text) else json.dumps(text)


def _value(value: Any) -> str:
    """JSON's texts, numbers, truths and lists are TOML's too, but for DEL, which no setting has."""
    return json.dumps(value, ensure_ascii=False)
