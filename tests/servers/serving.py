"""A small server on loopback that lives beside the test, made of one handler for every request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from aiohttp import web

from servers.background import background


@contextlib.contextmanager
def served(handler: object) -> Iterator[str]:
    """A server on loopback that hands every request to the handler."""
    app = web.Application(client_max_size=1024**3)
    app.router.add_route("*", "/{rest:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    with background() as loop:

        async def started() -> int:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return int(runner.addresses[0][1])

        port = loop.run(started())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            loop.run(runner.cleanup())
