"""The door to a keep on a server, over its HTTP API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from soundkeep.cli.doors import Door, Json, Listing
from soundkeep.errors import SettingsError, SoundkeepError, Truncated, Unavailable

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
PIECE_BYTES = 256 * 1024


class Refused(SoundkeepError):
    """The server refused; its problem document says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@asynccontextmanager
async def opened(url: str, key: str | None) -> AsyncIterator[Door]:
    """Raises `SettingsError` for a URL that is none."""
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url {url!r} does not begin with http:// or https://")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, timeout=TIMEOUT) as session:
        yield RemoteDoor(session, url.rstrip("/"))


class RemoteDoor:
    """See `doors.Door`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def add(self, body: AsyncIterator[bytes], fields: dict[str, str]) -> tuple[Json, bool]:
        async with self._asking("POST", "/api/tracks", params=fields, data=body) as answer:
            return await answer.json(), answer.status == 201

    async def page(self, listing: Listing) -> Json:
        given = {
            "prefix": listing.prefix,
            "search": listing.search,
            "limit": str(listing.limit),
            "cursor": listing.cursor,
        }
        params = {name: value for name, value in given.items() if value}
        return await self._json("GET", "/api/tracks", params=params)

    async def show(self, track_id: str) -> Json:
        return await self._json("GET", f"/api/tracks/{quote(track_id, safe='')}")

    async def get(self, track_id: str) -> AsyncGenerator[bytes, None]:
        async with self._asking("GET", f"/audio/{quote(track_id, safe='')}") as answer:
            try:
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    yield piece
            except aiohttp.ClientPayloadError:
                raise Truncated("the server broke off: it has no good copy left") from None

    async def remove(self, track_id: str) -> Json:
        return await self._json("DELETE", f"/api/tracks/{quote(track_id, safe='')}")

    async def status(self) -> Json:
        return await self._json("GET", "/api/status")

    async def check(self) -> Json:
        return await self._json("GET", "/api/check")

    async def retry(self, track_id: str | None, store: str | None) -> int:
        which = {"track_id": track_id, "store": store}
        given = {name: value for name, value in which.items() if value}
        answer = await self._json("POST", "/api/copies/retry", json=given)
        return int(answer["due"])

    async def settle(self) -> None:
        """The server's own worker does what is left."""

    async def _json(self, method: str, path: str, **options: Any) -> Json:
        async with self._asking(method, path, **options) as answer:
            found: Json = await answer.json()
            return found

    @asynccontextmanager
    async def _asking(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, self._url + path, **options) as answer:
                if answer.status >= 400:
                    raise await _refusal(answer)
                yield answer
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise Unavailable(f"{self._url} does not answer: {error}") from None


async def _refusal(answer: aiohttp.ClientResponse) -> Refused:
    try:
        document = await answer.json(content_type=None)
        return Refused(document["code"], document["detail"])
    except (ValueError, KeyError, TypeError):
        return Refused("http_error", f"the server answered {answer.status}")
