"""All settings, as one frozen object made from a TOML file and the environment.

The environment overrides the file: `SOUNDKEEP_POLICY__MIN_COPIES=2` sets `policy.min_copies`.
`SOUNDKEEP_DATA` names the data directory, `SOUNDKEEP_CATALOG` the database and
`SOUNDKEEP_ADMIN_KEY` the admin key. With no file at all there is a directory and a database backup
under one data directory. `sources` reads both.

What can be said about settings without asking a store is checked here and in the tables; checks
that need a store's capabilities are in `build`. `docs/settings.md` explains every field.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from soundkeep.settings.addresses import database_url
from soundkeep.settings.base import PLAIN_NAME
from soundkeep.settings.house import (
    HttpSettings,
    InboxSettings,
    LimitsSettings,
    PolicySettings,
    ReadingSettings,
    ScrubSettings,
    WorkerSettings,
)
from soundkeep.settings.outside import AliasesSettings, HookSettings, OutboundSettings
from soundkeep.settings.secrets import reveal
from soundkeep.settings.speech import SpeechSettings
from soundkeep.settings.stores import StoreSettings

INBOX_PREFIX = "inbox@"  # of the names by which the ledger knows the inboxes of hosts


def _default_stores() -> dict[str, Any]:
    return {
        "disk": {"kind": "local", "path": "audio"},
        "backup": {"kind": "database"},
    }


class Settings(BaseSettings):
    """Everything that can be set. Relative paths lie under `data`."""

    model_config = SettingsConfigDict(
        env_prefix="SOUNDKEEP_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    data: Path = Path("data")
    catalog: SecretStr | None = None  # database URL; without one: SQLite in the data directory
    admin_key: SecretStr | None = None  # a key, `env:NAME` or `file:PATH`
    host_name: str = Field(default_factory=socket.gethostname, min_length=1)

    http: HttpSettings = HttpSettings()
    policy: PolicySettings = PolicySettings()
    inbox: InboxSettings = InboxSettings()
    limits: LimitsSettings = LimitsSettings()
    worker: WorkerSettings = WorkerSettings()
    scrub: ScrubSettings = ScrubSettings()
    reading: ReadingSettings = ReadingSettings()
    speech: SpeechSettings = SpeechSettings()
    aliases: AliasesSettings = AliasesSettings()
    outbound: OutboundSettings = OutboundSettings()
    hooks: dict[str, HookSettings] = Field(default_factory=dict)
    stores: dict[str, StoreSettings] = Field(default_factory=_default_stores, validate_default=True)

    @model_validator(mode="after")
    def _stores_fit_the_policy(self) -> Settings:
        for name in self.stores:
            if not PLAIN_NAME.match(name):
                raise ValueError(f"stores.{name}: a store's name is a-z, 0-9, - and _, up to 40")
        if len(set(self.policy.keep)) != len(self.policy.keep):
            raise ValueError("policy.keep names a store twice")
        for name in self.policy.keep:
            if name not in self.stores:
                raise ValueError(f"policy.keep: there is no store {name!r} under [stores]")
        if all(self.stores[name].public for name in self.policy.keep):
            raise ValueError("policy.keep has no store that may hold a private track")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which reaches us as keyword arguments."""
        return env_settings, init_settings

    @property
    def data_directory(self) -> Path:
        """Where everything lies that has no path of its own."""
        return self.data.expanduser().absolute()

    @property
    def inbox_directory(self) -> Path:
        """Where bytes land first."""
        return self.data_directory / self.inbox.path

    @property
    def inbox_name(self) -> str:
        """The inbox as a store: only this host reads it."""
        return f"{INBOX_PREFIX}{self.host_name}"

    @property
    def catalog_url(self) -> str:
        """The catalog's database, as SQLAlchemy writes it."""
        if self.catalog is None:
            return f"sqlite:///{self.data_directory / 'catalog.db'}"
        return database_url(reveal(self.catalog))
