"""One provider over HTTP: a session, a limit for each phase, few retries, errors translated.

A call that speaks may cost, so it is sent again only after an answer that surely cost nothing (no
connection, 429, 503), at most `tries` times and as long as the waits stay within `wait_seconds`.
Looking something up is free and tried again after any passing fault. No redirect is followed: it
would carry the key elsewhere. Each call has a connection of its own: on a kept one that the server
closes just then, nobody could know whether the call was paid for.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from soundkeep.errors import (
    EngineAnsweredBadly,
    EngineError,
    EngineThrottled,
    EngineUnavailable,
)
from soundkeep.speech.engines.interface import AudioFormat, Spoken
from soundkeep.speech.engines.limiter import Limiter
from soundkeep.speech.engines.refusals import Refusal

ERROR_BYTES = 64 * 1024  # as much of a refusal is read
LIST_BYTES = 16 * 1024 * 1024
LINE_BYTES = 16 * 1024 * 1024
BACKOFF_SECONDS = 0.5  # doubled each time

MEDIA_TYPES: dict[str, frozenset[str]] = {
    "mp3": frozenset({"audio/mpeg", "audio/mp3"}),
    "wav": frozenset({"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"}),
    "flac": frozenset({"audio/flac", "audio/x-flac"}),
    "opus": frozenset({"audio/opus", "audio/ogg", "application/ogg"}),
    "aac": frozenset({"audio/aac", "audio/aacp", "audio/x-aac"}),
    "m4a": frozenset({"audio/mp4", "audio/m4a", "audio/x-m4a"}),
    "pcm": frozenset({"audio/pcm", "audio/l16", "audio/raw", "audio/x-raw"}),
    "ulaw": frozenset({"audio/basic", "audio/ulaw", "audio/x-mulaw", "audio/pcmu"}),
    "alaw": frozenset({"audio/alaw", "audio/x-alaw", "audio/pcma", "audio/basic"}),
}
UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})

_TEXT = re.compile(rb"\s*(<!doctype|<html|<\?xml|\{\s*\")", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each phase of a call may take, and how often what cost nothing is tried."""

    connect_seconds: float = 5
    first_byte_seconds: float = 60  # a long text is thought over before it is spoken
    between_bytes_seconds: float = 20
    tries: int = 3
    wait_seconds: float = 20  # between tries, all together


