"""A store in a bucket of Supabase Storage, by its own REST and a service key.

An object appears whole or not at all: small ones come in one request, larger ones by tus. The
service checks no digest, so each is read back. What the bucket itself refuses (its greatest size,
its types) is asked once and becomes part of the store's caps.

Its neighbours: `supabase_requests` talks, `supabase_uploads` sends in chunks, `supabase_listing`
lists, `supabase_errors` says what a refusal means, `http_ranges` reads.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import resources
from typing import Any
from urllib.parse import quote

from soundkeep.errors import (
    BadPath,
    Corrupt,
    Misconfigured,
    NotFound,
    Retryable,
    Unavailable,
    Unsupported,
)
from soundkeep.stores.http_bodies import Body
from soundkeep.stores.http_ranges import ranged
from soundkeep.stores.http_service import PHASES, Phases, parsed, start_of
from soundkeep.stores.interface import (
    MARKER_KEY,
    RESERVED_PREFIX,
    Bytes,
    Caps,
    Key,
    Receipt,
    Source,
    Stat,
    is_among,
)
from soundkeep.stores.pieces import check_fits, exactly
from soundkeep.stores.supabase_listing import Listing
from soundkeep.stores.supabase_requests import SPELLING, Requests, name_of, spelled
from soundkeep.stores.supabase_uploads import CHUNK_BYTES, Uploads

SERVICE_PATH = "/storage/v1"
MARKER_BYTES = 4096
JSON = "application/json"
POLICIES = "supabase_policies.sql"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a bucket says of itself."""

    public: bool
    max_bytes: int | None
    types: tuple[str, ...] | None  # such as `audio/*`; None is all

    @classmethod
    def of(cls, said: Any) -> Limits:
        """Raises `LookupError` or such for another form."""
        types = said.get("allowed_mime_types")
        size = said.get("file_size_limit")
        return cls(bool(said["public"]), int(size) if size else None, tuple(types or ()) or None)

    @property
    def marker_type(self) -> str:
        """The marker is JSON; where that is not taken it goes under a type that is."""
        if is_among(JSON, self.types):
            return JSON
        return (self.types or ("",))[0].replace("/*", "/mpeg")


