"""Settings are read from a TOML file and the environment, and what is wrong is said in one line.

`SOUNDKEEP_CONFIG` names the file. A variable that names no setting is refused, and no value is
ever repeated in an error: it may be a secret.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError as PydanticSettingsError

from soundkeep.errors import SettingsError
from soundkeep.settings import Settings
from soundkeep.settings.speech import ENGINE_KINDS
from soundkeep.settings.stores import STORE_KINDS

ENVIRONMENT_ONLY = {"URL", "KEY"}  # of the command line: which server, and its key


def load(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the file (or that named by `SOUNDKEEP_CONFIG`) and the environment.

    Raises `SettingsError` with one line that says which field is wrong and why.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown_variables(environ)
    named = config or _path(environ.get("SOUNDKEEP_CONFIG"))
    table = _read_table(named) if named else {}
    try:
        return Settings(**table)
    except ValidationError as error:
        raise SettingsError(_one_line(error, named)) from None
    except PydanticSettingsError as error:
        raise SettingsError(f"the environment cannot be read as settings: {error}") from None


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """A misspelt variable would otherwise be passed over in silence."""
    known = {"CONFIG", *(name.upper() for name in Settings.model_fields)}
    for variable in environ:
        prefix, _, rest = variable.partition("SOUNDKEEP_")
        if not prefix and rest and rest.split("__")[0].upper() not in known | ENVIRONMENT_ONLY:
            raise SettingsError(f"the environment variable {variable} names no setting")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _read_table(path: Path) -> dict[str, Any]:
    try:
        with path.expanduser().open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None


def _one_line(error: ValidationError, path: Path | None) -> str:
    """The first fault, by its dotted name; never the value, which may be a secret."""
    fault = error.errors(include_input=False, include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"] if part not in STORE_KINDS + ENGINE_KINDS)
    message = fault["msg"].removeprefix("Value error, ")
    where = f"{path}: " if path else ""
    if fault["type"] == "extra_forbidden":
        message = "there is no such setting"
    return where + (f"{name}: {message}" if name else message)
