"""Requests to one bucket over connections that are kept: signed, timed by the phase, translated.

It sends what is asked for once and tries nothing again, but for a kept connection that turns out
to be closed. Connecting, the first byte and the time between two bytes each have their limit.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import (
    BytesPayload,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    Payload,
    TCPConnector,
)
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.stores.interface import Source
from soundkeep.stores.pieces import exactly
from soundkeep.stores.s3_errors import Refusal, translated
from soundkeep.stores.s3_signing import NOTHING, Address, Signer

IDLE_SECONDS = 30  # a kept connection; servers close theirs after 60 s or more
ERROR_BYTES = 16 * 1024  # as much of a refusal is read
PIPE_BYTES = CHUNK_BYTES  # a body is read ahead by up to twice as much


@dataclass(frozen=True, slots=True)
class Phases:
    """How long each phase of a request may take, in seconds."""

    connect: float = 5
    first_byte: float = 10
    between_bytes: float = 10
    written: float = 60  # from the last byte of a put to its answer

    @classmethod
    def within(cls, seconds: float) -> Phases:
        """As usual, but none longer than that."""
        return cls(**{name: min(usual, seconds) for name, usual in asdict(PHASES).items()})


PHASES = Phases()


class Requests:
    """A session with one bucket. It opens nothing until it is used."""

    def __init__(self, name: str, address: Address, signer: Signer, phases: Phases) -> None:
        self.name = name
        self._address = address
        self._signer = signer
        self._phases = phases
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def get(
        self, method: str, key: str, headers: Mapping[str, str]
    ) -> AsyncIterator[ClientResponse]:
        """The answer to a GET or a HEAD, its body still to be read. Raises every `StoreError`."""
        with translated(self._what(method, key)):
            async with asyncio.timeout(self._phases.connect + self._phases.first_byte):
                answer = await self._request(
                    method, key, headers, silence_seconds=self._phases.between_bytes
                )
            async with answer:
                await self._refuse(answer, method, key)
                yield answer

    async def put(self, key: str, source: Source, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Sends the source as it comes, and answers the headers of the answer.

        Raises every `StoreError`, and whatever the source raises.
        """
        body = SourceBody(source, self._phases.between_bytes)
        try:
            return await self._put(key, body, source.digest, source.digest, headers)
        except Exception:
            if body.failure is not None:
                raise body.failure from None
            raise

    async def put_note(
        self, key: str, note: bytes, headers: Mapping[str, str], *, checksum: Digest | None = None
    ) -> None:
        """Sends a few bytes, with a checksum that may be wrong on purpose."""
        digest = Digest.of(note)
        await self._put(key, BytesPayload(note), digest, checksum or digest, headers)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _put(
        self,
        key: str,
        body: Payload,
        signed: Digest,
        checksum: Digest,
        headers: Mapping[str, str],
    ) -> Mapping[str, str]:
        headers = {**headers, "x-amz-checksum-sha256": base64.b64encode(checksum.raw).decode()}
        with translated(self._what("PUT", key)):
            async with self._request(
                "PUT", key, headers, signed.hex, body, silence_seconds=self._phases.written
            ) as answer:
                await self._refuse(answer, "PUT", key)
                told: Mapping[str, str] = answer.headers
                return told

    def _request(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        sha256: str = NOTHING,
        body: Payload | None = None,
        *,
        silence_seconds: float,
    ) -> Any:  # an answer to wait for, or a context that gives one
        path = self._address.path(key)
        if self._session is None:
            self._session = _new_session()
        return self._session.request(
            method,
            URL(self._address.url(path), encoded=True),
            headers=self._signer.headers(method, path, headers, sha256),
            data=body,
            allow_redirects=False,  # a signature is good for one host
            timeout=ClientTimeout(
                total=None, sock_connect=self._phases.connect, sock_read=silence_seconds
            ),
        )

    async def _refuse(self, answer: ClientResponse, method: str, key: str) -> None:
        if answer.status >= 300:
            body = await answer.content.read(ERROR_BYTES)
            raise Refusal.read(answer.status, answer.headers, body).error(self._what(method, key))

    def _what(self, method: str, key: str) -> str:
        return f"{self.name}: {method} {key}"


class SourceBody(Payload):
    """A source as a body, opened anew for each attempt; what it raised is kept in `failure`."""

    _autoclose = True

    def __init__(self, source: Source, stall_seconds: float) -> None:
        super().__init__(source, content_type=source.media_type)
        self._source = source
        self._stall_seconds = stall_seconds
        self._size = source.size_bytes
        self.failure: Exception | None = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        async with aclosing(exactly(self._source)) as pieces:
            while (piece := await self._next(pieces)) is not None:
                async with asyncio.timeout(self._stall_seconds):
                    await writer.write(piece)

    async def _next(self, pieces: Any) -> bytes | None:
        try:
            piece: bytes | None = await anext(pieces, None)
        except Exception as error:
            self.failure = error
            raise
        return piece

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError("a source is bytes, and never read whole")


def _new_session() -> ClientSession:
    connector = TCPConnector(
        limit=0,  # who calls at once is limited around the store
        keepalive_timeout=IDLE_SECONDS,
        socket_factory=_socket,
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=PIPE_BYTES,
        headers={"accept-encoding": "identity", "user-agent": "soundkeep"},
    )


def _socket(address: Any) -> socket.socket:
    """With keepalive, so that a peer that vanished is noticed also between two requests."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
    return made
