"""What every service over HTTP needs: time limits by the phase, a session, broken connections
translated.

What a service itself says when it refuses is its own store's to translate. Nothing that a server
or a library said is repeated here, so that no signed URL and no secret gets out.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import aiohttp
import msgspec
from aiohttp import ClientResponse, ClientSession, DummyCookieJar, TCPConnector

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import Misconfigured, StoreError, TimedOut, Truncated, Unavailable
from soundkeep.stores.http_connections import IDLE_SECONDS, Unreachable, new_socket
from soundkeep.stores.http_exchange import BEGINNING_BYTES, EndedEarly

COMMON = {"accept-encoding": "identity", "user-agent": "soundkeep"}
LONGEST_REST_SECONDS = 3600.0  # whoever asks for more is asked again after so long
PIPE_BYTES = CHUNK_BYTES  # a body is read ahead by up to twice as much
UNREACHABLE = (aiohttp.ClientConnectorError, Unreachable)

Meaning = tuple[type[StoreError], str]


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


def new_session(headers: Mapping[str, str] = COMMON) -> ClientSession:
    """Keeps its connections, and no cookies."""
    connector = TCPConnector(
        limit=0,  # who calls at once is limited around the store
        keepalive_timeout=IDLE_SECONDS,
        socket_factory=new_socket,
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=PIPE_BYTES,
        headers=headers,
    )


class Answer(Protocol):
    """An answer whose body is being read."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content_length(self) -> int | None: ...

    async def piece(self) -> bytes:
        """The next bytes, a whole chunk where that is easy; empty at the end."""
        ...

    async def beginning(self) -> bytes:
        """The body, or its first bytes if it is longer."""
        ...


class General:
    """An answer of the general client."""

    def __init__(self, response: ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content_length = response.content_length
        self._response = response

    async def piece(self) -> bytes:
        return await self._response.content.readany()

    async def beginning(self) -> bytes:
        return await start_of(self._response, BEGINNING_BYTES)


async def start_of(answer: ClientResponse, most: int) -> bytes:
    """The body, or its first bytes if it is longer; it may come in any number of pieces."""
    body = bytearray()
    while len(body) < most and (piece := await answer.content.read(most - len(body))):
        body += piece
    return bytes(body)


def parsed(body: bytes) -> Any:
    """What JSON says. Raises `ValueError` for anything else, and for what is nested without end."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("this is no JSON") from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds to wait, if the service says: a number, or a date. An hour at most, since
    some send a date of another year, or a number without an end."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(text) if text.isdecimal() else _until(text)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_REST_SECONDS)


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns what aiohttp and the system raise into errors of ours, which begin with `what`."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        kind, meaning = _broken(error)
        raise kind(f"{what}: {meaning}") from error


def _broken(error: Exception) -> Meaning:
    """What a connection that did not come about, or broke, means."""
    for reason in _chain(error):
        if why := getattr(reason, "verify_message", ""):  # of an ssl.SSLCertVerificationError
            return Misconfigured, f"its certificate is not trusted: {why}"
        if isinstance(reason, TimeoutError):
            return TimedOut, "no answer in time"
    if isinstance(error, aiohttp.ClientPayloadError | EndedEarly):
        return Truncated, "the connection broke before the end"
    if isinstance(error, UNREACHABLE):
        return Unavailable, "cannot be reached"
    if isinstance(error, aiohttp.InvalidURL):
        return Misconfigured, "its address cannot be understood"
    return Unavailable, "the connection broke"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The fault and what lies below it, in whichever way aiohttp wraps it."""
    while isinstance(error, BaseException):
        yield error
        error = getattr(error, "certificate_error", None) or error.__cause__
