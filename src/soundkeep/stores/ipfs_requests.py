"""Requests to one server of IPFS: timed by the phase, their answers read as JSON, refusals named.

It sends what is asked for once; trying again is the business of `ipfs`. What a server says in words
is compared with what its protocol is known to say and never repeated, so no token gets out.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    TooLarge,
    Unavailable,
)
from soundkeep.stores.http_bodies import Body
from soundkeep.stores.http_service import (
    Meaning,
    Phases,
    new_session,
    parsed,
    retry_after,
    start_of,
    translated,
)
from soundkeep.stores.interface import Bytes, Source
from soundkeep.stores.ipfs_cid import Cid, Naming
from soundkeep.stores.pieces import exactly

ANSWER_BYTES = 4 * 1024 * 1024  # the root of a file of any size has less
NOTHING: Mapping[str, str] = {}

DENIED: Meaning = PermissionDenied, "the credentials are wrong, or do not allow this"
FULL: Meaning = QuotaExceeded, "there is no room left, or the plan is used up"
ELSEWHERE: Meaning = Misconfigured, "nothing that speaks its protocol answers at this address"

BY_STATUS: dict[int, Meaning] = {
    401: DENIED,
    402: FULL,
    403: DENIED,
    404: ELSEWHERE,
    405: ELSEWHERE,
    408: (TimedOut, "it gave up waiting"),
    413: (TooLarge, "the file is larger than it takes"),
    429: (Throttled, "it asks us to slow down"),
    451: (PermissionDenied, "it may not give this out, for reasons of law"),
    504: (TimedOut, "it found nobody in time who has the bytes"),
    507: FULL,
}
BY_WORDS: dict[str, Meaning] = {  # what is said about any status, whatever the protocol
    "plan usage": FULL,
    "insufficient_funds": FULL,
    "no space left": FULL,
    "maximum storage": FULL,
    "deadline exceeded": (TimedOut, "it gave up waiting"),
    "timed out": (TimedOut, "it gave up waiting"),
}


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: its status, and its JSON as far as it has any."""

    what: str
    status: int
    json: Any
    raw: bytes
    retry_after_seconds: float | None = None

    def says(self, words: str) -> bool:
        """Whether these words, in lower case, stand in its text."""
        return words.encode() in self.raw.lower()

    def expected(self) -> Any:
        """The JSON of a request that succeeded. Raises what a refusal means."""
        if self.status >= 300:
            raise self.refusal()
        if self.json is None:
            raise self._error(ELSEWHERE)
        return self.json

    def done(self) -> None:
        """Raises unless it was done, whatever else is said of it: what a refusal means, or that a
        page for people came, which does nothing."""
        if self.status >= 300:
            raise self.refusal()
        if self.raw.lstrip().startswith(b"<"):
            raise self._error(ELSEWHERE)

    def refusal(self) -> StoreError:
        """What it means that it was not done."""
        by_words = (meaning for words, meaning in BY_WORDS.items() if self.says(words))
        usual: Meaning = Unavailable, "it cannot do this now"
        if 300 <= self.status < 500:
            usual = Misconfigured, "it does not understand what it is asked"
        return self._error(next(by_words, None) or BY_STATUS.get(self.status, usual))

    def nonsense(self) -> StoreError:
        """It was done, and what is said of it cannot be understood."""
        return self._error(ELSEWHERE)

    def _error(self, meaning: Meaning) -> StoreError:
        kind, text = meaning
        line = f"{self.what}: {text} (HTTP {self.status})"
        if kind is Throttled:
            return Throttled(line, retry_after=self.retry_after_seconds)
        return kind(line)


