"""All settings, as one frozen object made from a TOML file and the environment.

The environment overrides the file: `SOUNDKEEP_POLICY__MIN_COPIES=2` sets `policy.min_copies`.
`SOUNDKEEP_CONFIG` names the file, `SOUNDKEEP_DATA` the data directory, `SOUNDKEEP_CATALOG` the
database and `SOUNDKEEP_ADMIN_KEY` the admin key. With no file at all there is a directory and a
database backup under one data directory.

What can be said about settings without asking a store is checked here; checks that need a
store's capabilities are in `build`. `docs/settings.md` explains every field.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as PydanticSettingsError,
)

from soundkeep.errors import SettingsError

MIB = 1024 * 1024

AUDIO_TYPES = ("mp3", "wav", "flac", "ogg", "opus", "aac", "m4a", "webm")

STORE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
STORE_KINDS = ("memory", "local", "database", "s3", "turso", "ipfs", "supabase", "cloud")
ENGINE_NAME = STORE_NAME
ENGINE_KINDS = ("espeak", "elevenlabs", "openai")
INBOX_PREFIX = "inbox@"
ENVIRONMENT_ONLY = {"URL", "KEY"}  # of the command line: which server, and its key


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(_Table):
    """How the server is reached."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    base_url: str | None = None  # for absolute URLs behind a proxy; else made from the request
    cors_origins: tuple[str, ...] = ("*",)
    drain_seconds: float = Field(20, ge=0)  # how long running streams may finish after SIGTERM
    idle_seconds: float = Field(30, gt=0)  # an upload that sends nothing for so long is ended


class PolicySettings(_Table):
    """Where blobs end up and when they count as kept."""

    keep: tuple[str, ...] = ("disk", "backup")
    ack_copies: int = Field(1, ge=0)
    ack_seconds: float = Field(10, gt=0)
    min_copies: int = Field(1, ge=1)
    proof_age: float = Field(24 * 3600, gt=0)  # seconds a proof of a copy is good for, in the law


class InboxSettings(_Table):
    """The directory where bytes land first."""

    path: Path = Path("inbox")
    linger_seconds: float = Field(3600, ge=0)  # kept so long after every placed copy is present
    sweep_seconds: float = Field(300, gt=0)
    max_bytes: int | None = None  # beyond this the inbox is swept early, by the law
    min_free_bytes: int = 64 * MIB  # of the disk; below it uploads are refused, not half-written


class LimitsSettings(_Table):
    """What is taken in."""

    file_bytes: int = Field(50 * MIB, gt=0)
    types: tuple[str, ...] = AUDIO_TYPES
    uploads: int = Field(32, ge=1)  # at once
    decoders: int = Field(2, ge=1)  # processes of the jail
    decode_seconds: float = Field(20, gt=0)  # of one file, in the jail
    decode_bytes: int = Field(1024 * MIB, gt=0)  # memory of the jail

    @model_validator(mode="after")
    def _types_are_known(self) -> LimitsSettings:
        unknown = sorted(set(self.types) - set(AUDIO_TYPES))
        if unknown:
            raise ValueError(f"unknown audio types {unknown}; known are {', '.join(AUDIO_TYPES)}")
        return self


class WorkerSettings(_Table):
    """How the ledger is worked off."""

    concurrency: int = Field(4, ge=1)  # of one chore in one store
    lease_seconds: float = Field(60, ge=1)
    poll_seconds: float = Field(2, gt=0)  # the floor under wake-ups
    probe_seconds: float = Field(5, gt=0)  # between probes of a store whose circuit is open
    coverage_seconds: float = Field(5, gt=0)  # between counts for `status`


class ScrubSettings(_Table):
    """How often what is kept is looked at."""

    period: float = Field(30 * 86_400, gt=0)  # seconds: no proof of a copy gets older than that
    bytes_per_day: int | None = Field(100_000_000_000, gt=0)  # read for it, by all processes


