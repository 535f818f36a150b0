"""Runs one server: a house, a worker, and uvicorn, from start to a drained end.

On SIGTERM nothing new begins, streams finish within `http.drain_seconds`, and leases are given
back; whatever does not finish goes on by itself after the next start.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog
import uvicorn

from soundkeep.access.keys import FILE_NAME, load_or_make_admin_key
from soundkeep.build import opened
from soundkeep.build.house import House
from soundkeep.errors import SettingsError
from soundkeep.settings import Settings
from soundkeep.settings.secrets import reveal
from soundkeep.web.app import Server
from soundkeep.web.greeting import greet
from soundkeep.web.memory import keep_memory
from soundkeep.web.wire import Wire

BACKLOG = 1024

log = structlog.get_logger()

Announce = Callable[[str], None]


class Working(Protocol):
    """A worker, as far as a server knows one."""

    def start(self) -> None: ...
    def pause(self) -> None: ...
    async def stop(self, within_seconds: float) -> None: ...


StartWorker = Callable[[House], Working]


async def serve(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    worker: StartWorker | None = None,
    announce: Announce = print,
) -> None:
    """Serves until a signal ends it, with a worker inside if one is given.

    Raises `SettingsError` and what `build.opened` raises.
    """
    keep_memory()
    listener = _bound(host or settings.http.host, settings.http.port if port is None else port)
    with listener:
        async with opened(settings) as house:
            await _serve(house, listener, worker, announce)


async def _serve(
    house: House, listener: socket.socket, worker: StartWorker | None, announce: Announce
) -> None:
    settings = house.keep.settings
    key_file = settings.data_directory / FILE_NAME
    configured = reveal(settings.admin_key) if settings.admin_key else None
    key, made = load_or_make_admin_key(key_file, configured)
    server = Server(house, key)
    working = worker(house) if worker else None
    if working:
        working.start()
    try:
        await greet(house)
        web = _Uvicorn(
            server, settings.http.drain_seconds, working.pause if working else lambda: None
        )
        web.on_start = lambda: _say(announce, listener, key_file, key, made, configured)
        await web.serve([listener])
    finally:
        server.context.draining = True
        if working:
            await working.stop(settings.http.drain_seconds)


class _Uvicorn(uvicorn.Server):
    """Uvicorn that tells us when it has begun, and when it was asked to stop."""

    on_start: Callable[[], None]

    def __init__(self, app: Server, drain_seconds: float, on_stop: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=Wire,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        self._app = app
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping: streams may finish, nothing new begins")
        self._app.context.draining = True
        self._on_stop()
        await super().shutdown(sockets)
        # Uvicorn would raise the signal again now, and end us before leases are given back.
        self._captured_signals.clear()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that is ours before anything else is begun. Raises `SettingsError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _say(
    announce: Announce,
    listener: socket.socket,
    key_file: Path,
    key: str,
    made: bool,
    configured: str | None,
) -> None:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    announce(f"Soundkeep answers on http://{address}:{port}")
    if configured:
        announce("The admin key is the one from the settings")
    else:
        announce(f"The admin key is in {key_file}")
    if made:
        announce(f"It was made just now and is shown this once: {key}")