class SourceFailed(Exception):
    """What was to be sent could not be read: no fault of the server, and the next has it no better.

    `failure` is what the source raised.
    """

    def __init__(self, failure: Exception) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Upload:
    """A source on its way, named while it goes by. It can be begun again."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.cid: Cid | None = None  # known once all bytes have gone by

    async def pieces(self) -> Bytes:
        """Raises at the end unless they are what the source announced; then nobody keeps them,
        because the end of the form that they lie in was never sent."""
        naming, whole = Naming(), hashlib.sha256()
        async with aclosing(exactly(self.source)) as pieces:
            async for piece in pieces:
                naming.update(piece)
                whole.update(piece)
                yield piece
        if whole.digest() != self.source.digest.raw:
            raise Corrupt("the source gives other bytes than those it announced")
        self.cid = naming.cid()


class Requests:
    """One server. It opens nothing until it is used."""

    def __init__(
        self, who: str, url: str, phases: Phases, headers: Mapping[str, str] = NOTHING
    ) -> None:
        self.who = who
        self.url = url.rstrip("/")
        self._headers = headers
        self._phases = phases
        self._session: ClientSession | None = None

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = NOTHING,
        *,
        body: Any = None,
    ) -> Told:
        """The answer, whatever its status. Raises what keeps a server from answering."""
        async with self.answer(method, path, query, json=body) as answer:
            return await self._told(method, path, answer)

    async def send(
        self,
        path: str,
        upload: Upload,
        *,
        query: Mapping[str, str] = NOTHING,
        fields: Mapping[str, str] = NOTHING,
        base: str = "",
    ) -> Told:
        """Posts the bytes as the field `file` of a form, after the others.

        Raises `SourceFailed`, and what keeps a server from answering.
        """
        edge = secrets.token_hex(16)
        head, tail = _form(edge, fields, upload.source.media_type), f"\r\n--{edge}--\r\n".encode()

        async def form() -> Bytes:
            yield head
            async with aclosing(upload.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            yield tail

        size_bytes = len(head) + upload.source.size_bytes + len(tail)
        body = Body(size_bytes, form, self._phases.between_bytes)
        headers = {"content-type": f"multipart/form-data; boundary={edge}"}
        try:
            async with self.answer(
                "POST", path, query, data=body, headers=headers, base=base
            ) as answer:
                return await self._told("POST", path, answer)
        except Exception:
            if body.failure is not None:
                raise SourceFailed(body.failure) from None
            raise

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = NOTHING,
        *,
        headers: Mapping[str, str] = NOTHING,
        base: str = "",
        **sent: Any,
    ) -> AsyncIterator[ClientResponse]:
        """An answer whose body is still to be read. A path may be a whole address."""
        if self._session is None:
            self._session = new_session()
        writes = sent.get("data") is not None
        silence_seconds = self._phases.written if writes else self._phases.first_byte
        whole = path if "://" in path else (base or self.url) + path
        url = URL(whole, encoded=True)  # one that is signed must stay as it is
        with translated(f"{self.who}: {method} {_shown(path)}"):
            async with self._session.request(
                method,
                url.update_query(query) if query else url,
                headers={**self._headers, **headers},
                allow_redirects=False,
                timeout=ClientTimeout(
                    total=None, sock_connect=self._phases.connect, sock_read=silence_seconds
                ),
                **sent,
            ) as answer:
                yield answer

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _told(self, method: str, path: str, answer: ClientResponse) -> Told:
        return await told(f"{self.who}: {method} {_shown(path)}", answer)


async def told(what: str, answer: ClientResponse) -> Told:
    """The answer, its body read. Kubo writes a line of JSON for each thing it did: the last one
    counts, and an error may be in it although the status was fine long before."""
    raw = await start_of(answer, ANSWER_BYTES)
    last = _json(raw.strip().rpartition(b"\n")[2])
    body = _json(raw) if last is None else last
    status = answer.status
    if status < 300 and isinstance(body, dict) and body.get("Type") == "error":
        status = 500
    return Told(what, status, body, raw, retry_after(answer.headers))


def _json(raw: bytes) -> Any:
    try:
        return parsed(raw)
    except ValueError:
        return None


def _form(edge: str, fields: Mapping[str, str], media_type: str) -> bytes:
    """All of a form before the bytes of its last field."""
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="sound"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    return "".join((*parts, file)).encode()


def _shown(path: str) -> str:
    """Without a query, which may be a signature."""
    return path.partition("?")[0]
