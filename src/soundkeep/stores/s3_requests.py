"""Requests to one bucket over connections that are kept: signed, timed by the phase, translated.

It sends what is asked for once and tries nothing again, but for a kept connection that turns out
to be closed. Connecting, the first byte and the time between two bytes each have their limit.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import (
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
)
from yarl import URL

from soundkeep.digest import Digest
from soundkeep.errors import StoreError, Unavailable
from soundkeep.stores.http_bodies import Body, each
from soundkeep.stores.http_connections import Connections, SourceFailed
from soundkeep.stores.http_service import (
    COMMON,
    Answer,
    General,
    Phases,
    new_session,
    translated,
)
from soundkeep.stores.interface import Source
from soundkeep.stores.pieces import exactly
from soundkeep.stores.s3_answers import Answered, NotAnAnswer
from soundkeep.stores.s3_errors import NOT_S3, Refusal
from soundkeep.stores.s3_parts import Part
from soundkeep.stores.s3_signing import NOTHING, Address, Signer, encoded

ANSWER_BYTES = 16 * 1024 * 1024  # a page of a thousand of the longest names has four
NO_HEADERS: Mapping[str, str] = {}


class Requests:
    """A session with one bucket. It opens nothing until it is used."""

    def __init__(self, name: str, address: Address, signer: Signer, phases: Phases) -> None:
        self.name = name
        self._address = address
        self._signer = signer
        self._phases = phases
        self._session: ClientSession | None = None
        self._connections = Connections(
            address.scheme,
            address.host,
            connect_seconds=phases.connect,
            first_byte_seconds=phases.first_byte,
            between_bytes_seconds=phases.between_bytes,
        )
        self._measures = True  # whether this server tells the length of its answers

    @asynccontextmanager
    async def get(
        self, method: str, key: str, headers: Mapping[str, str]
    ) -> AsyncIterator[ClientResponse]:
        """The answer to a GET or a HEAD, its body still to be read. Raises every `StoreError`."""
        with translated(self._what(method, key)):
            async with asyncio.timeout(self._phases.connect + self._phases.first_byte):
                answer = await self._request(method, key, headers, self._phases.between_bytes)
            async with answer:
                await _refuse(General(answer), self._what(method, key))
                yield answer

    @asynccontextmanager
    async def body(self, key: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """The answer to a GET, for much to be read. Raises every `StoreError`."""
        if self._measures:
            what = self._what("GET", key)
            with translated(what):
                path = self._address.path(key)
                signed = self._signer.headers("GET", path, headers, NOTHING)
                answer = await self._connections.get(path, COMMON | signed)
                try:
                    await _refuse(answer, what)
                    if answer.content_length is not None:
                        yield answer
                        return
                finally:
                    self._connections.release(answer)
            self._measures = False
        async with self.get("GET", key, headers) as general:
            yield General(general)

    async def put(self, key: str, source: Source, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Sends the source as it comes, and answers the headers of the answer.

        Raises every `StoreError`, and whatever the source raises.
        """
        whole = Part(source.size_bytes, source.digest, lambda: exactly(source))
        return await self.put_part(key, whole, headers)

    async def put_part(
        self,
        key: str,
        part: Part,
        headers: Mapping[str, str],
        *,
        query: str = "",
        checksum: Digest | None = None,
    ) -> Mapping[str, str]:
        """Sends a part, with a checksum that may be wrong on purpose. Raises as `put`."""
        path, what = self._address.path(key), self._what("PUT", key)
        told = {**headers, **_checksum(checksum or part.digest)}
        signed = self._signer.headers("PUT", path, told, part.digest.hex, query)
        try:
            with translated(what):
                answer = await self._connections.put(
                    f"{path}?{query}" if query else path,
                    COMMON | signed,
                    part.size_bytes,
                    part.opened,
                    answer_seconds=self._phases.written,
                )
                try:
                    await _refuse(answer, what)
                    await answer.beginning()  # of nothing, but it has an end
                    return answer.headers
                finally:
                    self._connections.release(answer)
        except SourceFailed as failed:
            raise failed.reason from None

    async def ask(
        self,
        method: str,
        key: str,
        word: str,
        asked: Mapping[str, str],
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        fine: Collection[str] = (),
    ) -> Answered | None:
        """What the answer in XML says, which must tell `word`; None if it is a refusal whose code
        is `fine`. An empty key is the bucket itself. Raises every `StoreError`."""
        async with self._asked(method, key, asked, headers, body, fine) as answer:
            if answer is None:
                return None
            try:
                answered = await _answered(answer)
                if answered.root == "Error":  # one that came too late for a status of its own
                    late = Refusal(500, answered.words.get("Code", ""))
                    raise late.error(self._what(method, key))
                answered.expect(word)
            except NotAnAnswer as error:
                raise _no_s3(self._what(method, key)) from error
            except ClientPayloadError as error:
                what = self._what(method, key)
                raise Unavailable(f"{what}: the connection broke in the answer") from error
            return answered

    async def delete(
        self, key: str, asked: Mapping[str, str] = NO_HEADERS, *, fine: Collection[str] = ()
    ) -> None:
        """Deletes an object, or what is asked for of it. Raises every `StoreError`."""
        async with self._asked("DELETE", key, asked, NO_HEADERS, b"", fine):
            pass

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        key: str,
        asked: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
        fine: Collection[str],
    ) -> AsyncIterator[ClientResponse | None]:
        """An answer that was given and is no page for people. A network's log-in page would else
        pass for an empty list or a deletion."""
        query = "&".join(f"{encoded(name)}={encoded(asked[name])}" for name in sorted(asked))
        sent = Body(len(body), lambda: each([body]), self._phases.between_bytes) if body else None
        with translated(self._what(method, key)):
            async with self._request(
                method, key, headers, self._phases.written, _sha256(body), sent, query
            ) as answer:
                if answer.status < 300 and "html" in answer.headers.get("content-type", ""):
                    raise _no_s3(self._what(method, key))
                refusal = await _refusal(General(answer)) if answer.status >= 300 else None
                if refusal is not None and refusal.code not in fine:
                    raise refusal.error(self._what(method, key))
                yield answer if refusal is None else None

    async def close(self) -> None:
        self._connections.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _request(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        silence_seconds: float,
        sha256: str = NOTHING,
        body: Body | None = None,
        query: str = "",
    ) -> Any:  # an answer to wait for, or a context that gives one
        path = self._address.path(key)
        if self._session is None:
            self._session = new_session()
        return self._session.request(
            method,
            URL(self._address.url(path, query), encoded=True),
            headers=self._signer.headers(method, path, headers, sha256, query),
            data=body,
            allow_redirects=False,  # a signature is good for one host
            timeout=ClientTimeout(
                total=None, sock_connect=self._phases.connect, sock_read=silence_seconds
            ),
        )

    def _what(self, method: str, key: str) -> str:
        return f"{self.name}: {method} {key}".rstrip()


async def _refuse(answer: Answer, what: str) -> None:
    """What S3 says of an object has an ETag. Without one it is the log-in page of a network, or
    another server that says 200 to everything."""
    if answer.status < 300 and "etag" not in answer.headers:
        raise _no_s3(what)
    if answer.status >= 300:
        raise (await _refusal(answer)).error(what)


async def _refusal(answer: Answer) -> Refusal:
    return Refusal.read(answer.status, answer.headers, await answer.beginning())


def _no_s3(what: str) -> StoreError:
    kind, meaning = NOT_S3
    return kind(f"{what}: {meaning}")


async def _answered(answer: ClientResponse) -> Answered:
    answered, size_bytes = Answered(), 0
    async for piece in answer.content.iter_any():
        size_bytes += len(piece)
        if size_bytes > ANSWER_BYTES:
            raise NotAnAnswer(f"it is longer than {ANSWER_BYTES} bytes")
        answered.feed(piece)
    return answered.finish()


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else NOTHING


def _checksum(digest: Digest) -> dict[str, str]:
    return {"x-amz-checksum-sha256": base64.b64encode(digest.raw).decode()}
