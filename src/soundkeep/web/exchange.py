"""One request and its answer, for the plain ASGI classes: the hot path and the gateways.

What has begun and cannot be ended well is left without its last piece: uvicorn then closes the
connection, and no client takes what it has for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from soundkeep.errors import CatalogUnavailable, IncompleteUpload, Unplayable, UploadTooLarge
from soundkeep.reading.body import Body
from soundkeep.reading.trusted import Buffer
from soundkeep.web.headers import Headers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WATCHED_BYTES = 2 * 1024 * 1024  # longer bodies notice when their listener has gone

log = structlog.get_logger()


class Exchange:
    """One request, and the way to answer it."""

    __slots__ = ("_send", "begun", "headers", "method", "path", "query", "raw_path", "receive")

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self._send = send
        self.begun = False  # whether a status was sent: then there is no other answer any more

    def text(self, name: bytes) -> str | None:
        """A header's value."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def take(self, max_bytes: int) -> bytes:
        """The request's body. Raises `UploadTooLarge` and `IncompleteUpload`."""
        taken = b""
        more = True
        while more:
            message = await self.receive()
            if message["type"] != "http.request":
                raise IncompleteUpload
            taken += message["body"]
            more = message.get("more_body", False)
            if len(taken) > max_bytes:
                raise UploadTooLarge(f"the request is larger than {max_bytes} bytes")
        return taken

    def start(self, status: int, headers: Headers) -> Awaitable[None]:
        """The status and the headers."""
        self.begun = True
        return self._send({"type": "http.response.start", "status": status, "headers": headers})

    def body(self, piece: Buffer, *, more: bool) -> Awaitable[None]:
        """A piece of the body; the last one says that there are no more."""
        return self._send({"type": "http.response.body", "body": piece, "more_body": more})


async def send_sound(
    exchange: Exchange, body: Body, piece: Buffer, size_bytes: int, sent: Callable[[int], None]
) -> None:
    """A body from its first piece on, whose length was promised; `sent` counts what went out."""
    if len(piece) == size_bytes:
        await exchange.body(piece, more=False)
        sent(size_bytes)
        return
    left = size_bytes
    async with _Watch(exchange, enabled=left > WATCHED_BYTES) as watch:
        while not watch.gone:
            left -= len(piece)
            await exchange.body(piece, more=left > 0)
            sent(len(piece))
            if not left:
                return
            try:
                piece = await body.next()
            except (Unplayable, CatalogUnavailable) as error:
                log.warning("a sound was cut", path=exchange.path, left=left, why=str(error))
                return


class _Watch:
    """Notices that a listener has gone: servers do not say so when something is sent."""

    def __init__(self, exchange: Exchange, *, enabled: bool) -> None:
        self._exchange = exchange
        self._task: asyncio.Task[None] | None = None
        self._enabled = enabled

    async def __aenter__(self) -> _Watch:
        if self._enabled:
            self._task = asyncio.create_task(self._wait())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()

    @property
    def gone(self) -> bool:
        return self._task is not None and self._task.done()

    async def _wait(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
