"""A store in Google's or Azure's cloud made from its settings. Needs the extra `cloud`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from soundkeep.errors import Misconfigured, SettingsError
from soundkeep.settings.buckets import AzureSettings, CloudStoreSettings, GcsSettings
from soundkeep.settings.secrets import reveal

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore

    from soundkeep.stores.interface import Store

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 10.0  # between two bytes

# obstore's `skip_signature` still asks this machine for a token before it writes. This does not.
NOBODY = '{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}'


def cloud_store(name: str, settings: CloudStoreSettings, **common: Any) -> Store:
    """The store as set. It touches nothing until it is used. Raises `Misconfigured` without
    obstore, `SettingsError` for a credential of no known form."""
    try:
        import obstore  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise Misconfigured(
            f"store {name} needs the extra `cloud`: pip install 'soundkeep[cloud]'"
        ) from error
    from soundkeep.stores.cloud import CloudStore  # noqa: PLC0415

    at = settings.at
    remote: GCSStore | AzureStore
    try:
        remote = _gcs(settings, at) if isinstance(at, GcsSettings) else _azure(settings, at)
    except SettingsError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise SettingsError(f"stores.{name}: its credential cannot be used ({kind})") from None
    return CloudStore(name, remote, signs=_signs(at), **common)


def _gcs(settings: CloudStoreSettings, at: GcsSettings) -> GCSStore:
    from obstore.store import GCSStore  # noqa: PLC0415

    given: dict[str, Any] = {}
    if at.service_account is not None:
        given["service_account_key"] = reveal(at.service_account)
    if at.endpoint is not None:
        given["base_url"] = at.endpoint
    if at.anonymous:
        given["service_account_key"] = NOBODY
    return GCSStore(settings.bucket, **given, **_common(settings, at.endpoint))


def _azure(settings: CloudStoreSettings, at: AzureSettings) -> AzureStore:
    from obstore.store import AzureStore  # noqa: PLC0415

    given: dict[str, Any] = {"account_name": at.account}
    if at.account_key is not None:
        given["account_key"] = reveal(at.account_key)
    if at.sas_token is not None:
        given["sas_key"] = reveal(at.sas_token)
    if at.endpoint is not None:
        given["endpoint"] = at.endpoint
    return AzureStore(settings.bucket, **given, **_common(settings, at.endpoint))


def _common(settings: CloudStoreSettings, endpoint: str | None) -> dict[str, Any]:
    """A request is sent once: the ledger tries again, and knows when."""
    seconds = settings.timeout_seconds
    return {
        "prefix": settings.prefix or None,
        "client_options": {
            "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, seconds)),
            "read_timeout": timedelta(seconds=min(SILENT_SECONDS, seconds)),
            "timeout": timedelta(days=1),  # of a whole body; the silence in it is what counts
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
        },
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=seconds)},
    }


def _signs(at: GcsSettings | AzureSettings) -> bool:
    """With a key of our own a link is made here, without asking anybody."""
    if isinstance(at, GcsSettings):
        return at.service_account is not None
    return at.account_key is not None
