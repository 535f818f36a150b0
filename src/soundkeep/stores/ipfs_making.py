"""An IPFS store made from its settings: which providers are on, and who reads.

A provider whose credential is set and empty is off. It can be in the settings of every host, and on
where its secret is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from pydantic import SecretStr

from soundkeep.settings.ipfs import (
    IpfsStoreSettings,
    KuboSettings,
    PinataLegacySettings,
    PinataSettings,
    PinningServiceSettings,
    ProviderSettings,
)
from soundkeep.settings.secrets import reveal_if_set
from soundkeep.stores.http_connections import DEFAULT_PORTS
from soundkeep.stores.http_service import Phases
from soundkeep.stores.ipfs import IpfsStore
from soundkeep.stores.ipfs_providers import Kubo, Pinata, PinataLegacy, PinningService, Provider
from soundkeep.stores.ipfs_reading import Gateway, Node, PinataGateway, Reader

PINATA_PINNING = "/psa"  # where its Pinning Service API lies, below the address of its own
WAITS_FOR_ANSWERS = 0.8  # of the time for a put; the rest is for connecting and pauses


def ipfs_store(
    name: str,
    settings: IpfsStoreSettings,
    *,
    public: bool,
    max_bytes: int | None,
    types: frozenset[str] | None,
) -> IpfsStore:
    """The store as set. It touches nothing until it is used."""
    making = _Making(name, settings, _phases(settings))
    for provider in settings.providers:
        making.add(provider)
    for url in settings.gateways:
        making.readers.append(Gateway(making.who("gateway", url), url, making.phases))
    return IpfsStore(
        name,
        making.providers,
        making.readers,
        services=making.services,
        budget_seconds=settings.timeout_seconds,
        public=public,
        max_bytes=max_bytes,
        types=types,
    )


def accounts(settings: IpfsStoreSettings) -> frozenset[object]:
    """Where its providers that are on keep their pins. Each holds a secret: compare them, and show
    none."""
    kept = (_account(settings.network, provider) for provider in settings.providers)
    return frozenset(account for account in kept if account is not None)


def _account(network: str, provider: ProviderSettings) -> object:
    """None if it is off. A node has one set of pins, whoever asks; Pinata has one for each network
    of an account, whichever of its three APIs is asked."""
    headers = _credential(provider)
    if headers is None:
        return None
    url, credential = _one_spelling(provider.url), frozenset(headers.items())
    match provider:
        case KuboSettings():
            return "kubo", url
        case PinataSettings():
            return "pinata", network, url, credential
        case PinataLegacySettings():
            return "pinata", "public", url, credential
        case PinningServiceSettings():
            scheme, host, port, path = url
            if not path.endswith(PINATA_PINNING):
                return "pinning", url, credential
            pinata = (scheme, host, port, path.removesuffix(PINATA_PINNING))
            return "pinata", "public", pinata, credential


def _one_spelling(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path, however they were written: this machine has several names."""
    parts = urlsplit(url.lower())
    host = "127.0.0.1" if parts.hostname in ("localhost", "::1") else parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return parts.scheme, host, port, parts.path.rstrip("/")


def _phases(settings: IpfsStoreSettings) -> Phases:
    """Each provider gets its share of the time for a put, so that one that is silent does not use
    up that of the next."""
    phases = Phases.within(settings.timeout_seconds)
    share = WAITS_FOR_ANSWERS * settings.timeout_seconds / len(settings.providers)
    return replace(phases, written=min(phases.written, share))


@dataclass
class _Making:
    """The parts as they come together; who reads stands in the order of the providers."""

    name: str
    settings: IpfsStoreSettings
    phases: Phases
    providers: list[Provider] = field(default_factory=list)
    services: list[PinningService] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    def add(self, provider: ProviderSettings) -> None:
        headers = _credential(provider)
        if headers is None:
            return
        who = self.who(provider.kind, provider.url)
        match provider:
            case KuboSettings():
                node = Kubo(who, provider.url, self.phases, headers)
                self.providers.append(node)
                self.readers.append(Node(node))
            case PinataSettings():
                self._add_pinata(provider, who, headers)
            case PinataLegacySettings():
                self.providers.append(PinataLegacy(who, provider.url, self.phases, headers))
                self._add_gateway(provider)
            case PinningServiceSettings():
                seconds = self.settings.pin_seconds
                url, phases = provider.url, self.phases
                self.services.append(PinningService(who, url, phases, headers, seconds))

    def who(self, kind: str, url: str) -> str:
        """As messages call it."""
        return f"{self.name}: {kind} at {urlsplit(url).netloc}"

    def _add_pinata(self, settings: PinataSettings, who: str, headers: Mapping[str, str]) -> None:
        network = self.settings.network
        pinata = Pinata(
            who,
            settings.url,
            self.phases,
            headers,
            network=network,
            upload_url=settings.upload_url,
        )
        self.providers.append(pinata)
        if network == "public":
            self._add_gateway(settings)
        elif settings.gateway is not None:
            self.readers.append(PinataGateway(pinata, settings.gateway, self.phases))

    def _add_gateway(self, settings: PinataSettings | PinataLegacySettings) -> None:
        """The account's own, which may want a token."""
        if settings.gateway is None:
            return
        token = reveal_if_set(settings.gateway_token) if settings.gateway_token else None
        headers = {"x-pinata-gateway-token": token} if token else {}
        who = self.who("gateway", settings.gateway)
        self.readers.append(Gateway(who, settings.gateway, self.phases, headers))


def _credential(provider: ProviderSettings) -> dict[str, str] | None:
    """The headers that let us in; None if what is named is empty."""
    if isinstance(provider, KuboSettings) and provider.password is not None:
        password = reveal_if_set(provider.password)
        return _basic(provider.user or "", password) if password else None
    if isinstance(provider, PinataLegacySettings) and provider.token is None:
        key, secret = _revealed(provider.api_key), _revealed(provider.secret_key)
        return {"pinata_api_key": key, "pinata_secret_api_key": secret} if key and secret else None
    if provider.token is None:
        return {}
    token = _revealed(provider.token)
    return {"authorization": f"Bearer {token}"} if token else None


def _revealed(secret: SecretStr | None) -> str | None:
    return reveal_if_set(secret) if secret is not None else None


def _basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
