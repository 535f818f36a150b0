"""A store in IPFS: several providers behind one name, each file under its CID.

A put tries the providers that take bytes in their order, each three times, until one has pinned
them; then every pinning service is asked to pin the CID too. The CID is computed here while the
bytes go by. A provider that answers with the same one has hashed the same bytes; one that cuts
files otherwise answers with another, and then what it has is read back before it is believed.

The locator is the CID, in whatever form it came: it says nothing of the key, and two keys with the
same bytes share it, so settings allow no key but the digest's. There is no list and no marker. An
absence, therefore, is what every provider says of one CID, and proves no loss.

Its neighbours: `ipfs_cid` names, `ipfs_providers` speaks the protocols, `ipfs_reading` reads.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import TypeVar

from soundkeep.digest import Digest
from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    NotFound,
    Retryable,
    StoreError,
    TimedOut,
    Unsupported,
)
from soundkeep.stores.interface import Bytes, Caps, Key, Receipt, Source, Stat
from soundkeep.stores.ipfs_cid import Cid
from soundkeep.stores.ipfs_faults import all_failed
from soundkeep.stores.ipfs_providers import Pinner, PinningService, Provider
from soundkeep.stores.ipfs_reading import PinataGateway, Reader, pieces
from soundkeep.stores.ipfs_requests import SourceFailed, Upload
from soundkeep.stores.pieces import check_fits, span

R = TypeVar("R")

PAUSES_SECONDS = (1.0, 2.0)  # between three attempts; for the four of a next one, another is asked
KNOWN_SECONDS = 60.0  # a file that was there is believed to be for so long
MOST_KNOWN = 10_000
SAME_CID = "cid"
READ_BACK = "read back"


class IpfsStore:
    """Files pinned by `providers` and `services`, read from `readers`, each in its order."""

    def __init__(
        self,
        name: str,
        providers: Sequence[Provider],
        readers: Sequence[Reader],
        *,
        services: Sequence[PinningService] = (),
        budget_seconds: float = 60,
        public: bool = True,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self._signers = [reader for reader in readers if isinstance(reader, PinataGateway)]
        self.caps = Caps(
            signs=bool(self._signers),
            lists=False,
            sidecars=False,
            marks=False,
            public=public,
            max_bytes=max_bytes,
            types=types,
        )
        self._providers = tuple(providers)
        self._services = tuple(services)
        self._readers = tuple(readers)
        self._budget_seconds = budget_seconds
        self._known: dict[str, tuple[int, float]] = {}

    async def probe(self) -> None:
        """One provider must take bytes, and every pinning service must let us in."""
        await self._first(lambda provider: provider.probe())
        for service in self._services:
            await service.probe()

    async def read_marker(self) -> str | None:
        await self.probe()
        return None

    async def write_marker(self, store_id: str) -> None:
        raise Unsupported(f"{self.name}: IPFS keeps no marker")

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        upload, name = Upload(source), str(source.digest)
        until = self._clock() + self._budget_seconds
        provider, cid = await self._added(upload, name, until)
        verified = SAME_CID
        if cid == upload.cid:
            cid = upload.cid  # in the form that every gateway takes
        else:
            verified = await self._read_back(provider, cid, source)
        await self._pinned_everywhere(cid, name, provider, until)
        self._remember(cid, source.size_bytes)
        return Receipt(str(cid), verified=verified)

    async def stat(self, locator: str) -> Stat | None:
        cid = _cid(locator)
        size_bytes = await self._size(cid) if cid else None
        if cid is None or size_bytes is None:
            return None
        sha256 = cid.sha256
        return Stat(locator, size_bytes, etag=str(cid), sha256=Digest(sha256) if sha256 else None)

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        cid = _cid(locator)
        size_bytes = await self._known_size(cid) if cid else None
        if cid is None or size_bytes is None:
            raise NotFound(f"{self.name} has no {locator}")
        start, stop = span(size_bytes, start, stop)
        if start == stop:
            return
        async with aclosing(pieces(self._readers, cid, start, stop, size_bytes)) as body:
            async for piece in body:
                yield piece

    async def delete(self, locator: str) -> None:
        """From every provider: it may have come to any of them."""
        cid = _cid(locator)
        if cid is None:
            return
        self._known.pop(str(cid), None)
        failures: list[StoreError] = []
        for pinner in self._pinners:
            try:
                await pinner.unpin(cid)
            except StoreError as error:
                failures.append(error)
        if failures:
            raise all_failed(failures)

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        raise Unsupported(f"{self.name}: IPFS has no list of our keys")
        yield  # an iterator, as every list is

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        cid = _cid(locator)
        if cid is None or not self._signers:
            return None
        return await self._signers[0].link(cid, int(expires_in.total_seconds()))

    async def reap(self, older_than: timedelta) -> int:
        """Nothing is ever half there: a form that was not sent to its end is no file."""
        return 0

    async def close(self) -> None:
        for pinner in self._pinners:
            await pinner.close()
        for reader in self._readers:
            await reader.close()

    @property
    def _pinners(self) -> tuple[Pinner, ...]:
        return (*self._providers, *self._services)

    # --- putting ----------------------------------------------------------------------------

    async def _added(self, upload: Upload, name: str, until: float) -> tuple[Provider, Cid]:
        """Who took the bytes, and the CID that they got there."""

        async def add(provider: Provider) -> tuple[Provider, Cid]:
            return provider, await self._attempts(lambda: provider.add(upload, name), until)

        try:
            return await self._first(add)
        except SourceFailed as failed:
            raise failed.failure from None

    async def _pinned_everywhere(
        self, cid: Cid, name: str, provider: Provider, until: float
    ) -> None:
        """Every service has taken the CID on; they find the bytes at the provider."""
        origins = await provider.origins() if self._services else ()

        async def pin(service: PinningService) -> None:
            await self._attempts(lambda: service.pin(cid, name, origins), until)

        for service in self._services:
            await pin(service)

    async def _first(self, call: Callable[[Provider], Awaitable[R]]) -> R:
        """What the first provider answers that does not fail."""
        if not self._providers:
            raise Misconfigured(f"{self.name}: no provider is on; each needs its credential")
        failures: list[StoreError] = []
        for provider in self._providers:
            try:
                return await call(provider)
            except StoreError as error:
                failures.append(error)
        raise all_failed(failures)

    async def _attempts(self, call: Callable[[], Awaitable[R]], until: float) -> R:
        """Tries what may pass again, within the budget. Who is silent had their time already."""
        for pause_seconds in PAUSES_SECONDS:
            try:
                return await call()
            except TimedOut:
                raise
            except Retryable as error:
                wait_seconds = max(pause_seconds, getattr(error, "retry_after", None) or 0.0)
                if self._clock() + wait_seconds > until:
                    raise
            await self._pause(wait_seconds)
        return await call()

    async def _read_back(self, provider: Provider, cid: Cid, source: Source) -> str:
        """Makes sure that another CID names the same bytes. If it does not it stays pinned: the
        provider may have named a file that another blob needs."""
        whole = hashlib.sha256()
        if cid.sha256 is None:
            size_bytes = source.size_bytes
            async with aclosing(pieces(self._readers, cid, 0, size_bytes, size_bytes)) as body:
                async for piece in body:
                    whole.update(piece)
        if (cid.sha256 or whole.digest()) != source.digest.raw:
            raise Corrupt(f"{provider.who}: {cid}, as it says, has other bytes than were sent")
        return READ_BACK

    # --- what is there ----------------------------------------------------------------------

    async def _known_size(self, cid: Cid) -> int | None:
        size_bytes, good_until = self._known.get(str(cid), (0, 0.0))
        return size_bytes if self._clock() < good_until else await self._size(cid)

    async def _size(self, cid: Cid) -> int | None:
        """The size of what somebody has pinned; None only if everybody says that they have not."""
        self._known.pop(str(cid), None)
        failures: list[StoreError] = []
        for pinner in self._pinners:
            try:
                held = await pinner.held(cid)
                if held is not None:
                    size_bytes = held.size_bytes
                    if size_bytes is None:
                        size_bytes = await self._size_by_reading(cid)
                    self._remember(cid, size_bytes)
                    return size_bytes
            except StoreError as error:
                failures.append(error)
        if failures:
            raise all_failed(failures)
        if not self._pinners:
            raise Misconfigured(f"{self.name}: no provider is on; each needs its credential")
        return None

    async def _size_by_reading(self, cid: Cid) -> int:
        failures: list[StoreError] = []
        for reader in self._readers:
            try:
                return await reader.size_bytes(cid)
            except StoreError as error:
                failures.append(error)
        raise all_failed(failures)

    def _remember(self, cid: Cid, size_bytes: int) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[str(cid)] = size_bytes, self._clock() + KNOWN_SECONDS

    @staticmethod
    async def _pause(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def _cid(locator: str) -> Cid | None:
    """What is no CID was never put here."""
    try:
        return Cid.parse(locator)
    except ValueError:
        return None
