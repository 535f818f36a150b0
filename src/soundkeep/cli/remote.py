"""The verbs' service on a server, over HTTP. Its problem documents become our errors again."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from soundkeep import errors
from soundkeep.cli.service import Document, Which, pieces_of
from soundkeep.intake.recording import NewTrack

PIECE_BYTES = 256 * 1024
CONNECT_SECONDS = 10.0
PLANS = "/api/speech/plans"
SPEAKING_SECONDS = 6 * 3600.0  # until a whole text was said
ANSWER_SECONDS = 120.0  # between two pieces; an upload's answer may take `policy.ack_seconds`


@asynccontextmanager
async def connected(url: str, key: str | None) -> AsyncIterator[RemoteService]:
    """The service at a base URL. Raises `SettingsError` if that is none."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise errors.SettingsError(f"--url: {url!r} is not an http:// or https:// URL")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS
    )
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, read_bufsize=PIECE_BYTES, auto_decompress=False
    ) as session:
        yield RemoteService(session, url.rstrip("/"))


class RemoteService:
    """Asks a server."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url

    async def add(
        self, body: AsyncIterator[bytes], new: NewTrack, size_bytes: int | None
    ) -> tuple[Document, bool]:
        headers = {"Content-Type": "application/octet-stream"}
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        async with self._asked(
            "POST", "/api/tracks", params=_fields(new), data=body, headers=headers
        ) as answer:
            return await answer.json(), answer.status == 201

    async def add_file(self, file: Path, new: NewTrack) -> None:
        with file.open("rb") as opened:
            await self.add(pieces_of(opened), new, os.fstat(opened.fileno()).st_size)

    async def digest_at(self, owner: str, path: str, size_bytes: int) -> str | None:
        """The exact path is the first under its prefix."""
        page = await self.tracks(Which(prefix=path, owner=owner), limit=1)
        held = next(iter(page["items"]), None)
        if held is None or held["path"] != path or held["size_bytes"] != size_bytes:
            return None
        return str(held["digest"])

    async def track(self, track_id: str) -> Document:
        return await self._document("GET", f"/api/tracks/{quote(track_id, safe='')}")

    async def tracks(self, which: Which, limit: int, cursor: str | None = None) -> Document:
        wanted = {
            "prefix": which.prefix,
            "search": which.search,
            "owner": which.owner,
            "limit": str(limit),
            "cursor": cursor,
        }
        return await self._document("GET", "/api/tracks", params=_given(wanted))

    async def sound(self, track: Document) -> AsyncGenerator[bytes, None]:
        async with self._asked("GET", f"/audio/{quote(track['id'], safe='')}") as answer:
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                yield piece

    async def remove(self, track_id: str) -> Document:
        return await self._document("DELETE", f"/api/tracks/{quote(track_id, safe='')}")

    async def copies(self, track_id: str) -> Document:
        return await self._document("GET", f"/api/tracks/{quote(track_id, safe='')}/copies")

    async def receipt(self, track_id: str) -> Document:
        return await self._document("GET", f"/api/tracks/{quote(track_id, safe='')}/receipt")

    async def status(self) -> Document:
        return await self._document("GET", "/api/status")

    async def failing(self, limit: int) -> list[Document]:
        params = {"failed": "true", "limit": str(limit)}
        found: list[Document] = (await self._document("GET", "/api/copies", params=params))["items"]
        return found

    async def check(self) -> Document:
        return await self._document("GET", "/api/check")

    async def retry(self, track_id: str | None, store: str | None) -> int:
        which = _given({"track_id": track_id, "store": store})
        return int((await self._document("POST", "/api/copies/retry", json=which))["due"])

    async def drain(self, store: str) -> Document:
        return await self._drained(store, is_to_be=True)

    async def resume(self, store: str) -> Document:
        return await self._drained(store, is_to_be=False)

    async def _drained(self, store: str, *, is_to_be: bool) -> Document:
        path = f"/api/stores/{quote(store, safe='')}"
        return await self._document("PATCH", path, json={"draining": is_to_be})

    async def sync(self, order: Document) -> Document:
        return await self._document("POST", "/api/sync", json=order)

    async def render(self, track_id: str, format: str) -> Document:
        """A long sound takes a while."""
        patient = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SPEAKING_SECONDS)
        path = f"/api/tracks/{quote(track_id, safe='')}/renditions"
        return await self._document("POST", path, json={"format": format}, timeout=patient)

    async def say(self, fields: Document, heard: Callable[[int, int], object]) -> Document:
        """A book takes a while, and nothing comes before all of it is there."""
        patient = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SPEAKING_SECONDS)
        return await self._document("POST", "/api/speech", json=fields, timeout=patient)

    async def timing(self, track_id: str, *, as_webvtt: bool) -> str:
        path = f"/api/tracks/{quote(track_id, safe='')}/timing"
        params = {"format": "vtt" if as_webvtt else "json"}
        async with self._asked("GET", path, params=params) as answer:
            return await answer.text()

    async def speech_stats(self) -> Document:
        return await self._document("GET", "/api/speech/stats")

    async def voices(self, engine: str | None) -> list[Document]:
        params = _given({"engine": engine})
        found: list[Document] = (await self._document("GET", "/api/speech/voices", params=params))[
            "items"
        ]
        return found

    async def make_plan(self, fields: Document) -> Document:
        return await self._document("POST", PLANS, json=fields)

    async def plans(self, limit: int, cursor: str | None = None) -> Document:
        params = _given({"limit": str(limit), "cursor": cursor})
        return await self._document("GET", PLANS, params=params)

    async def plan(self, plan_id: str) -> Document:
        return await self._document("GET", f"{PLANS}/{quote(plan_id, safe='')}")

    async def pause_plan(self, plan_id: str) -> Document:
        return await self._document("POST", f"{PLANS}/{quote(plan_id, safe='')}/pause")

    async def resume_plan(self, plan_id: str, budget: str | None) -> Document:
        path = f"{PLANS}/{quote(plan_id, safe='')}/resume"
        return await self._document("POST", path, json=_given({"budget": budget}))

    async def cancel_plan(self, plan_id: str) -> Document:
        return await self._document("DELETE", f"{PLANS}/{quote(plan_id, safe='')}")

    async def settle(self, within_seconds: float) -> None:
        """The server works on its own."""

    async def _document(self, method: str, path: str, **request: Any) -> Document:
        async with self._asked(method, path, **request) as answer:
            document: Document = await answer.json()
            return document

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, **request: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is no refusal. Raises the server's error, or `Unavailable`."""
        with _translated(self._base_url):
            url = self._base_url + path
            async with self._session.request(
                method, url, allow_redirects=False, **request
            ) as answer:
                if answer.status >= 300:
                    raise _error(answer.status, await answer.read())
                yield answer


