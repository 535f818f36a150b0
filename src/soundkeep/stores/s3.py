"""A store in a bucket of anything that speaks S3: AWS, R2, MinIO, SeaweedFS, Supabase and others.

An object appears whole or not at all, as S3 promises of a PUT and of an upload in parts. Objects
are put with their SHA-256, type and cache time; whether the server looks at the digest is tried,
not believed. All requests are our own: a general client costs a millisecond of CPU for each.

Its neighbours: `s3_requests` talks, `http_ranges` reads, `s3_uploads` sends in parts, `s3_errors`
says what a refusal means. What quirks which service has is in `docs/stores/s3.md`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime

from soundkeep.digest import Digest
from soundkeep.errors import (
    BadDigest,
    BadPath,
    Corrupt,
    NotFound,
    Retryable,
    StoreError,
    Unavailable,
)
from soundkeep.stores.http_ranges import ranged
from soundkeep.stores.http_service import PHASES, Phases, start_of
from soundkeep.stores.interface import (
    MARKER_KEY,
    RESERVED_PREFIX,
    Bytes,
    Caps,
    Key,
    Receipt,
    Source,
    Stat,
)
from soundkeep.stores.pieces import check_fits
from soundkeep.stores.s3_checking import NOTE, WRONG, Checking
from soundkeep.stores.s3_listing import Found, Listing
from soundkeep.stores.s3_parts import Part
from soundkeep.stores.s3_requests import Requests
from soundkeep.stores.s3_signing import Address, Credentials, Signer, Style
from soundkeep.stores.s3_uploads import Uploads

MIB = 1024 * 1024
TRIAL_PREFIX = f"{RESERVED_PREFIX}order/"
LIE_KEY = f"{RESERVED_PREFIX}checksum"
MARKER_BYTES = 4096
JSON = {"content-type": "application/json"}


class S3Store:
    """Objects in a bucket, each named `prefix` and its key."""

    def __init__(
        self,
        name: str,
        bucket: str,
        endpoint: str,
        credentials: Credentials,
        *,
        region: str = "us-east-1",
        prefix: str = "",
        style: Style = "path",
        storage_class: str | None = None,
        single_put_bytes: int = 100 * MIB,
        part_bytes: int = 8 * MIB,
        phases: Phases = PHASES,
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.caps = Caps(signs=True, public=public, max_bytes=max_bytes, types=types)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._storage_class = storage_class
        self._single_put_bytes = single_put_bytes
        self._address = Address.of(endpoint, bucket, style)
        self._signer = Signer(self._address, credentials, region)
        self._requests = Requests(name, self._address, self._signer, phases)
        self._uploads = Uploads(self._requests, part_bytes, self._prefix + LIE_KEY)
        self._listing = Listing(self._requests, self._prefix + TRIAL_PREFIX)
        self._checking = Checking()

    async def probe(self) -> None:
        """Asks for the marker, since an answer to GET says which of bucket, key and clock is
        wrong."""
        with suppress(NotFound):
            await self._marker()

    async def read_marker(self) -> str | None:
        try:
            return str(json.loads(await self._marker())["id"])
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{self.name}: its marker {MARKER_KEY} cannot be read") from error

    async def write_marker(self, store_id: str) -> None:
        """Only into a bucket that is there: SeaweedFS would make one of any name."""
        await self.probe()
        await self._put_note(MARKER_KEY, json.dumps({"id": store_id}).encode())

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        full, headers = self._full(str(key)), self._headers(source)
        if source.size_bytes > self._single_put_bytes:
            etag, checked = await self._uploads.put(full, source, headers)
            return Receipt(str(key), etag, "sha256 of each part" if checked else None)
        checked = await self._checks()
        answer = await self._requests.put(full, source, headers)
        return Receipt(str(key), answer.get("etag"), "sha256" if checked else None)

    async def stat(self, locator: str) -> Stat | None:
        try:
            return await self._stat(locator)
        except NotFound:
            return None

    def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        async def size() -> int:
            return (await self._stat(locator)).size_bytes

        return ranged(self._requests, self._full(locator), start, stop, size)

    async def delete(self, locator: str) -> None:
        await self._requests.delete(self._full(locator))

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        full, start = self._prefix + prefix, self._prefix + after if after else ""
        async with aclosing(self._listing.objects(full, start)) as objects:
            async for found in objects:
                if stat := _listed(found.key.removeprefix(self._prefix), found):
                    yield stat

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        path = self._address.path(self._full(locator))
        return self._signer.url(path, int(expires_in.total_seconds()))

    async def reap(self, older_than: timedelta) -> int:
        return await self._uploads.reap(self._prefix, older_than)

    async def close(self) -> None:
        await self._requests.close()

    def _full(self, locator: str) -> str:
        return self._prefix + str(Key(locator))

    async def _marker(self) -> bytes:
        async with self._requests.get("GET", self._full(MARKER_KEY), {}) as answer:
            return await start_of(answer, MARKER_BYTES)

    # --- one object -------------------------------------------------------------------------

    async def _stat(self, locator: str) -> Stat:
        """Raises `NotFound`. A refused HEAD has no body, so a GET is asked why."""
        full = self._full(locator)
        try:
            async with self._requests.get(
                "HEAD", full, {"x-amz-checksum-mode": "ENABLED"}
            ) as answer:
                headers, size_bytes = answer.headers, answer.content_length
        except Retryable:
            raise
        except StoreError as refused:
            async with self._requests.get("GET", full, {"range": "bytes=0-0"}):
                text = f"{self.name}: {locator} is there for GET and not for HEAD"
                raise Unavailable(text) from refused
        if size_bytes is None:
            raise Unavailable(f"{self.name}: the store does not tell the size of {locator}")
        return Stat(
            locator,
            size_bytes,
            etag=headers.get("etag"),
            modified_at=_time(headers.get("last-modified")),
            sha256=await self._proven(headers),
        )

    async def _proven(self, headers: Mapping[str, str]) -> Digest | None:
        """The digest of the whole object, if the server has looked at the bytes itself."""
        digest = _digest(headers)
        return digest if digest is not None and await self._checks() else None

    async def _checks(self) -> bool:
        """Whether the server refuses a wrong digest; it is tried once."""
        known = self._checking.proven is not None
        checks = await self._checking.is_true(self._lie)
        if not known:
            self.caps = replace(self.caps, verifies_sha256=checks)
        return checks

    async def _lie(self) -> None:
        """What a server took that should have refused it, nobody needs."""
        await self._put_note(LIE_KEY, NOTE, checksum=WRONG)
        await self.delete(LIE_KEY)

    async def _put_note(self, locator: str, note: bytes, checksum: Digest | None = None) -> None:
        await self._requests.put_part(self._full(locator), Part.of(note), JSON, checksum=checksum)

    def _headers(self, source: Source) -> dict[str, str]:
        """What is said of the object, for whoever serves it from here."""
        headers = {"content-type": source.media_type}
        if source.cache_seconds is not None:
            headers["cache-control"] = f"public, max-age={source.cache_seconds}"
        if self._storage_class is not None:
            headers["x-amz-storage-class"] = self._storage_class
        return headers


def _listed(locator: str, found: Found) -> Stat | None:
    """One line of a list. A foreign object whose name is no key cannot be ours."""
    try:
        Key(locator)
    except BadPath:
        return None
    if locator.startswith(RESERVED_PREFIX):
        return None
    return Stat(locator, found.size_bytes, etag=found.etag, modified_at=found.modified_at)


def _digest(headers: Mapping[str, str]) -> Digest | None:
    """What is said to be the SHA-256 of the whole object; that of its parts has a dash."""
    text = headers.get("x-amz-checksum-sha256", "")
    try:
        return Digest(base64.b64decode(text, validate=True))
    except (binascii.Error, BadDigest):
        return None


def _time(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except ValueError:
        return None
