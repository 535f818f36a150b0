"""What was said a moment ago is sent at once, in the same words, and stops when it is withdrawn."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from servers.soundkeep import KEY, Server
from soundkeep.build import opened
from soundkeep.build.house import House
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import speeches
from soundkeep.settings import Settings
from soundkeep.web.app import Server as Application
from soundkeep.web.gateways import shelf
from soundkeep.web.gateways.gateway import Gateway

PATH = "/openai/v1/audio/speech"
KEYED = [(b"authorization", f"Bearer {KEY}".encode())]


def asked(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "offline", "voice": "en-us", "input": text, **more}).encode()


# --- on the wire ----------------------------------------------------------------------------


def head(body: bytes, key: str = KEY, more: str = "") -> bytes:
    lines = f"Host: here\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n{more}"
    return f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode()


class Line:
    """One connection to a server, spoken by hand."""

    def __init__(self, server: Server) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._answers.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._answers.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, self._answers.read(int(headers["content-length"]))

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


@pytest.fixture
def said(server: Server) -> tuple[bytes, bytes]:
    """A request that was answered, and the sound."""
    body = asked("What was said a moment ago is at hand.", response_format="wav")
    for _ in range(2):
        answer = server.ask("POST", PATH, body)
        assert answer.status == 200
    return body, answer.body


def test_many_requests_on_one_connection_get_the_same_answer(
    server: Server, said: tuple[bytes, bytes]
) -> None:
    body, sound = said
    with closing(Line(server)) as line:
        for _ in range(5):
            line.say(head(body) + body)
            status, headers, heard = line.answer()
            assert (status, heard) == (200, sound)
            assert headers["x-soundkeep-cache"] == "hit"


def test_requests_in_pieces_or_all_at_once_are_answered_in_order(
    server: Server, said: tuple[bytes, bytes]
) -> None:
    body, sound = said
    other = asked("This one is answered the long way.", response_format="wav")
    other_sound = server.ask("POST", PATH, other).body
    long_way = head(other, more="X-Soundkeep-Collection: hands\r\n") + other
    with closing(Line(server)) as line:
        line.say(head(body), body[:10], body[10:], head(body)[:20], head(body)[20:] + body)
        assert [line.answer()[2] for _ in range(2)] == [sound, sound]
        line.say((head(body) + body) * 3 + long_way + head(body) + body)
        heard = [line.answer()[2] for _ in range(5)]
    assert heard == [sound, sound, sound, other_sound, sound]


def test_both_ways_say_the_same(server: Server, said: tuple[bytes, bytes]) -> None:
    body, sound = said
    with closing(Line(server)) as line:
        line.say(head(body) + body)
        _, short, _ = line.answer()
        line.say(head(body, more="X-Soundkeep-Collection: hands\r\n") + body)
        _, long, heard = line.answer()
    assert heard == sound
    assert {**short, "date": ""} == {**long, "date": ""}


def test_what_is_at_hand_needs_the_key_all_the_same(
    server: Server, said: tuple[bytes, bytes]
) -> None:
    body, _ = said
    with closing(Line(server)) as line:
        for key in (KEY[:-1], KEY + "x", ""):
            line.say(head(body, key=key) + body)
            status, _, told = line.answer()
            assert status == 401
            assert json.loads(told)["error"]["code"] == "invalid_api_key"
        line.say(head(body) + body)
        assert line.answer()[0] == 200


def test_a_request_that_is_cut_is_not_answered_by_what_is_at_hand(
    server: Server, said: tuple[bytes, bytes]
) -> None:
    body, _ = said
    with closing(Line(server)) as line:
        line.say(head(body + b" ") + body)
    assert server.ask("POST", PATH, body).status == 200


# --- in this process ------------------------------------------------------------------------


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shelf, "time", clock)
    monkeypatch.setattr("soundkeep.web.gateways.gateway.time", clock)
    return clock


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(Settings(data=tmp_path)) as house:
        yield house


async def asgi(gateway: Gateway, body: bytes) -> list[Any]:
    """The messages of an answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode()}
    await gateway({**scope, "query_string": b"", "headers": KEYED}, receive, send)
    return sent


def at_hand(gateway: Gateway, body: bytes) -> Any:
    return gateway.begin_at_once(PATH.encode(), KEYED, body, bytearray(1 << 20))


def _withdraw(tx: Tx) -> None:
    tx.run(update(speeches).values(digest=None))


async def test_what_is_withdrawn_stops_within_a_second(house: House, clock: Clock) -> None:
    gateway = Application(house, KEY).gateways[0]
    body = asked("This will be withdrawn.")
    for _ in range(2):
        [start, *_] = await asgi(gateway, body)
        assert start["status"] == 200
    assert at_hand(gateway, body)
    await house.keep.catalog.write(_withdraw)
    clock.now += shelf.MAX_AGE_SECONDS
    assert at_hand(gateway, body) is None


async def test_what_is_still_asked_for_is_looked_up_again_beforehand(
    house: House, clock: Clock
) -> None:
    gateway = Application(house, KEY).gateways[0]
    body = asked("This is asked for again and again.")
    for _ in range(2):
        await asgi(gateway, body)
    for _ in range(5):
        clock.now += 0.7 * shelf.MAX_AGE_SECONDS
        assert at_hand(gateway, body)
        await gateway.shelf.settled()
    await house.keep.catalog.write(_withdraw)
    clock.now += 0.7 * shelf.MAX_AGE_SECONDS
    assert at_hand(gateway, body)
    await gateway.shelf.settled()
    assert at_hand(gateway, body) is None