@contextmanager
def _translated(base_url: str) -> Iterator[None]:
    try:
        yield
    except aiohttp.ContentTypeError:
        raise errors.Unavailable(f"{base_url} does not answer as Soundkeep does") from None
    except TimeoutError as error:
        raise errors.TimedOut(f"{base_url} did not answer in time") from error
    except aiohttp.ClientPayloadError as error:
        raise errors.Truncated(f"{base_url} broke off in the middle") from error
    except aiohttp.ClientError as error:
        raise errors.Unavailable(f"{base_url} cannot be reached: {error}") from error


def _error(status: int, body: bytes) -> errors.SoundkeepError:
    """The error that a problem document tells of."""
    try:
        document = json.loads(body)
        code, detail = str(document["code"]), str(document["detail"])
    except (ValueError, TypeError, KeyError):
        return errors.Unavailable(f"the server answered HTTP {status} and no reason")
    return _kinds().get(code, errors.SoundkeepError)(detail)


def _kinds() -> dict[str, type[errors.SoundkeepError]]:
    """Every error by its code."""
    kinds, waiting = {}, [errors.SoundkeepError]
    while waiting:
        kind = waiting.pop()
        kinds[kind.code] = kind
        waiting += kind.__subclasses__()
    return kinds


def _fields(new: NewTrack) -> dict[str, str]:
    return _given(
        {
            "id": new.id,
            "owner": new.owner,
            "path": new.path,
            "title": new.title,
            "visibility": new.visibility.value,
            "metadata": json.dumps(new.metadata) if new.metadata else None,
            "replace": "true" if new.replace else None,
        }
    )


def _given(values: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