class ReadingSettings(_Table):
    """How bytes are read out."""

    cache_bytes: int = Field(64 * MIB, ge=0)  # verified chunks of slow stores, in memory
    hot_bytes: int = Field(64 * MIB, ge=0)  # ranges of local files that everybody wants just now
    trust_seconds: float = Field(3600, ge=0)  # a verified local chunk, while its file is unchanged
    hedge_seconds: float = Field(0.25, gt=0)  # until a store's own pace is known
    stall_seconds: float = Field(10, gt=0)  # then the copy is given up


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


class _StoreTable(_Table):
    """What every kind of store has."""

    public: bool = False
    public_url: PublicUrl | None = None  # where the world reads it; without a slash at its end
    cache_seconds: int = Field(24 * 3600, ge=0)  # what caches are told of what lies in public
    key: str = "blobs/{digest}"
    sidecars: bool = True  # JSON beside the audio, where the kind of store can hold it
    sidecar_key: str = "tracks/{track_id}.json"
    segment_sidecar_key: str = "segments/{segment_key}.json"
    delivery: Literal["stream", "redirect"] = "stream"
    renditions: tuple[str, ...] = ()  # formats in which tracks placed here are also to be had
    max_bytes: int | None = Field(None, gt=0)
    types: tuple[str, ...] | None = None
    concurrency: int | None = Field(None, ge=1)
    scrub: Literal["read", "presence", "off"] = "read"  # how its copies are looked at now and then
    timeout_seconds: float = Field(30, gt=0)  # of one call, and between two pieces of a body

    @model_validator(mode="after")
    def _only_a_public_store_has_an_address(self) -> _StoreTable:
        if self.public_url is not None and not self.public:
            raise ValueError("public_url is for a store with public = true")
        return self


def _only_by_reference(secret: SecretStr) -> SecretStr:
    """The text itself would end up in backups and version control."""
    if not secret.get_secret_value().startswith(("env:", "file:")):
        raise ValueError("credentials are given as env:NAME or file:PATH, not as text")
    return secret


SecretReference = Annotated[SecretStr, AfterValidator(_only_by_reference)]


def _points_nowhere_else(prefix: str) -> str:
    if {".", ".."} & set(prefix.split("/")) or "//" in prefix:
        raise ValueError("a prefix has no empty segment, '.' or '..'")
    return prefix.strip("/")


Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._=/-]{0,200}$"),
    AfterValidator(_points_nowhere_else),
]
ServerUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@]+$")]


class MemoryStoreSettings(_StoreTable):
    """A dictionary. For tests; what it holds dies with the process."""

    kind: Literal["memory"]


class LocalStoreSettings(_StoreTable):
    """A directory."""

    kind: Literal["local"]
    path: Path


