"""The kinds of store, as one visible table of settings; `stores/kinds.py` makes them.

Those of this machine and of databases stand here, the others in `buckets` and `ipfs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from soundkeep.settings.addresses import safe_address
from soundkeep.settings.buckets import CloudStoreSettings, S3StoreSettings, SupabaseStoreSettings
from soundkeep.settings.ipfs import IpfsStoreSettings
from soundkeep.settings.secrets import SecretReference
from soundkeep.settings.store_table import StoreTable

STORE_KINDS = ("memory", "local", "database", "s3", "turso", "ipfs", "supabase", "cloud")


class MemoryStoreSettings(StoreTable):
    """A dictionary. For tests; what it holds dies with the process."""

    kind: Literal["memory"]


class LocalStoreSettings(StoreTable):
    """A directory."""

    kind: Literal["local"]
    path: Path


class DatabaseStoreSettings(StoreTable):
    """Rows in SQLite or PostgreSQL. Without a URL: the catalog's own kind of database."""

    kind: Literal["database"]
    url: SecretStr | None = None
    path: Path | None = None  # of a SQLite file
    schema_name: str = Field("soundkeep_store", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")


class TursoStoreSettings(StoreTable):
    """A libSQL database over HTTP: at Turso, or a server of one's own."""

    kind: Literal["turso"]
    url: Annotated[str, AfterValidator(safe_address)] = Field(
        pattern=r"^(libsql|https?)://[^\s?#@]+$"
    )
    token: SecretReference | None = None


StoreSettings = Annotated[
    MemoryStoreSettings
    | LocalStoreSettings
    | DatabaseStoreSettings
    | S3StoreSettings
    | TursoStoreSettings
    | IpfsStoreSettings
    | SupabaseStoreSettings
    | CloudStoreSettings,
    Field(discriminator="kind"),
]
