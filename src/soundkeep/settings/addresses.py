"""Addresses in settings: of servers, of what everybody may read, and of databases.

One that a token is sent to has TLS or is on this machine; one that everybody sees has no password.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

from soundkeep.errors import SettingsError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _public_url(text: str) -> str:
    """An address without a slash at its end. It is shown to everybody, so it holds no password."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address begins with https:// or http:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("an address that everybody sees holds no user and no password")
    if not text.isascii() or not text.isprintable() or set(text) & set(" ?#"):
        raise ValueError("an address before keys is plain ASCII without ?, # or spaces")
    return text.rstrip("/")


PublicUrl = Annotated[str, AfterValidator(_public_url)]
ServerUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@]+$")]


def safe_address(text: str) -> str:
    """One to which a token may be sent: `http://` is for this machine alone."""
    parts = urlsplit(text)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("http:// is for this machine alone: a token would be read on the way")
    return text.rstrip("/")


TokenUrl = Annotated[ServerUrl, AfterValidator(safe_address)]


def database_url(text: str) -> str:
    """A database URL with our driver for PostgreSQL, psycopg 3."""
    for scheme in ("postgres://", "postgresql://"):
        if text.startswith(scheme):
            return f"postgresql+psycopg://{text.removeprefix(scheme)}"
    if not text.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise SettingsError("a database URL starts with sqlite:/// or postgresql://")
    return text