class DatabaseStoreSettings(_StoreTable):
    """Rows in SQLite or PostgreSQL. Without a URL: the catalog's own kind of database."""

    kind: Literal["database"]
    url: SecretStr | None = None
    path: Path | None = None  # of a SQLite file
    schema_name: str = Field("soundkeep_store", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")


LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _safe_address(text: str) -> str:
    """One to which a token may be sent: `http://` is for this machine alone."""
    parts = urlsplit(text)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("http:// is for this machine alone: a token would be read on the way")
    return text.rstrip("/")


class TursoStoreSettings(_StoreTable):
    """A libSQL database over HTTP: at Turso, or a server of one's own."""

    kind: Literal["turso"]
    url: Annotated[str, AfterValidator(_safe_address)] = Field(
        pattern=r"^(libsql|https?)://[^\s?#@]+$"
    )
    token: SecretReference | None = None


class S3StoreSettings(_StoreTable):
    """A bucket. Without an endpoint: AWS's own in the region."""

    kind: Literal["s3"]
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$")
    endpoint: str | None = Field(None, pattern=r"^https?://[^\s?#@]+$")
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    prefix: Prefix = ""  # before every key
    access_key: SecretReference
    secret_key: SecretReference
    session_token: SecretReference | None = None
    style: Literal["path", "virtual"] = "path"
    storage_class: str | None = Field(None, pattern=r"^[A-Z0-9_-]{1,40}$")
    single_put_bytes: int = Field(100 * MIB, gt=0, le=5 * 1024 * MIB)  # larger objects go in parts
    part_bytes: int = Field(8 * MIB, ge=5 * MIB, le=5 * 1024 * MIB)


class SupabaseStoreSettings(_StoreTable):
    """A bucket of Supabase Storage, by its own REST. Without a path, `url` is the project's."""

    kind: Literal["supabase"]
    url: Annotated[str, AfterValidator(_safe_address)] = Field(pattern=r"^https?://[^\s?#@]+$")
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    service_key: SecretReference
    single_put_bytes: int = Field(6 * MIB, gt=0, le=5 * 1024 * MIB)  # larger objects go by tus


TokenUrl = Annotated[ServerUrl, AfterValidator(_safe_address)]


class KuboSettings(_Table):
    """A node with Kubo's RPC, open or behind a password or a token."""

    kind: Literal["kubo"]
    url: ServerUrl
    user: str | None = Field(None, pattern=r"^[^:\s]{1,200}$")
    password: SecretReference | None = None
    token: SecretReference | None = None

    @model_validator(mode="after")
    def _a_credential_goes_to_a_safe_address(self) -> KuboSettings:
        if self.password is not None or self.token is not None:
            _safe_address(self.url)
        return self


class PinataSettings(_Table):
    """Pinata by its API v3."""

    kind: Literal["pinata"]
    token: SecretReference
    url: TokenUrl = "https://api.pinata.cloud"
    upload_url: TokenUrl = "https://uploads.pinata.cloud"
    gateway: TokenUrl | None = None  # the account's own; private files are read nowhere else
    gateway_token: SecretReference | None = None


class PinataLegacySettings(_Table):
    """Pinata by the API it had before, with a token or a pair of keys."""

    kind: Literal["pinata_legacy"]
    token: SecretReference | None = None
    api_key: SecretReference | None = None
    secret_key: SecretReference | None = None
    url: TokenUrl = "https://api.pinata.cloud"
    gateway: TokenUrl | None = None
    gateway_token: SecretReference | None = None

    @model_validator(mode="after")
    def _there_is_one_credential(self) -> PinataLegacySettings:
        pair = self.api_key is not None and self.secret_key is not None
        if (self.token is not None) == pair or (self.api_key is None) != (self.secret_key is None):
            raise ValueError("give either token, or api_key and secret_key")
        return self


class PinningServiceSettings(_Table):
    """A pinning service: it fetches by itself what another provider has."""

    kind: Literal["pinning"]
    url: TokenUrl
    token: SecretReference


ProviderSettings = Annotated[
    KuboSettings | PinataSettings | PinataLegacySettings | PinningServiceSettings,
    Field(discriminator="kind"),
]


class IpfsStoreSettings(_StoreTable):
    """IPFS, by one or several providers in their order."""

    kind: Literal["ipfs"]
    network: Literal["public", "private"] = "public"
    providers: tuple[ProviderSettings, ...] = Field(min_length=1)
    gateways: tuple[ServerUrl, ...] = ()  # where anybody may read
    timeout_seconds: float = Field(60, gt=0)
    pin_seconds: float = Field(10, ge=0)  # how long a put waits for a pinning service

    @model_validator(mode="before")
    @classmethod
    def _what_the_network_may_see_is_public(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        public = table.get("network", "public") != "private"
        return {"public": public, **table}

    @model_validator(mode="after")
    def _parts_fit_together(self) -> IpfsStoreSettings:
        if self.public != (self.network == "public"):
            raise ValueError("public follows from network, so leave it out")
        if self.key != "blobs/{digest}":
            raise ValueError("two keys of the same bytes share a CID: key must be blobs/{digest}")
        kinds = {provider.kind for provider in self.providers}
        if self.network == "private" and kinds & {"pinata_legacy", "pinning"}:
            raise ValueError("network = private is kept by the providers kubo and pinata only")
        if self.network == "private" and self.gateways:
            raise ValueError("gateways read the public network only")
        pinata = [each for each in self.providers if isinstance(each, PinataSettings)]
        if self.network == "private" and any(each.gateway is None for each in pinata):
            raise ValueError("private files are read through the account's own gateway: name it")
        if kinds == {"pinning"}:
            raise ValueError("a pinning service takes no bytes: name a provider that does, too")
        own = any(getattr(provider, "gateway", None) for provider in self.providers)
        if "kubo" not in kinds and not self.gateways and not own:
            raise ValueError("nothing reads what is kept: name gateways, or a provider's gateway")
        return self


class GcsSettings(_Table):
    """Google Cloud Storage. Without a service account: what this machine is signed in as."""

    service: Literal["gcs"]
    service_account: SecretReference | None = None  # its key, as JSON
    endpoint: ServerUrl | None = None
    anonymous: bool = False  # for a server of one's own that asks for nothing

    @model_validator(mode="after")
    def _nobody_is_let_in_by_google(self) -> GcsSettings:
        if self.anonymous and (self.endpoint is None or self.service_account is not None):
            raise ValueError("anonymous is for a server of one's own: with endpoint, without a key")
        if self.endpoint is not None and not self.anonymous:
            _safe_address(self.endpoint)
        return self


class AzureSettings(_Table):
    """Azure's blob storage. Without a key or a token: what this machine is signed in as."""

    service: Literal["azure"]
    account: str = Field(pattern=r"^[a-z0-9]{3,40}$")
    account_key: SecretReference | None = None
    sas_token: SecretReference | None = None
    endpoint: TokenUrl | None = None


class CloudStoreSettings(_StoreTable):
    """A bucket of Google's or a container of Azure's."""

    kind: Literal["cloud"]
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,221}$")
    prefix: Prefix = ""
    at: Annotated[GcsSettings | AzureSettings, Field(discriminator="service")]


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


class _EngineTable(_Table):
    """What every kind of engine has."""

    model: str | None = Field(None, min_length=1)  # who asks for none gets this
    voice: str | None = Field(None, min_length=1)  # likewise
    format: str | None = Field(None, min_length=1)  # in which segments are kept, by its own name
    concurrency: int = Field(2, ge=1)  # calls at once


class EspeakEngineSettings(_EngineTable):
    """The offline voice, in processes of this machine."""

    kind: Literal["espeak"]
    voice: str | None = Field("en-us", min_length=1)
    sentence_seconds: float = Field(20, gt=0)  # for one sentence


class _ProviderTable(_EngineTable):
    """What engines have that are asked over HTTP."""

    base_url: str | None = Field(None, pattern=r"^https?://[^\s?#@]+$")
    price: Decimal | None = Field(None, ge=0)  # of a thousand characters
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")
    connect_seconds: float = Field(5, gt=0)
    first_byte_seconds: float = Field(60, gt=0)  # a long text is thought over first
    between_bytes_seconds: float = Field(20, gt=0)
    tries: int = Field(3, ge=1, le=10)  # of what surely cost nothing
    wait_seconds: float = Field(20, ge=0)  # between them, all together
    list_seconds: float = Field(3600, gt=0)  # a list of voices or models is good for so long


class ElevenLabsEngineSettings(_ProviderTable):
    """ElevenLabs."""

    kind: Literal["elevenlabs"]
    api_key: SecretReference
    timestamps: bool = True  # ask for the times of characters with the sound


class OpenAIEngineSettings(_ProviderTable):
    """Any server that speaks OpenAI's protocol."""

    kind: Literal["openai"]
    api_key: SecretReference | None = None
    voices: tuple[str, ...] = ()  # beside those that the server lists
    models: tuple[str, ...] = ()
    max_chars: int = Field(4096, ge=1)  # of one call
    captions: bool | None = None  # whether it has Kokoro's captions; without it, it is asked


EngineSettings = Annotated[
    EspeakEngineSettings | ElevenLabsEngineSettings | OpenAIEngineSettings,
    Field(discriminator="kind"),
]


def _default_engines() -> dict[str, Any]:
    return {"offline": {"kind": "espeak"}}


class SpeechSettings(_Table):
    """Who speaks, and for how much."""

    engines: dict[str, EngineSettings] = Field(
        default_factory=_default_engines, validate_default=True
    )
    engine: str | None = None  # who speaks when none is asked for: the first in the table
    voices: dict[str, str] = Field(default_factory=dict)  # who speaks for a voice that is not there
    share: Literal["all", "owner"] = "all"  # whether owners share what was said
    visibility: Literal["private", "public"] = "private"  # of the tracks that speech is put in
    at_once: int = Field(4, ge=1)  # segments of one speech
    budget: Decimal | None = Field(None, ge=0)  # of an owner and a month, in each currency
    budgets: dict[str, Decimal] = Field(default_factory=dict)  # of these owners instead
    keep_refused_days: float = Field(30, ge=0)  # takes that were refused are kept aside so long
    lease_seconds: float = Field(30, ge=1)  # a generation whose process died is free after it

    def budget_of(self, owner: str) -> Decimal | None:
        """What an owner may spend in a month; None: no limit."""
        return self.budgets.get(owner, self.budget)

    @field_validator("engines")
    @classmethod
    def _names_are_plain(cls, engines: dict[str, EngineSettings]) -> dict[str, EngineSettings]:
        for name in engines:
            if not ENGINE_NAME.match(name):
                raise ValueError(f"{name!r}: an engine's name is a-z, 0-9, - and _, up to 40")
        return engines


AliasName: TypeAlias = Literal["vocalize", "temp-audio", "voice", "sync-to-cdn", "retry-ipfs"]
SPEAKING_ALIASES = frozenset({"vocalize", "voice"})


class AliasesSettings(_Table):
    """What clients of other systems call."""

    enabled: tuple[AliasName, ...] = ()
    public: bool = False  # confirmed: everybody may hear what they have said
    anonymous: tuple[AliasName, ...] = ()  # these need no key
    anonymous_per_minute: int = Field(30, ge=1)  # calls of one address

    @model_validator(mode="after")
    def _answers_must_play(self) -> AliasesSettings:
        if "retry-ipfs" in self.anonymous:
            raise ValueError("retry-ipfs is for who has the admin key")
        speaking = sorted(SPEAKING_ALIASES & set(self.enabled))
        if speaking and not self.public:
            raise ValueError(
                f"{speaking[0]} answers with addresses that everybody can play: "
                "confirm that with aliases.public = true"
            )
        return self


class OutboundSettings(_Table):
    """How addresses are asked that come from data, such as an imported table."""

    allow: tuple[str, ...] = ()  # networks of this installation's own, as 10.1.0.0/16
    seconds: float = Field(300, gt=0)  # for one address, redirects and body included

    @field_validator("allow")
    @classmethod
    def _networks_are_networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for network in allow:
            ip_network(network)  # its ValueError says what is wrong
        return allow


class HookSettings(_Table):
    """Another program that may ask for things by signed requests."""

    secret: SecretReference


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
            if not STORE_NAME.match(name):
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


def database_url(text: str) -> str:
    """A database URL with our driver for PostgreSQL, psycopg 3."""
    for scheme in ("postgres://", "postgresql://"):
        if text.startswith(scheme):
            return f"postgresql+psycopg://{text.removeprefix(scheme)}"
    if not text.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise SettingsError("a database URL starts with sqlite:/// or postgresql://")
    return text


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """A misspelt variable would otherwise be passed over in silence."""
    known = {"CONFIG", *(name.upper() for name in Settings.model_fields)}
    for variable in environ:
        prefix, _, rest = variable.partition("SOUNDKEEP_")
        if not prefix and rest and rest.split("__")[0].upper() not in known | ENVIRONMENT_ONLY:
            raise SettingsError(f"the environment variable {variable} names no setting")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _secret_file(path: Path) -> str:
    try:
        return path.expanduser().read_text().strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None


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
