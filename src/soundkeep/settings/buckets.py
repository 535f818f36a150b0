"""Stores that are a bucket at somebody's: S3, Supabase, and the clouds of Google and Azure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from soundkeep.settings.addresses import ServerUrl, TokenUrl, safe_address
from soundkeep.settings.base import MIB, Table
from soundkeep.settings.secrets import SecretReference
from soundkeep.settings.store_table import StoreTable


def _points_nowhere_else(prefix: str) -> str:
    if {".", ".."} & set(prefix.split("/")) or "//" in prefix:
        raise ValueError("a prefix has no empty segment, '.' or '..'")
    return prefix.strip("/")


Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._=/-]{0,200}$"),
    AfterValidator(_points_nowhere_else),
]


class S3StoreSettings(StoreTable):
    """A bucket. Without an endpoint: AWS's own in the region."""

    kind: Literal["s3"]
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$")
    endpoint: ServerUrl | None = None
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    prefix: Prefix = ""  # before every key
    access_key: SecretReference
    secret_key: SecretReference
    session_token: SecretReference | None = None
    style: Literal["path", "virtual"] = "path"
    storage_class: str | None = Field(None, pattern=r"^[A-Z0-9_-]{1,40}$")
    single_put_bytes: int = Field(100 * MIB, gt=0, le=5 * 1024 * MIB)  # larger objects go in parts
    part_bytes: int = Field(8 * MIB, ge=5 * MIB, le=5 * 1024 * MIB)


class SupabaseStoreSettings(StoreTable):
    """A bucket of Supabase Storage, by its own REST. Without a path, `url` is the project's."""

    kind: Literal["supabase"]
    url: TokenUrl
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    service_key: SecretReference
    single_put_bytes: int = Field(6 * MIB, gt=0, le=5 * 1024 * MIB)  # larger objects go by tus


class GcsSettings(Table):
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
            safe_address(self.endpoint)
        return self


class AzureSettings(Table):
    """Azure's blob storage. Without a key or a token: what this machine is signed in as."""

    service: Literal["azure"]
    account: str = Field(pattern=r"^[a-z0-9]{3,40}$")
    account_key: SecretReference | None = None
    sas_token: SecretReference | None = None
    endpoint: TokenUrl | None = None


class CloudStoreSettings(StoreTable):
    """A bucket of Google's or a container of Azure's."""

    kind: Literal["cloud"]
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,221}$")
    prefix: Prefix = ""
    at: Annotated[GcsSettings | AzureSettings, Field(discriminator="service")]
