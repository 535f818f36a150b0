"""The door for addresses that come from data: public ones, pinned, bounded, wherever they lead."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from soundkeep.errors import BadUrl, UploadTooLarge, UrlUnavailable
from soundkeep.outbound import Outbound
from soundkeep.settings import Settings
from soundkeep.settings.outside import OutboundSettings

BODY = bytes(range(256)) * 1000
LOOPBACK = OutboundSettings(allow=("127.0.0.1/32",), seconds=5)


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def body(request: web.Request) -> web.Response:
        return web.Response(body=BODY)

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    async def circle(request: web.Request) -> web.Response:
        raise web.HTTPFound("/circle")

    async def nowhere(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://["})

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    app = web.Application()
    app.router.add_get("/body", body)
    app.router.add_get("/away", away)
    app.router.add_get("/slow", slow)
    app.router.add_get("/circle", circle)
    app.router.add_get("/nowhere", nowhere)
    async with TestServer(app) as server:
        yield server


async def got(url: str, settings: OutboundSettings = LOOPBACK, most: int = 10**9) -> bytes:
    async with aclosing(Outbound(settings).get(url, most)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_every_byte_comes_also_from_behind_a_redirect(server: TestServer) -> None:
    assert await got(str(server.make_url("/body"))) == BODY
    assert await got(str(server.make_url("/away?to=/body"))) == BODY


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
async def test_no_address_of_our_own_is_asked(host: str) -> None:
    with pytest.raises(BadUrl):
        await got(f"http://{host}/", OutboundSettings())


async def test_a_redirect_to_an_address_of_our_own_is_not_followed(server: TestServer) -> None:
    with pytest.raises(BadUrl):
        await got(str(server.make_url("/away?to=http://10.0.0.1/")))


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/", "file:///etc/passwd", "http://", "http://a:b@example.org/", "http://[",
     "/path", "", "http://example.org:99999/"],
)  # fmt: skip
async def test_what_is_no_such_address_is_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        await got(url)


async def test_a_name_is_asked_where_it_was_looked_at(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means another address at every look cannot lead elsewhere."""
    loop = asyncio.get_running_loop()
    asked: list[str] = []

    async def moving(host: str, port: int, **how: Any) -> Any:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", moving)
    assert await got(f"http://moving.example:{server.port}/body") == BODY
    assert asked == ["moving.example"]


async def test_too_many_bytes_are_refused_and_not_only_noticed_at_the_end(
    server: TestServer,
) -> None:
    url = str(server.make_url("/body"))
    assert await got(url, most=len(BODY)) == BODY
    with pytest.raises(UploadTooLarge):
        await got(url, most=len(BODY) - 1)


async def test_a_redirect_to_what_is_no_address_is_refused(server: TestServer) -> None:
    with pytest.raises(BadUrl, match="redirects to no address"):
        await got(str(server.make_url("/nowhere")))


async def test_what_does_not_answer_or_redirects_for_ever_ends(server: TestServer) -> None:
    with pytest.raises(UrlUnavailable, match="in time"):
        await got(str(server.make_url("/slow")), LOOPBACK.model_copy(update={"seconds": 0.3}))
    with pytest.raises(UrlUnavailable, match="404"):
        await got(str(server.make_url("/nothing")))
    with pytest.raises(UrlUnavailable, match="more than 5 times"):
        await got(str(server.make_url("/circle")))


def test_the_setting_takes_networks_only() -> None:
    with pytest.raises(ValueError, match="outbound"):
        Settings(outbound={"allow": ["localhost"]})
