"""What the gateways have in common: who may, what is at hand, what has to be spoken, and the end.

Plain ASGI classes, outside of the framework, as the hot path is: what was said before is sent with
its length, verified, and counted as heard. What has to be spoken first is answered by a form of
`forms.py`. Nothing is promised before the first byte is there; after it an error breaks the
connection, so that no cut sound looks like a whole one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from soundkeep.errors import EngineError, ShuttingDown, SoundkeepError, Unauthorized
from soundkeep.model import Money
from soundkeep.speech.choosing import Chosen
from soundkeep.speech.engines.interface import Engine, Model, Voice
from soundkeep.speech.kept import Kept
from soundkeep.speech.request import speech_request
from soundkeep.web.context import Context
from soundkeep.web.delivery import Begun
from soundkeep.web.exchange import Exchange, Message, Receive, Send, send_sound
from soundkeep.web.gateways.faults import Fault
from soundkeep.web.gateways.forms import Form, Reply, plain_headers
from soundkeep.web.gateways.shelf import Ready, Request, Shelf
from soundkeep.web.headers import Headers

MAX_BODY_BYTES = 2 * 1024 * 1024
COLLECTION = b"x-soundkeep-collection"
SUBSTITUTES = b"x-soundkeep-substitutes"  # as in `espeak/en-us, compatible/nova`
UNEXPECTED = "something went wrong here; the server's log says what"

log = structlog.get_logger()

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wish:
    """A request, understood: the fields of `speech_request`, and the form of the answer."""

    fields: Mapping[str, object]
    form: Form


class Gateway:
    """One protocol. A subclass knows its paths, its fields and its words for errors."""

    prefix: str  # of its paths

    def __init__(self, context: Context) -> None:
        self.context = context
        self.speeches = context.house.speeches
        self.engines = context.house.generation.engines
        self._reader = context.keep.reader
        self.raw_prefix = self.prefix.encode()
        self.shelf = Shelf(self.speeches, self._reader)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        self.context.delivery.running += 1
        try:
            await self.answer(exchange)
        except SoundkeepError as error:
            await self._fail(exchange, error)
        except Exception:
            log.exception("unexpected error", path=exchange.path)
            await self._fail(exchange, SoundkeepError(UNEXPECTED))
        finally:
            self.context.delivery.running -= 1

    # --- what a protocol knows --------------------------------------------------------------

    async def answer(self, exchange: Exchange) -> None:
        """Finds what the path means. Raises `SoundkeepError`."""
        raise NotImplementedError

    async def understand(self, exchange: Exchange, body: bytes) -> Wish:
        """What is asked for. Raises `SoundkeepError`."""
        raise NotImplementedError

    def own_headers(self, chosen: Chosen, characters: int) -> Headers:
        """What an answer carries in this protocol only; so many characters are paid for."""
        return []

    def refusal(self, fault: Fault) -> tuple[int, Headers, bytes]:
        """An error in this protocol's words."""
        raise NotImplementedError

    # --- what they share --------------------------------------------------------------------

    async def models(self) -> list[tuple[str, Model]]:
        """The models of every engine that answers, after its name."""
        return await self._listed(lambda engine: engine.models())

    async def voices(self) -> list[tuple[str, Voice]]:
        """The voices of every engine that answers, after its name."""
        return await self._listed(lambda engine: engine.voices())

    async def _listed(self, of: Callable[[Engine], Awaitable[list[_T]]]) -> list[tuple[str, _T]]:
        """Raises what the last engine said if none answers."""
        found: list[tuple[str, _T]] = []
        failed: EngineError | None = None
        for engine in self.engines.values():
            try:
                found += [(engine.name, each) for each in await of(engine)]
            except EngineError as error:
                failed = error
        if failed is not None and not found:
            raise failed
        return found

    def begin_at_once(
        self, url: bytes, headers: Headers, asked: bytes, into: bytearray
    ) -> Begun | None:
        """The answer to a POST of this body, if it is at hand and in memory; its first piece may be
        a view of `into`. Whatever else is the case, the call of this class sees to it."""
        fields = dict(headers)
        if COLLECTION in fields or not self._allows(fields):
            return None
        path, _, query = url.partition(b"?")
        ready = self.shelf.get((path, query, asked))
        if ready is None:
            return None
        body = ready.body(self._reader)
        piece = body.next_at_once(into)
        if piece is None:
            return None
        self.speeches.heard(ready.there)
        return Begun(200, (ready.lines,), ready.size_bytes, piece, body, b"")

    def admit(self, exchange: Exchange) -> None:
        """Raises `Unauthorized`."""
        if not self._allows(exchange.headers):
            raise Unauthorized("this needs Soundkeep's own key, as Authorization or xi-api-key")

    def _allows(self, fields: Mapping[bytes, bytes]) -> bool:
        authorization = fields.get(b"authorization")
        if authorization is None and b"xi-api-key" in fields:
            authorization = b"Bearer " + fields[b"xi-api-key"]
        return self.context.keys.allows(authorization)

    async def speak(self, exchange: Exchange) -> None:
        """Says what is asked for, unless it was said before."""
        self.admit(exchange)
        body = await exchange.take(MAX_BODY_BYTES)
        request = exchange.raw_path, exchange.query, body
        if COLLECTION not in exchange.headers:
            ready = self.shelf.get(request)
            if ready is not None:
                await self._send(exchange, ready)
                return
        if self.context.draining:
            raise ShuttingDown
        wish = await self.understand(exchange, body)
        asked = speech_request(
            {
                **wish.fields,
                "collection": exchange.text(COLLECTION),
                "segment_by": "limit",
                "substitutes": _substitutes(exchange),
            }
        )
        if asked.substitutes:
            answer = await self.speeches.say(asked)
            await wish.form.send(Reply(exchange, self.speeches, answer, self.own_headers))
            return
        chosen = await self.speeches.chooser.choose(asked)
        ready = await self._ready(request, chosen) if wish.form.is_plain else None
        if ready is None:
            answer = await self.speeches.answer(chosen)
            await wish.form.send(Reply(exchange, self.speeches, answer, self.own_headers))
            return
        if chosen.request.collection is not None:
            await self.speeches.track(Kept(chosen, ready.there.blob))
        await self._send(exchange, ready)

    async def _ready(self, request: Request, chosen: Chosen) -> Ready | None:
        """What lies in the stores of this already."""
        asked_at = time.monotonic()
        there = await self.speeches.look(chosen)
        if there is None:
            return None
        size_bytes = there.blob.size_bytes - chosen.output.head_bytes
        headers = [
            *plain_headers(chosen, hit=True, cost=Money()),
            *self.own_headers(chosen, 0),
            (b"content-length", b"%d" % size_bytes),
        ]
        return self.shelf.put(request, there, headers, asked_at)

    async def _send(self, exchange: Exchange, ready: Ready) -> None:
        """Verified bytes, the first of them before anything is promised."""
        body = ready.body(self._reader)
        try:
            piece = await body.next()
            self.speeches.heard(ready.there)
            await exchange.start(200, ready.headers)
            await send_sound(exchange, body, piece, ready.size_bytes, self._sent)
        finally:
            await body.close()

    def _sent(self, size_bytes: int) -> None:
        self.context.delivery.sent_bytes += size_bytes

    async def _fail(self, exchange: Exchange, error: SoundkeepError) -> None:
        """In the protocol's own words, or by breaking off what has begun."""
        if exchange.begun:
            log.warning("speech was cut", path=exchange.path, code=error.code, why=str(error))
            return
        fault = Fault.of(error)
        if fault.status == 500:
            log.error("request failed", code=error.code, error=str(error))
        status, headers, document = self.refusal(fault)
        await send_json(exchange, document, status, headers + _fault_headers(fault))


def _substitutes(exchange: Exchange) -> list[str]:
    named = exchange.text(SUBSTITUTES) or ""
    return [each.strip() for each in named.split(",") if each.strip()]


async def send_json(
    exchange: Exchange, document: bytes, status: int = 200, headers: Headers | None = None
) -> None:
    """A whole document."""
    lines = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(document)),
        *(headers or []),
    ]
    await exchange.start(status, lines)
    await exchange.body(document, more=False)


def _fault_headers(fault: Fault) -> Headers:
    headers = [(b"x-soundkeep-error", fault.error.code.encode()), (b"cache-control", b"no-store")]
    if fault.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % fault.retry_after_seconds))
    return headers
