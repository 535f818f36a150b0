"""A store in IPFS, and the providers that it may be made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from soundkeep.settings.addresses import ServerUrl, TokenUrl, safe_address
from soundkeep.settings.base import Table
from soundkeep.settings.secrets import SecretReference
from soundkeep.settings.store_table import StoreTable


class KuboSettings(Table):
    """A node with Kubo's RPC, open or behind a password or a token."""

    kind: Literal["kubo"]
    url: ServerUrl
    user: str | None = Field(None, pattern=r"^[^:\s]{1,200}$")
    password: SecretReference | None = None
    token: SecretReference | None = None

    @model_validator(mode="after")
    def _a_credential_goes_to_a_safe_address(self) -> KuboSettings:
        if self.password is not None or self.token is not None:
            safe_address(self.url)
        return self


class PinataSettings(Table):
    """Pinata by its API v3."""

    kind: Literal["pinata"]
    token: SecretReference
    url: TokenUrl = "https://api.pinata.cloud"
    upload_url: TokenUrl = "https://uploads.pinata.cloud"
    gateway: TokenUrl | None = None  # the account's own; private files are read nowhere else
    gateway_token: SecretReference | None = None


class PinataLegacySettings(Table):
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


class PinningServiceSettings(Table):
    """A pinning service: it fetches by itself what another provider has."""

    kind: Literal["pinning"]
    url: TokenUrl
    token: SecretReference


ProviderSettings = Annotated[
    KuboSettings | PinataSettings | PinataLegacySettings | PinningServiceSettings,
    Field(discriminator="kind"),
]


class IpfsStoreSettings(StoreTable):
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
