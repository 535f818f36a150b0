"""A server that answers whatever a test has written down, and remembers what it was asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiohttp import web

from servers.background import background


@dataclass
class Script:
    """One answer for everybody, until it is changed."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    asked: list[str] = field(default_factory=list)  # methods and paths

    def says(
        self, status: int, body: bytes, content_type: str = "application/json", **headers: str
    ) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.status, self.body, self.content_type, self.headers = status, body, content_type, named

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        await request.read()
        headers = {"content-type": self.content_type, **self.headers}
        return web.Response(status=self.status, body=self.body, headers=headers)


@contextlib.contextmanager
def scripted() -> Iterator[Script]:
    script = Script()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", script.answer)
    with background() as thread:
        runner = web.AppRunner(application)
        thread.run(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        thread.run(site.start())
        script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield script
        finally:
            thread.run(runner.cleanup())
