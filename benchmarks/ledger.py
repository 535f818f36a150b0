"""Rows of the ledger claimed and finished per second, with few and with very many waiting.

The many are a million, nine in ten of them for a store that is down; the few are a thousand for a
store that works. Both are worked off by the very functions that the worker uses, in claims of
four and one transaction for each outcome, on SQLite and on a real PostgreSQL. A ledger whose
claims had to step over the rows of the store that is down would fall to a few rows a second.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Gate, Reading, Report, interleave, rate_reached, run
from servers.postgres import running_postgres
from soundkeep.catalog import copy_work
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.migrating import migrate
from soundkeep.errors import Unavailable
from soundkeep.model import Chore

FEW = 1_000
MANY = 1_000_000
AT_ONCE = 4  # rows a claim, as the worker takes them
LEASE_SECONDS = 60.0

SERIES = {
    "sqlite": "WITH RECURSIVE series(i) AS (SELECT {start} UNION ALL SELECT i + 1 FROM series"
    " WHERE i + 1 < {stop}) ",
    "postgresql": "WITH series AS (SELECT generate_series({start}, {stop} - 1) AS i) ",
}
DIGEST = {
    "sqlite": "CAST(printf('%032d', i) AS BLOB)",
    "postgresql": "convert_to(lpad(i::text, 32, '0'), 'UTF8')",
}


def ledger(report: Report) -> None:
    with tempfile.TemporaryDirectory() as directory, running_postgres() as server:
        with server.fresh_database() as few_url, server.fresh_database() as many_url:
            compare(report, "PostgreSQL", few_url, many_url)
        compare(
            report,
            "SQLite",
            f"sqlite:///{directory}/few.db",
            f"sqlite:///{directory}/many.db",
        )


def compare(report: Report, case: str, few_url: str, many_url: str) -> None:
    rows = report.form.size(FEW)
    with asyncio.Runner() as runner:
        few = Bench(runner, few_url, up=FEW, down=0)
        many_rows = report.form.size(MANY)
        many = Bench(runner, many_url, up=many_rows // 10, down=many_rows * 9 // 10)
        try:
            contestants: dict[str, Callable[[], Reading]] = {
                f"{FEW:,} waiting": lambda: few.work_off(rows),
                f"{many_rows:,} waiting": lambda: many.work_off(rows),
            }
            few_name, many_name = contestants
            gate = Gate("rate of the few's", rate_reached(many_name, of=few_name), at_least=0.8)
            report.add(case, interleave(report.form, contestants), [gate])
        finally:
            few.close()
            many.close()


@dataclass
class Bench:
    """A catalog with rows waiting, and the means to work some of them off."""

    runner: asyncio.Runner
    url: str
    up: int
    down: int

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.url)
        self.runner.run(self.catalog.upgrade(migrate))
        self.runner.run(self.catalog.write(fill, self.up, self.down))

    def work_off(self, rows: int) -> Reading:
        return self.runner.run(work_off(self.catalog, rows))

    def close(self) -> None:
        self.runner.run(self.catalog.close())


async def work_off(catalog: Catalog, rows: int) -> Reading:
    """Claims and finishes rows of the store that works, then lets them wait again, unmeasured."""
    done: list[int] = []
    cpu, wall = time.process_time(), time.perf_counter()
    while len(done) < rows:
        claimed = await catalog.write(
            copy_work.claim,
            Chore.COPY,
            "up",
            holder="bench/1/1",
            limit=AT_ONCE,
            lease_seconds=LEASE_SECONDS,
        )
        assert claimed, "rows are waiting"
        for one in claimed:
            await catalog.write(copy_work.prove, one, locator=one.copy.key, verified="read back")
            done.append(one.copy.id)
    reading = Reading(time.process_time() - cpu, time.perf_counter() - wall, len(done))
    await catalog.write(wait_again, done)
    return reading


def fill(tx: Tx, up: int, down: int) -> None:
    """Makes rows by the database's own means: a million through the ledger would take minutes."""
    for store in ("up", "down"):
        store_rows.ensure(tx, store, "local")
    store_rows.open_circuit(tx, "down", Unavailable("as planned"), 1e9)
    for store, start, stop in spans(up, down):
        dialect = tx.connection.dialect.name
        series = SERIES[dialect].format(start=start, stop=stop)
        digest = DIGEST[dialect]
        tx.connection.exec_driver_sql(
            f"{'' if dialect == 'sqlite' else series}INSERT INTO blobs (digest, size_bytes,"
            f" chunk_hashes, media_type, extension, codec, duration_seconds, tags, created_at)"
            f" {series if dialect == 'sqlite' else ''}SELECT {digest}, 1, {digest}, 'audio/mpeg',"
            f" 'mp3', 'mp3', 1.0, '{{}}', 0 FROM series"
        )
        tx.connection.exec_driver_sql(
            f"{'' if dialect == 'sqlite' else series}INSERT INTO copies (digest, store, key, state,"
            f" wish, since, chore, lane, due_at, attempts)"
            f" {series if dialect == 'sqlite' else ''}SELECT {digest}, '{store}',"
            f" 'blobs/' || i, 'wanted', 'keep', 0, 'copy', 'b', i * 0.001, 0 FROM series"
        )
    tx.connection.exec_driver_sql("ANALYZE")


def spans(up: int, down: int) -> Iterator[tuple[str, int, int]]:
    if down:
        yield "down", 0, down
    yield "up", down, down + up


def wait_again(tx: Tx, ids: list[int]) -> None:
    for start in range(0, len(ids), 500):
        numbers = ",".join(map(str, ids[start : start + 500]))
        tx.connection.exec_driver_sql(
            "UPDATE copies SET state = 'wanted', chore = 'copy', due_at = id * 0.001"
            f" WHERE id IN ({numbers})"
        )


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", ledger))
