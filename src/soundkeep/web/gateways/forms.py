"""The forms in which speech is answered while it is not at hand yet.

`Live` passes on what is spoken while it is spoken; `Whole` waits until it is kept, so that it can
say its length and its true cost. Both are plain sound. `Events` wraps it as OpenAI's server-sent
events; `times.py` has the forms of ElevenLabs.

Each of them writes down that the speech is kept, and puts it into the collection that was named,
before it ends: who has the end has a speech that will be found again.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from soundkeep.model import Money
from soundkeep.speech.choosing import Chosen
from soundkeep.speech.kept import Kept
from soundkeep.speech.speeches import Answer, Speeches
from soundkeep.web.exchange import Exchange
from soundkeep.web.headers import Headers

# Nobody can count tokens of an engine that does not: the field has to be there all the same.
DONE = (
    b'data: {"type":"speech.audio.done",'
    b'"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}\n\n'
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and where it goes. `own_headers` are those of the protocol, by the characters that
    are paid for."""

    exchange: Exchange
    speeches: Speeches
    answer: Answer
    own_headers: Callable[[Chosen, int], Headers]

    async def keep(self) -> Kept:
        """Waits until it is kept, also in its collection."""
        kept = await self.answer.kept()
        if self.answer.chosen.request.collection is not None:
            await self.speeches.track(kept)
        return kept

    def headers(self, kept: Kept | None = None) -> Headers:
        """The bill, and the estimate of what is not kept yet: it comes with the last byte."""
        chosen, hit = self.answer.chosen, self.answer.hit
        if kept is not None:
            cost, characters = kept.cost, kept.characters_paid
        else:
            cost, characters = (Money(), 0) if hit else _estimate(chosen)
        return [
            *plain_headers(chosen, hit=hit, cost=cost),
            *([(b"x-soundkeep-substitute", chosen.engine.name.encode())] * self.answer.substitute),
            *self.own_headers(chosen, characters),
        ]

    async def send(self, headers: Headers, pieces: AsyncGenerator[bytes, None]) -> None:
        """All pieces, and no end yet. Nothing is promised before the first one is there."""
        async with aclosing(pieces):
            first = await anext(pieces, b"")
            await self.exchange.start(200, headers)
            await self.exchange.body(first, more=True)
            async for piece in pieces:
                await self.exchange.body(piece, more=True)

    async def end(self, last: bytes = b"") -> None:
        """All went well."""
        await self.exchange.body(last, more=False)


class Form(Protocol):
    """How an answer is sent."""

    @property
    def is_plain(self) -> bool:
        """Whether it is the sound and nothing else, so that it may be sent as it lies."""
        ...

    async def send(self, reply: Reply) -> None:
        """Sends all of it. Raises `SoundkeepError`."""
        ...


class Live:
    """Sound while it is spoken."""

    is_plain = True

    async def send(self, reply: Reply) -> None:
        await reply.send(reply.headers(), reply.answer.pieces())
        await reply.keep()
        await reply.end()


class Whole:
    """Sound once it is kept."""

    is_plain = True

    async def send(self, reply: Reply) -> None:
        kept = await reply.keep()
        size_bytes = kept.blob.size_bytes - kept.chosen.output.head_bytes
        length = (b"content-length", b"%d" % size_bytes)
        await reply.send([*reply.headers(kept), length], reply.speeches.bytes_of(kept))
        await reply.end()


class Events:
    """Server-sent events with a piece of sound each, and one that says it was all."""

    is_plain = False

    async def send(self, reply: Reply) -> None:
        media = (b"content-type", b"text/event-stream; charset=utf-8")
        headers = replaced(reply.headers(), media)
        await reply.send(headers, _events(reply.answer.pieces()))
        await reply.keep()
        await reply.end(DONE)


def plain_headers(chosen: Chosen, *, hit: bool, cost: Money) -> Headers:
    """What every answer of speech carries. A cost that nobody knows is not told."""
    headers = [
        (b"content-type", chosen.output.media_type.encode()),
        (b"cache-control", b"no-store"),
        (b"x-soundkeep-cache", b"hit" if hit else b"miss"),
        (b"x-soundkeep-key", chosen.key.encode()),
    ]
    if hit or cost.currency:
        amount = f"{cost.amount.normalize():f} {cost.currency}".strip()
        headers.append((b"x-soundkeep-cost", amount.encode()))
    return headers


def replaced(headers: Headers, header: tuple[bytes, bytes]) -> Headers:
    """The same with that one in place of its namesake."""
    return [header, *(each for each in headers if each[0] != header[0])]


async def _events(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        async for piece in pieces:
            audio = base64.b64encode(piece)
            yield b'data: {"type":"speech.audio.delta","audio":"' + audio + b'"}\n\n'


def _estimate(chosen: Chosen) -> tuple[Money, int]:
    """What it costs at most to say all of it, and the characters."""
    bills = [chosen.engine.estimate(asked) for asked in chosen.asked]
    amounts = [Money.of(bill.cost, bill.currency) for bill in bills]
    currency = next((amount.currency for amount in amounts), "")
    total = Money(sum(amount.billionths for amount in amounts), currency)
    return total, sum(bill.characters for bill in bills)
