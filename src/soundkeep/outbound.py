"""The one door for addresses that come from data: whoever wrote them may mean our own network.

Only `http` and `https` are asked, without a user or a password in the address. A name is resolved
once and every address it has must be a public one, or of a network in `outbound.allow`; the
connection goes to just those addresses, so a name that means something else a moment later changes
nothing. Redirects go through the same door. A body is counted, and the time for all of it bounded.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from soundkeep.errors import BadUrl, UploadTooLarge, UrlUnavailable
from soundkeep.settings.outside import OutboundSettings

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 30.0
PIECE_BYTES = 256 * 1024

_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


class Outbound:
    """Asks addresses that somebody else wrote."""

    def __init__(self, settings: OutboundSettings) -> None:
        self._allowed = [ip_network(network) for network in settings.allow]
        self._seconds = settings.seconds

    async def get(self, url: str, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """The body at an address, in pieces. Close it with `aclosing`.

        Raises `BadUrl` for what may not be asked, `UploadTooLarge`, and `UrlUnavailable`.
        """
        until = time.monotonic() + self._seconds
        try:
            async with aclosing(self._followed(url, max_bytes, until)) as body:
                async for piece in body:
                    yield piece
        except TimeoutError:
            raise UrlUnavailable(f"{_shown(url)} did not answer in time") from None
        except aiohttp.ClientError as error:
            kind = type(error).__name__
            raise UrlUnavailable(f"{_shown(url)} cannot be read ({kind})") from None

    async def _followed(
        self, url: str, max_bytes: int, until: float
    ) -> AsyncGenerator[bytes, None]:
        """The body behind redirects, each of which goes through the door."""
        for _ in range(MAX_REDIRECTS + 1):
            async with self._answer(url, until) as answer:
                if answer.status in REDIRECTS and "Location" in answer.headers:
                    url = _led_to(url, answer.headers["Location"])
                    continue
                if answer.status != 200:
                    raise UrlUnavailable(f"{_shown(url)} answered HTTP {answer.status}")
                count = 0
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    count += len(piece)
                    if count > max_bytes:
                        raise UploadTooLarge(f"{_shown(url)} has more than {max_bytes} bytes")
                    yield piece
                return
        raise UrlUnavailable(f"{_shown(url)} redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _answer(self, url: str, until: float) -> AsyncIterator[aiohttp.ClientResponse]:
        async with asyncio.timeout(CONNECT_SECONDS):
            pinned = await self._pinned(url)
        timeout = aiohttp.ClientTimeout(
            total=max(0.001, until - time.monotonic()),
            sock_connect=CONNECT_SECONDS,
            sock_read=SILENT_SECONDS,
        )
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=pinned, use_dns_cache=False),
                timeout=timeout,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            ) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            yield answer

    async def _pinned(self, url: str) -> _Pinned:
        """The addresses that the name has now, if all of them may be asked."""
        host, port = _host_and_port(url)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError):
            raise UrlUnavailable(f"there is no host {host}") from None
        addresses = [str(sockaddr[0]) for _, _, _, _, sockaddr in found]
        for address in addresses:
            if not self._may_be_asked(address):
                raise BadUrl(f"{host} is {address}, which is not a public address")
        return _Pinned(addresses)

    def _may_be_asked(self, text: str) -> bool:
        address = ip_address(text.partition("%")[0])
        if any(address in network for network in self._allowed):
            return True
        return address.is_global and not address.is_multicast and not _leads_elsewhere(address)


class _Pinned(AbstractResolver):
    """Answers with addresses that were looked at."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadUrl("the address cannot be understood") from None
    if parts.scheme not in ("http", "https") or not host:
        raise BadUrl("an address begins with http:// or https:// and names a host")
    if "@" in parts.netloc:
        raise BadUrl("an address with a user or a password in it is not asked")
    return host, port or (443 if parts.scheme == "https" else 80)


def _led_to(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise BadUrl(f"{_shown(url)} redirects to no address") from None


def _leads_elsewhere(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is a public form of another address, through a translation or a tunnel."""
    if isinstance(address, IPv4Address):
        return False
    translated = any(address in network for network in _NAT64)
    return translated or bool(address.ipv4_mapped or address.sixtofour or address.teredo)


def _shown(url: str) -> str:
    """Without its query, which may be a signature."""
    return ascii(url.partition("?")[0])[1:-1][:200]
