"""One file read from IPFS, in a range: from a node or a gateway, and from the next when one fails.

A CID means the same bytes everywhere, so a body that broke off goes on elsewhere at the same byte.
A gateway may answer a range with the whole file; what comes before the range is dropped. Nothing
here is verified: some gateways answer anything at all with 200, so `reading` checks every chunk.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import ClientResponse
from yarl import URL

from soundkeep.errors import Misconfigured, StoreError, Truncated, Unavailable
from soundkeep.stores.http_service import Phases
from soundkeep.stores.interface import Bytes
from soundkeep.stores.ipfs_cid import Cid
from soundkeep.stores.ipfs_faults import all_failed
from soundkeep.stores.ipfs_providers import Kubo, Pinata
from soundkeep.stores.ipfs_requests import Requests, told

RESUMES = 4  # of one body at one reader
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
SIGNED_SECONDS = 3600
SIGNED_WITH_LEFT = 0.5  # a link is asked for anew when so much of its time is over
MOST_LINKS = 1000

_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})\Z")


@dataclass(frozen=True, slots=True)
class Body:
    """The answer of a reader: its bytes, and how many of them come before those asked for."""

    answer: ClientResponse
    too_much: int


class Reader(Protocol):
    """Somebody who gives bytes out. Raises every `StoreError` but `NotFound`."""

    @property
    def who(self) -> str: ...

    def body(
        self, cid: Cid, start: int, stop: int, size_bytes: int
    ) -> AbstractAsyncContextManager[Body]:
        """The bytes of a range that is not empty, perhaps with others before and behind."""
        ...

    async def size_bytes(self, cid: Cid) -> int: ...
    async def close(self) -> None: ...


async def pieces(
    readers: Sequence[Reader], cid: Cid, start: int, stop: int, size_bytes: int
) -> Bytes:
    """The bytes of the range, from whoever has them. Raises when nobody goes on."""
    failures: list[StoreError] = []
    for reader in readers:
        for _ in range(1 + RESUMES):
            begun_at = start
            try:
                async with (
                    reader.body(cid, start, stop, size_bytes) as body,
                    aclosing(_cut(body, stop - start)) as some,
                ):
                    async for piece in some:
                        start += len(piece)
                        yield piece
                if start == stop:
                    return
                raise Truncated(f"{reader.who}: {cid} ended at byte {start} of {stop}")
            except StoreError as error:
                failures.append(error)
                if start == begun_at:
                    break  # it gives nothing now; the next may
    raise all_failed(failures)


async def _cut(body: Body, count: int) -> Bytes:
    """So many bytes, without those before; fewer if the answer ends."""
    dropped = body.too_much
    while count and (piece := await body.answer.content.readany()):
        gone = min(dropped, len(piece))
        dropped -= gone
        if piece := piece[gone : gone + count]:
            count -= len(piece)
            yield piece


class Node:
    """A Kubo node as a reader."""

    def __init__(self, node: Kubo) -> None:
        self.who = node.who
        self._node = node

    @asynccontextmanager
    async def body(self, cid: Cid, start: int, stop: int, size_bytes: int) -> AsyncIterator[Body]:
        asked = {"arg": str(cid), "offset": str(start), "length": str(stop - start)}
        async with self._node.requests.answer("POST", "/api/v0/cat", asked) as answer:
            if answer.status >= 300:
                raise (await told(f"{self.who}: cat {cid}", answer)).refusal()
            yield Body(answer, 0)

    async def size_bytes(self, cid: Cid) -> int:
        held = await self._node.held(cid)
        if held is None or held.size_bytes is None:
            raise Unavailable(f"{self.who}: it has not pinned {cid}")
        return held.size_bytes

    async def close(self) -> None:
        """The node closes itself, as a provider."""


class Gateway:
    """A gateway: `https://HOST/ipfs/CID`. Redirects are followed to the host's own subdomains
    only, where most gateways keep each file apart from the others."""

    def __init__(self, who: str, url: str, phases: Phases, headers: dict[str, str] | None = None):
        self.who = who
        self._headers = headers or {}  # for this host and no other
        self._requests = Requests(who, url, phases)

    @asynccontextmanager
    async def body(self, cid: Cid, start: int, stop: int, size_bytes: int) -> AsyncIterator[Body]:
        async with self._answer(cid, f"bytes={start}-{stop - 1}") as answer:
            first, total = self._extent(cid, answer)
            if total not in (None, size_bytes):
                raise Misconfigured(f"{self.who}: what it calls {cid} has another size")
            if first > start:
                raise Truncated(f"{self.who}: {cid} begins at byte {first} instead of {start}")
            yield Body(answer, start - first)

    async def size_bytes(self, cid: Cid) -> int:
        async with self._answer(cid, "bytes=0-0") as answer:
            _, total = self._extent(cid, answer)
        if total is None:
            raise Unavailable(f"{self.who}: it does not tell the size of {cid}")
        return total

    async def close(self) -> None:
        await self._requests.close()

    async def address(self, cid: Cid) -> str:
        """Where the file is read."""
        return f"{self._requests.url}/ipfs/{cid}"

    @asynccontextmanager
    async def _answer(self, cid: Cid, byte_range: str) -> AsyncIterator[ClientResponse]:
        url = await self.address(cid)
        for _ in range(1 + MAX_REDIRECTS):
            headers = {"range": byte_range}
            if URL(url).origin() == URL(self._requests.url).origin():
                headers |= self._headers
            async with self._requests.answer("GET", url, headers=headers) as answer:
                if answer.status in REDIRECTS:
                    url = self._led_to(url, answer.headers.get("location", ""))
                    continue
                if answer.status >= 300:
                    raise await self._refusal(cid, answer)
                yield answer
                return
        raise Misconfigured(f"{self.who}: it redirects more than {MAX_REDIRECTS} times")

    def _led_to(self, url: str, location: str) -> str:
        try:
            led = URL(url).join(URL(location, encoded=True))
            host, own = led.host or "", URL(self._requests.url).host or ""
        except ValueError:
            host, own = "", "-"
        if not location or not (host == own or host.endswith(f".{own}")):
            raise Misconfigured(f"{self.who}: it redirects to another host")
        if URL(url).scheme == "https" and led.scheme != "https":
            raise Misconfigured(f"{self.who}: it redirects to an address without TLS")
        return str(led)

    async def _refusal(self, cid: Cid, answer: ClientResponse) -> StoreError:
        """To a gateway, absent means that it did not find it in time."""
        if answer.status in (404, 410, 416):
            return Unavailable(f"{self.who}: it did not find {cid} (HTTP {answer.status})")
        return (await told(f"{self.who}: {cid}", answer)).refusal()

    def _extent(self, cid: Cid, answer: ClientResponse) -> tuple[int, int | None]:
        """Which byte an answer begins with, and how large the file is as far as it tells."""
        found = _RANGE.match(answer.headers.get("content-range", ""))
        if found:
            return int(found[1]), int(found[2])
        if answer.status == 200:
            return 0, answer.content_length
        raise Unavailable(f"{self.who}: it does not tell which bytes of {cid} it sends")


class PinataGateway(Gateway):
    """Pinata's gateway to private files: each is read by a link that Pinata signs."""

    def __init__(self, pinata: Pinata, url: str, phases: Phases) -> None:
        super().__init__(f"{pinata.who}'s gateway", url, phases)
        self._pinata = pinata
        self._links: dict[str, tuple[str, float]] = {}

    async def address(self, cid: Cid) -> str:
        link, good_until = self._links.get(str(cid), ("", 0.0))
        now = time.monotonic()
        if now > good_until:
            link = await self.link(cid, SIGNED_SECONDS)
            if len(self._links) >= MOST_LINKS:
                self._links.clear()
            self._links[str(cid)] = link, now + SIGNED_SECONDS * SIGNED_WITH_LEFT
        return link

    async def link(self, cid: Cid, seconds: int) -> str:
        """An address that anybody can read for so long."""
        url = f"{self._requests.url}/files/{cid}"
        return await self._pinata.sign(url, int(time.time()), seconds)
