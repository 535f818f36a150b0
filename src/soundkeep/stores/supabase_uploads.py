"""Large objects sent to Supabase by tus, in chunks of exactly 6 MiB, as it asks for.

    POST    what it will be, answered with the upload's own address
    PATCH   one chunk, from the offset that was reached
    HEAD    the offset, after a connection that broke
    DELETE  throws it away

An object appears with its last chunk. A cut costs what of one chunk had not arrived: the rest is
sent from the offset that the server tells. An upload that nobody goes on with is thrown away by the
service after a day.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from soundkeep.errors import Misconfigured, Retryable, StoreError, Throttled, Unavailable
from soundkeep.stores.http_service import General
from soundkeep.stores.interface import Source
from soundkeep.stores.pieces import exactly, grouped
from soundkeep.stores.supabase_requests import Requests

CHUNK_BYTES = 6 * 1024 * 1024
RESUMES = 4  # in a row that brought nothing
ABORT_SECONDS = 5
TUS = {"tus-resumable": "1.0.0"}

Group = list[memoryview]


class Uploads:
    """To one bucket."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def put(self, name: str, source: Source, metadata: Mapping[str, str]) -> None:
        """Raises every `StoreError`, and whatever the source raises."""
        path = await self._begin(name, source.size_bytes, metadata)
        try:
            offset = 0
            async with aclosing(_behind(grouped(exactly(source), CHUNK_BYTES))) as chunks:
                async for chunk in chunks:
                    offset = await self._send(path, offset, b"".join(chunk))
        except BaseException:
            await self._abandon(path)
            raise

    async def _begin(self, name: str, size_bytes: int, metadata: Mapping[str, str]) -> str:
        """The path of a new upload. Whatever host it names, the key goes to ours alone."""
        told = {"bucketName": self._requests.bucket, "objectName": name, **metadata}
        headers = {
            **TUS,
            "upload-length": str(size_bytes),
            "upload-metadata": ",".join(f"{word} {_base64(text)}" for word, text in told.items()),
            "x-upsert": "true",
        }
        path = "/upload/resumable"
        async with self._requests.answered("POST", path, headers=headers) as answer:
            upload_id = urlsplit(answer.headers.get("location", "")).path.rpartition("/")[2]
            if answer.status != 201 or not upload_id:
                raise self._requests.no_supabase(f"POST {path}")
        return f"{path}/{quote(upload_id, safe='')}"

    async def _send(self, path: str, start: int, chunk: bytes) -> int:
        """Brings one chunk there, in as many requests as it takes; answers where it ends."""
        offset, stop, in_vain = start, start + len(chunk), 0
        while offset < stop:
            rest = memoryview(chunk)[offset - start :]
            try:
                reached = await self._reached(path, offset, rest, is_last=in_vain == RESUMES)
            except Misconfigured as error:  # a plain 404
                text = f"{self._requests.name}: the service has forgotten an upload"
                raise Unavailable(text) from error
            if not start <= reached <= stop:
                raise Unavailable(f"{self._requests.name}: the upload has lost its way")
            in_vain = 0 if reached > offset else in_vain + 1
            if in_vain > RESUMES:
                raise Unavailable(f"{self._requests.name}: the upload does not get on")
            offset = reached
        return offset

    async def _reached(self, path: str, offset: int, rest: memoryview, *, is_last: bool) -> int:
        """Sends what is left of a chunk; answers how far the upload is then, also if that failed,
        unless it is the last time."""
        try:
            return await self._patch(path, offset, rest)
        except Throttled:
            raise
        except Retryable:
            if is_last:
                raise
            return await self._offset(path)

    async def _patch(self, path: str, offset: int, rest: memoryview) -> int:
        headers = {
            **TUS,
            "upload-offset": str(offset),
            "content-type": "application/offset+octet-stream",
        }
        async with self._requests.answered(
            "PATCH",
            path,
            headers=headers,
            sent=self._requests.sending(_pieces(rest)),
            seconds=self._requests.phases.written,
        ) as answer:
            return self._told(General(answer))

    async def _offset(self, path: str) -> int:
        async with self._requests.answered("HEAD", path, headers=TUS) as answer:
            return self._told(General(answer))

    def _told(self, answer: General) -> int:
        text = answer.headers.get("upload-offset", "")
        if not (text.isascii() and text.isdecimal()):
            raise self._requests.no_supabase("an upload in chunks")
        return int(text)

    async def _abandon(self, path: str) -> None:
        """Throws it away if that can be done now; else the service will."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                async with self._requests.answered("DELETE", path, headers=TUS):
                    pass


async def _behind(groups: AsyncGenerator[Group, None]) -> AsyncGenerator[Group, None]:
    """The same, each one late: the last is sent only when the source has ended as it should."""
    held: Group | None = None
    async with aclosing(groups):
        async for group in groups:
            if held is not None:
                yield held
            held = group
    if held is not None:
        yield held


def _pieces(rest: memoryview) -> list[Any]:
    size = 256 * 1024
    return [rest[at : at + size] for at in range(0, len(rest), size)]


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
