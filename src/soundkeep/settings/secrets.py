"""Secrets, which settings name and do not hold: `env:NAME` or `file:PATH`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from soundkeep.errors import SettingsError


def _only_by_reference(secret: SecretStr) -> SecretStr:
    """The text itself would end up in backups and version control."""
    if not secret.get_secret_value().startswith(("env:", "file:")):
        raise ValueError("credentials are given as env:NAME or file:PATH, not as text")
    return secret


SecretReference = Annotated[SecretStr, AfterValidator(_only_by_reference)]


def reveal(secret: SecretStr) -> str:
    """The secret behind a reference: `env:NAME`, `file:PATH`, or the text itself."""
    text = secret.get_secret_value()
    kind, _, name = text.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if not value:
            raise SettingsError(f"the environment variable {name} is not set")
        return value
    if kind == "file":
        return _secret_file(Path(name))
    return text


def reveal_if_set(secret: SecretStr) -> str | None:
    """The secret behind a reference, or None if nothing is there: then what needs it is off."""
    kind, _, name = secret.get_secret_value().partition(":")
    if kind == "env" and not os.environ.get(name):
        return None
    return reveal(secret) or None


def _secret_file(path: Path) -> str:
    try:
        return path.expanduser().read_text().strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
