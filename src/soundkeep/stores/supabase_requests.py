"""Requests to Supabase Storage's own REST, for one bucket: timed by the phase, translated.

It sends what is asked for once and tries nothing again. A key goes to one host only, so no
redirection is followed.

**Names.** The service takes letters, digits and some signs of ASCII. What else a key has goes as
`=` and two hexadecimal digits for each byte: `Grüße` lies there as `Gr=C3=BC=C3=9Fe`. That name is
the object's locator.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from soundkeep.errors import StoreError, Unavailable
from soundkeep.stores.http_bodies import Body, each
from soundkeep.stores.http_service import (
    COMMON,
    Answer,
    General,
    Phases,
    new_session,
    parsed,
    start_of,
    translated,
)
from soundkeep.stores.interface import Spelling
from soundkeep.stores.supabase_errors import NOT_SUPABASE, Refusal

ERROR_BYTES = 16 * 1024
ANSWER_BYTES = 16 * 1024 * 1024  # a page of a thousand of the longest names has three
NO_HEADERS: Mapping[str, str] = {}

_TO_SPELL = re.compile(r"[^A-Za-z0-9_/!.*'() &$@;:+,?-]")
_TO_SPELL_IN_A_LOCATOR = re.compile(r"[^A-Za-z0-9_/!.*'() &$=@;:+,?-]")


def spelled(key: str) -> str:
    """The name under which a key lies there."""
    return _TO_SPELL.sub(_in_hex, key)


def key_of(name: str) -> str | None:
    """The key that is spelled so; None for a name that somebody else chose."""
    try:
        key = unquote(name.replace("=", "%"), errors="strict")
    except UnicodeDecodeError:
        return None
    return key if spelled(key) == name else None


SPELLING = Spelling(spelled, key_of)


def name_of(locator: str) -> str:
    """A locator is a name, also of an object that somebody else put there; what no name has can
    only be a key's."""
    return _TO_SPELL_IN_A_LOCATOR.sub(_in_hex, locator)


class Requests:
    """A session with one bucket. It opens nothing until it is used."""

    def __init__(self, name: str, base: str, bucket: str, key: str, phases: Phases) -> None:
        """`base` is the address of the service, without a slash at its end."""
        self.name = name
        self.base = base
        self.bucket = bucket
        self.phases = phases
        self._headers = {**COMMON, "apikey": key, "authorization": f"Bearer {key}"}
        self._session: ClientSession | None = None

    def path(self, verb: str, name: str) -> str:
        """`/object/info/audio/blobs/…`"""
        return f"{self.bucket_path(verb)}/{quote(name)}"

    def bucket_path(self, verb: str) -> str:
        """`/object/list/audio`"""
        return f"/{verb}/{quote(self.bucket, safe='')}"

    @asynccontextmanager
    async def answered(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        sent: Body | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[ClientResponse]:
        """An answer that is no refusal, its body still to be read. Raises every `StoreError`."""
        if self._session is None:
            self._session = new_session(self._headers)
        what = f"{self.name}: {method} {path}"
        silence = ClientTimeout(
            total=None,
            sock_connect=self.phases.connect,
            sock_read=self.phases.first_byte if seconds is None else seconds,
        )
        with translated(what):
            async with self._session.request(
                method,
                URL(self.base + path, encoded=True),
                headers=headers,
                data=sent,
                allow_redirects=False,
                timeout=silence,
            ) as answer:
                if answer.status >= 300:
                    body = await start_of(answer, ERROR_BYTES)
                    raise Refusal.read(answer.status, answer.headers, body).error(what)
                yield answer

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises every `StoreError`."""
        told, headers = None, NO_HEADERS
        if body is not None:
            told = self.sending([msgspec.json.encode(body)])
            headers = {"content-type": "application/json"}
        async with self.answered(method, path, headers=headers, sent=told) as answer:
            return await self.json(answer, f"{method} {path}")

    async def json(self, answer: ClientResponse, what: str) -> Any:
        text = await start_of(answer, ANSWER_BYTES)
        try:
            return parsed(text)
        except ValueError as error:
            if "json" not in answer.content_type:
                raise self.no_supabase(what) from error
            raise Unavailable(f"{self.name}: {what}: the answer cannot be read") from error

    @asynccontextmanager
    async def object(
        self, name: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> AsyncIterator[ClientResponse]:
        """The answer to a GET of an object, which has an ETag. Raises every `StoreError`."""
        path = self.path("object/authenticated", name)
        async with self.answered("GET", path, headers=headers) as answer:
            if "etag" not in answer.headers:
                raise self.no_supabase(f"GET {path}")
            yield answer

    @asynccontextmanager
    async def body(self, key: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """The same, for much to be read."""
        async with self.object(key, headers) as answer:
            yield General(answer)

    def sending(self, pieces: list[Any]) -> Body:
        """What is in memory."""
        size = sum(map(len, pieces))
        return Body(size, lambda: each(pieces), self.phases.between_bytes)

    def no_supabase(self, what: str) -> StoreError:
        """The log-in page of a network, or another server that says 200 to everything."""
        kind, meaning = NOT_SUPABASE
        return kind(f"{self.name}: {what}: {meaning}")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _in_hex(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode())
