"""An IPFS node and a pinning service on loopback, both the IPFS project's own, and a guarded node.

Neither has a network: what the node does not have is nowhere.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aiohttp import ClientSession, web

from servers.node import node_program
from servers.processes import Process, free_ports
from servers.serving import served

SERVICE_TOKEN = "token-of-the-pinning-service"


@contextlib.contextmanager
def running_node() -> Iterator[str]:
    """A node with an empty repository; answers where its RPC is."""
    with tempfile.TemporaryDirectory(prefix="ipfs-") as directory:
        repository = str(Path(directory) / "repository")
        with _running(directory, "node.mjs", [repository], []) as url:
            yield url


@contextlib.contextmanager
def running_pinning_service() -> Iterator[str]:
    """A service that takes `SERVICE_TOKEN`. What becomes of a pin is told by its name: `pinned-…`
    is done at once, `failed-…` never, and what has any other name waits for good."""
    with (
        tempfile.TemporaryDirectory(prefix="pinning-") as directory,
        _running(directory, "pinning.cjs", [], [SERVICE_TOKEN]) as url,
    ):
        yield url


@contextlib.contextmanager
def _running(directory: str, program: str, before: list[str], behind: list[str]) -> Iterator[str]:
    port, log = free_ports(1)[0], Path(directory) / "log"
    process = Process([*node_program("ipfs", program), *before, str(port), *behind], log)
    try:
        process.start(lambda: "ready" in log.read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


@contextlib.contextmanager
def guarded(url: str, authorization: str) -> Iterator[str]:
    """The node behind a door, as Kubo itself, Filebase and Infura have one: 401 without the right
    header."""

    async def passed_on(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != authorization:
            return web.Response(status=401, text="Unauthorized")
        kept = {"Content-Type": request.headers.get("Content-Type", "text/plain")}
        async with (
            ClientSession() as session,
            session.request(
                request.method, url + request.path_qs, data=request.content, headers=kept
            ) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())

    with served(passed_on) as guard_url:
        yield guard_url
