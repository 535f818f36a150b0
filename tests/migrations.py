"""What Alembic says to an empty catalog is said by it once; each further catalog is told the same.

A run makes catalogs by the thousand, and Alembic takes a tenth of a second to find out again what
to say. Programs that tests start, and `catalog/test_migrating.py`, have Alembic itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event

from soundkeep.catalog import migrating

by_alembic = migrating._upgrade
READS = ("SELECT", "PRAGMA")
Said = list[tuple[str, Any]]


@contextmanager
def said_again() -> Iterator[None]:
    """Within it, for as long as the process lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrating, "_upgrade", again({}))
        yield


def again(known: dict[str, Said]) -> Any:
    """An upgrade that remembers, by the kind of database, what makes an empty one the newest."""

    def upgrade(connection: Connection, revision: str | None) -> None:
        kind = connection.dialect.name
        if revision is not None:
            by_alembic(connection, revision)
        elif kind not in known:
            with _listening(connection) as said:
                by_alembic(connection, revision)
            known[kind] = said
        else:
            for statement, parameters in known[kind]:
                connection.exec_driver_sql(statement, parameters or None)

    return upgrade


@contextmanager
def _listening(connection: Connection) -> Iterator[Said]:
    said: Said = []

    def hear(_: Connection, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if not statement.lstrip().startswith(READS):
            said.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(connection, "before_cursor_execute", hear)