class SupabaseStore:
    """Objects in a bucket. `url` is the project's, or the service's own if it has a path."""

    def __init__(
        self,
        name: str,
        url: str,
        bucket: str,
        key: str,
        *,
        single_put_bytes: int = CHUNK_BYTES,
        phases: Phases = PHASES,
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.caps = Caps(
            signs=True, public=public, max_bytes=max_bytes, types=types, spelling=SPELLING
        )
        self._set = self.caps  # what was set, before the bucket was asked
        self._limits: Limits | None = None
        self._single_put_bytes = single_put_bytes
        base = url.rstrip("/")
        if base.count("/") == 2:  # no path
            base += SERVICE_PATH
        self._requests = Requests(name, base, bucket, key, phases)
        self._uploads = Uploads(self._requests)
        self._listing = Listing(self._requests)

    async def probe(self) -> None:
        await self._learn()

    async def read_marker(self) -> str | None:
        await self._known()
        try:
            async with self._requests.object(name_of(MARKER_KEY)) as answer:
                text = await start_of(answer, MARKER_BYTES)
            return str(parsed(text)["id"])
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{self.name}: its marker {MARKER_KEY} cannot be read") from error

    async def write_marker(self, store_id: str) -> None:
        limits = await self._learn()
        text = json.dumps({"id": store_id}).encode()
        body = self._requests.sending([text])
        await self._post(name_of(MARKER_KEY), limits.marker_type, None, body)

    async def put(self, key: Key, source: Source) -> Receipt:
        await self._known()
        self._check(source)
        name = spelled(str(key))
        if source.size_bytes > self._single_put_bytes:
            metadata = {"contentType": source.media_type}
            if source.cache_seconds is not None:
                metadata["cacheControl"] = str(source.cache_seconds)
            await self._uploads.put(name, source, metadata)
        else:
            await self._put_at_once(name, source)
        return Receipt(name)

    async def stat(self, locator: str) -> Stat | None:
        try:
            return await self._stat(locator)
        except NotFound:
            return None

    def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        async def size() -> int:
            return (await self._stat(locator)).size_bytes

        return ranged(self._requests, name_of(locator), start, stop, size)

    async def delete(self, locator: str) -> None:
        path = self._requests.path("object", name_of(locator))
        try:
            await self._requests.ask("DELETE", path)
        except NotFound:
            return

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        found = self._listing.objects(name_of(prefix), after or "")
        async with aclosing(found) as stats:
            async for stat in stats:
                if _is_ours(stat.locator):
                    yield stat

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        """None also for what is not there: only of an object the service makes one."""
        path = self._requests.path("object/sign", name_of(locator))
        seconds = max(1, int(expires_in.total_seconds()))
        try:
            said = await self._requests.ask("POST", path, {"expiresIn": seconds})
            token = said["signedURL"].partition("?token=")[2]
        except NotFound:
            return None
        except (KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"{self.name}: the link cannot be understood") from error
        if not token:
            raise Unavailable(f"{self.name}: the link cannot be understood")
        return f"{self._requests.base}{path}?token={quote(token)}"

    async def reap(self, older_than: timedelta) -> int:
        """The service itself throws away unfinished uploads, and tells nobody of them."""
        return 0

    async def close(self) -> None:
        await self._requests.close()

    async def prepare(self) -> str:
        """Makes the bucket if there is none; answers the SQL that a person may run."""
        policies = resources.files("soundkeep.stores").joinpath(POLICIES).read_text()
        sql = policies.replace("BUCKET", self._requests.bucket)
        try:
            await self._learn()
        except Misconfigured as missing:
            await self._make_bucket(missing)
            await self._learn()
        return sql

    # --- the bucket -------------------------------------------------------------------------

    async def _known(self) -> Limits:
        return self._limits or await self._learn()

    async def _learn(self) -> Limits:
        """Asks the bucket for its limits. Raises `Misconfigured` if it is not what was set."""
        path = self._requests.bucket_path("bucket")
        try:
            limits = Limits.of(await self._requests.ask("GET", path))
        except NotFound as error:
            raise Misconfigured(f"{self.name}: there is no such bucket") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._requests.no_supabase(f"GET {path}") from error
        if limits.public != self.caps.public:
            is_it = "public: anybody may read it" if limits.public else "not public"
            raise Misconfigured(
                f"{self.name}: the bucket is {is_it}, and the settings say otherwise. "
                "Change the bucket, or `public` of this store"
            )
        self._limits = limits
        caps = self._set.within(limits.max_bytes, limits.types)
        self.caps = replace(caps, sidecars=is_among(JSON, limits.types))
        return limits

    async def _make_bucket(self, missing: Misconfigured) -> None:
        """One that is there already was not what is `missing`."""
        bucket = self._requests.bucket
        asked = {"id": bucket, "name": bucket, "public": self.caps.public}
        if self._set.max_bytes is not None:
            asked["file_size_limit"] = self._set.max_bytes
        try:
            await self._requests.ask("POST", "/bucket", asked)
        except Retryable:
            raise missing from None

    def _check(self, source: Source) -> None:
        check_fits(self.caps, source)
        limits = self._limits
        if limits is not None and not is_among(source.media_type, limits.types):
            raise Unsupported(f"{self.name}: the bucket does not take {source.media_type}")

    # --- one object -------------------------------------------------------------------------

    async def _put_at_once(self, name: str, source: Source) -> None:
        body = Body(source.size_bytes, lambda: exactly(source), self._requests.phases.between_bytes)
        try:
            await self._post(name, source.media_type, source.cache_seconds, body)
        except Exception:
            if body.failure is not None:
                raise body.failure from None
            raise

    async def _post(self, name: str, media_type: str, cache: int | None, body: Body) -> None:
        headers = {"content-type": media_type, "x-upsert": "true"}
        if cache is not None:
            headers["cache-control"] = f"max-age={cache}"
        path = self._requests.path("object", name)
        async with self._requests.answered(
            "POST", path, headers=headers, sent=body, seconds=self._requests.phases.written
        ) as answer:
            said = await self._requests.json(answer, f"POST {path}")
            if not isinstance(said, dict) or "Key" not in said:
                raise self._requests.no_supabase(f"POST {path}")

    async def _stat(self, locator: str) -> Stat:
        """Raises `NotFound`."""
        said = await self._requests.ask("GET", self._requests.path("object/info", name_of(locator)))
        try:
            modified = said.get("last_modified") or said.get("updated_at")
            return Stat(
                locator,
                int(said["size"]),
                etag=said.get("etag"),
                modified_at=datetime.fromisoformat(modified).timestamp() if modified else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{self.name}: what is said of {locator} is unclear") from error


def _is_ours(name: str) -> bool:
    """A foreign object whose name is no key cannot be ours."""
    try:
        Key(name)
    except BadPath:
        return False
    return not name.startswith(RESERVED_PREFIX)