class Provider:
    """Whom an engine asks. It opens nothing until it is used."""

    def __init__(
        self,
        name: str,
        base_url: str,
        headers: Mapping[str, str],
        *,
        concurrency: int,
        patience: Patience,
    ) -> None:
        self.name = name
        self.limiter = Limiter(name, concurrency, patience.wait_seconds)
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._patience = patience
        self._session: ClientSession | None = None

    async def look_up(self, path: str, **query: str) -> Any:
        """The JSON of a GET, which costs nothing."""

        async def once() -> Any:
            async with await self._sent("GET", path, query, None) as response:
                return _json(self.name, await self._whole(response, LIST_BYTES))

        return await self._patiently(once, _is_passing)

    async def has(self, path: str) -> bool:
        """Whether the server would take a POST there, which is not sent: a GET is not allowed."""

        async def once() -> bool:
            with self._translated(sent=False):
                async with asyncio.timeout(self._patience.first_byte_seconds):
                    async with await self._request("GET", path, {}, None) as response:
                        return response.status == 405

        return await self._patiently(once, _is_passing)

    @asynccontextmanager
    async def speak(
        self, path: str, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> AsyncIterator[Answer]:
        """The answer to a POST that costs, its body unread. Raises every `EngineError`."""
        async with self.limiter.place():
            response = await self._patiently(
                lambda: self._sent("POST", path, query, body), _cost_nothing
            )
            async with response:
                yield Answer(self, response, self._patience)

    async def close(self) -> None:
        """Ends the session and its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _patiently(
        self, once: Callable[[], Awaitable[T]], may_repeat: Callable[[EngineError], bool]
    ) -> T:
        waited = 0.0
        for number in range(1, self._patience.tries + 1):
            try:
                return await once()
            except EngineError as error:
                wait = _wait_seconds(error, number)
                if isinstance(error, EngineThrottled):
                    self.limiter.pause(wait)
                waited += wait
                last = number == self._patience.tries or waited > self._patience.wait_seconds
                if last or not may_repeat(error):
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _sent(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> ClientResponse:
        """An answer with status 200, as soon as its headers are there."""
        with self._translated(sent=method == "POST"):
            async with asyncio.timeout(self._patience.first_byte_seconds):
                response = await self._request(method, path, query, body)
        self.limiter.heed(response.headers)
        if response.status == 200:
            return response
        async with response:
            error = await self._refusal(response)
        error.charged = error.charged if method == "POST" else False
        raise error

    async def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> ClientResponse:
        return await self._opened().request(
            method, self._base_url + path, params=query, json=body, allow_redirects=False
        )

    async def _refusal(self, response: ClientResponse) -> EngineError:
        try:
            body = await self._whole(response, ERROR_BYTES)
        except EngineError:
            body = b""  # the status says enough
        return Refusal.read(response.status, response.headers, body).error(self.name)

    async def _whole(self, response: ClientResponse, most_bytes: int) -> bytes:
        """The body, which must not be longer."""
        body = bytearray()
        async with aclosing(Answer(self, response, self._patience).pieces()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > most_bytes:
                    raise EngineAnsweredBadly(f"{self.name}: an answer over {most_bytes} bytes")
        return bytes(body)

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=0, force_close=True),
                cookie_jar=DummyCookieJar(),
                headers=self._headers,
                json_serialize=lambda body: msgspec.json.encode(body).decode(),
                timeout=ClientTimeout(total=None, sock_connect=self._patience.connect_seconds),
            )
        return self._session

    @contextmanager
    def _translated(self, *, sent: bool) -> Iterator[None]:
        """A request that did not come to an answer. `sent`: it may have cost something."""
        charged = None if sent else False
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise EngineUnavailable(f"{self.name} cannot be reached") from error
        except TimeoutError as error:
            raise EngineUnavailable(f"{self.name}: no answer in time", charged=charged) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise EngineUnavailable(
                f"{self.name}: the connection broke before an answer", charged=charged
            ) from error


@contextmanager
def understood(name: str) -> Iterator[None]:
    """A list that does not have the form it should have."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EngineAnsweredBadly(f"{name}: its list has an unknown form", charged=False) from error


class Answer:
    """The body of an answer with status 200, as it comes."""

    def __init__(self, provider: Provider, response: ClientResponse, patience: Patience) -> None:
        self.headers = response.headers
        self._name = provider.name
        self._response = response
        self._patience = patience

    @property
    def media_type(self) -> str:
        """Without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def spoken(self, format_: AudioFormat) -> AsyncGenerator[Spoken, None]:
        """The sound itself. Raises `EngineAnsweredBadly` for what is no sound, or none at all."""
        if self.media_type not in MEDIA_TYPES[format_.coding] | UNTOLD:
            raise self.bad(f"it sent {_shown(self.media_type)}, not {format_.media_type}")
        empty = True
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                if empty and _TEXT.match(piece):
                    raise self.bad("it sent a text and called it audio")
                empty = False
                yield Spoken(piece)
        if empty:
            raise self.bad("it sent no audio")

    async def json_lines(self) -> AsyncGenerator[dict[str, Any], None]:
        """JSON objects, one a line."""
        if self.media_type.startswith(("audio/", "text/html")):
            raise self.bad(f"it sent {_shown(self.media_type)}, not JSON")
        rest = b""
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(bytes.strip, lines):
                    yield self._object(line)
                if len(rest) > LINE_BYTES:
                    raise self.bad("it sent a line without an end")
        if rest.strip():
            yield self._object(rest)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes, each piece in time. Raises if they end too early."""
        seconds = self._patience.first_byte_seconds
        while piece := await self._next(seconds):
            yield piece
            seconds = self._patience.between_bytes_seconds

    def bad(self, says: str) -> EngineAnsweredBadly:
        """An error about this answer, which says whether it was paid for if the headers do."""
        return EngineAnsweredBadly(f"{self._name}: {says}", charged=self._charged)

    async def _next(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._response.content.readany()
        except TimeoutError as error:
            raise EngineUnavailable(
                f"{self._name}: nothing came for {seconds:g} s", charged=self._charged
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self.bad("its answer was cut off") from error

    def _object(self, line: bytes) -> dict[str, Any]:
        value = _json(self._name, line, self._charged)
        if not isinstance(value, dict):
            raise self.bad("it sent JSON that is no object")
        return value

    @property
    def _charged(self) -> bool | None:
        """Only ElevenLabs tells; it does so before the first byte."""
        cost = self.headers.get("character-cost", "")
        return cost != "0" if cost.isdecimal() else None


def _json(name: str, body: bytes, charged: bool | None = False) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EngineAnsweredBadly(f"{name}: it sent what is not JSON", charged=charged) from None


def _cost_nothing(error: EngineError) -> bool:
    return _is_passing(error) and error.charged is False


def _is_passing(error: EngineError) -> bool:
    return isinstance(error, EngineThrottled | EngineUnavailable)


def _wait_seconds(error: EngineError, number: int) -> float:
    """As told, else doubled from try to try, with some chance so that not all come back at once."""
    told = error.retry_after if isinstance(error, EngineThrottled | EngineUnavailable) else None
    if told is not None:
        return told
    return BACKOFF_SECONDS * 2.0 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


def _shown(media_type: str) -> str:
    return media_type[:40] if media_type.isascii() and media_type.isprintable() else "something"
