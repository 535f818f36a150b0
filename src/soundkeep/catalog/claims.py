"""Hands out work: the one claim that every chore uses.

A claimable table has the columns `id, chore, lane, due_at, lease_token, lease_holder, attempts,
last_error` and a column that names the target (a store), with an index on (chore, target, lane,
due_at) of the rows that have a chore. A row is due when `due_at` has come;
a claim moves `due_at` to the end of the lease, so a lease that ran out makes the row due again
without anybody doing anything. Clocks are the database's.

The holder of a lease renews it while it works, and writes its outcome only with its fencing
token: `LeaseLost` tells it that somebody else may hold the row by now. `attempts` rises at the
claim, so a row that kills its worker is seen.

Measured with 1,000,000 rows of which 900,000 wait for a store that is down: one claim for each
(chore, target) keeps its speed; one query over all targets falls to 23 rows a second.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sqlalchemy import (
    Column,
    Executable,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.sql import ClauseElement, ColumnElement

from soundkeep.catalog import stores
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import now
from soundkeep.errors import LeaseLost
from soundkeep.model import Lane

FIRST_DELAYS = (1.0, 2.0, 4.0)
LONGEST_DELAY = 3600.0
GROWTH = 2.5  # from 4 s on: 10 s, 25 s, 1 min, 3 min, 7 min, 16 min, 41 min, 1 h
JITTER = 0.2


Leasing = Executable  # an update that leases rows and returns them
Target = tuple[Table, str, str]  # a table, a chore of its rows, and a store


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on one row until `until` by the database's clock."""

    row_id: int
    token: str
    until: float


def delay_seconds(attempts: int) -> float:
    """How long a row rests after its `attempts`-th failure in a row, with jitter; it never ends."""
    if attempts <= len(FIRST_DELAYS):
        delay = FIRST_DELAYS[max(attempts, 1) - 1]
    else:
        steps = min(attempts - len(FIRST_DELAYS), 32)
        delay = min(LONGEST_DELAY, FIRST_DELAYS[-1] * GROWTH**steps)
    return delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - not a secret


def claim(
    tx: Tx,
    table: Table,
    *,
    chore: str,
    target: ColumnElement[bool],
    holder: str,
    limit: int,
    lease_seconds: float,
) -> list[tuple[Lease, AnyRow]]:
    """Leases up to `limit` rows of one chore and one target that are due, interactive ones first.

    `target` compares the table's target column, as `copies.c.store == "disk"`.
    """
    ids: list[int] = []
    for lane in Lane:
        if len(ids) < limit:
            ids += _due(tx, table, and_(table.c.chore == chore, target), lane, limit - len(ids))
    if not ids:
        return []
    leased = lease_rows(tx, table, table.c.id.in_(ids), holder=holder, lease_seconds=lease_seconds)
    return sorted(leased, key=lambda pair: ids.index(pair[0].row_id))


def claim_in_store(
    tx: Tx, table: Table, chore: str, store: str, *, holder: str, limit: int, lease_seconds: float
) -> list[tuple[Lease, AnyRow]]:
    """Leases rows of one store on which `chore` is due; none while the store is out."""
    if stores.is_out(tx, store):
        return []
    return claim(
        tx,
        table,
        chore=chore,
        target=table.c.store == store,
        holder=holder,
        limit=limit,
        lease_seconds=lease_seconds,
    )


def lease_rows(
    tx: Tx, table: Table, which: ColumnElement[bool], *, holder: str, lease_seconds: float
) -> list[tuple[Lease, AnyRow]]:
    """Leases rows that this transaction alone may lease, and which are due."""
    return lease(tx, leasing(table, which), {}, holder=holder, lease_seconds=lease_seconds)


def leasing(table: Table, which: ColumnElement[bool]) -> Leasing:
    """The statement that leases such rows, for `lease`. To be made once where it is often run."""
    return (
        update(table)
        .where(which)
        .values(
            due_at=now() + bindparam("lease_seconds"),
            lease_token=bindparam("token"),
            lease_holder=bindparam("holder"),
            attempts=table.c.attempts + 1,
        )
        .returning(*table.c)
    )


def lease(
    tx: Tx,
    statement: Leasing,
    given: Mapping[str, object],
    *,
    holder: str,
    lease_seconds: float,
) -> list[tuple[Lease, AnyRow]]:
    """Runs what `leasing` made; `given` are the parameters of its condition."""
    token = secrets.token_hex(8)
    of_lease = {"token": token, "holder": holder, "lease_seconds": lease_seconds}
    rows = tx.run(statement, {**of_lease, **given})
    return [(Lease(row.id, token, row.due_at), row) for row in rows]


def waits(tx: Tx, targets: Collection[Target]) -> dict[Target, float]:
    """For each target that has any work: seconds until its next row is due, 0 if one is."""
    targets = tuple(targets)
    row: AnyRow = tx.run(_soonest(targets)).one()
    clock, *soonest = row
    found: dict[Target, float] = {}
    for target, *times in zip(targets, *([iter(soonest)] * len(Lane)), strict=True):
        due = [due_at for due_at in times if due_at is not None]
        if due:
            found[target] = max(0.0, min(due) - clock)
    return found


@lru_cache(maxsize=64)
def _soonest(targets: tuple[Target, ...]) -> Executable:
    """The clock, and for each target and lane when its next row is due: each one step in an index.

    Made once for each set of targets: a worker asks it at every wake-up, and building it anew cost
    more than running it.
    """
    return select(
        now(),
        *(
            select(func.min(table.c.due_at))
            .where(table.c.chore == chore, table.c.store == store)
            .where(table.c.lane == lane.value)
            .scalar_subquery()
            for table, chore, store in targets
            for lane in Lane
        ),
    )


def renew(tx: Tx, table: Table, lease: Lease, lease_seconds: float) -> Lease:
    """Prolongs a lease from now on. Raises `LeaseLost`."""
    prolonged = (
        update(table)
        .where(_held(table, lease))
        .values(due_at=now() + lease_seconds)
        .returning(table.c.due_at)
    )
    until = tx.run(prolonged).scalar_one_or_none()
    if until is None:
        raise LeaseLost
    return Lease(lease.row_id, lease.token, until)


def finish(tx: Tx, table: Table, lease: Lease, **outcome: object) -> None:
    """Writes the outcome and ends the lease. Raises `LeaseLost`, and then nothing was written."""
    values = {"lease_token": None, "lease_holder": None, "attempts": 0, "last_error": None}
    _write(tx, table, lease, {**values, **outcome})


def forget(tx: Tx, table: Table, lease: Lease) -> None:
    """The row is no more: what it asked for is done, for good. Raises `LeaseLost`."""
    if tx.run(delete(table).where(_held(table, lease))).rowcount != 1:
        raise LeaseLost


def note(tx: Tx, table: Table, lease: Lease, **values: object) -> None:
    """Writes something down while the lease goes on. Raises `LeaseLost`."""
    _write(tx, table, lease, values)


def fail(tx: Tx, table: Table, lease: Lease, error: str, retry_after: float | None = None) -> None:
    """Notes the error and makes the row due again on the curve. Raises `LeaseLost`.

    Nothing is ever given up: the curve ends at an hour and goes on.
    """
    attempts = tx.run(select(table.c.attempts).where(_held(table, lease))).scalar_one_or_none()
    delay = max(delay_seconds(attempts or 1), retry_after or 0.0)
    _write(tx, table, lease, {**_LET_GO, "last_error": error[:500], "due_at": now() + delay})


def postpone(tx: Tx, table: Table, lease: Lease, due_at: float) -> None:
    """Nothing was wrong, it was only too early: the row is due again at `due_at`."""
    _write(tx, table, lease, {**_LET_GO, "attempts": 0, "last_error": None, "due_at": due_at})


def release(tx: Tx, table: Table, lease: Lease) -> None:
    """Gives a lease back unused; whoever comes next may claim the row at once."""
    unspent = case((table.c.attempts > 0, table.c.attempts - 1), else_=0)
    let_go = update(table).where(_held(table, lease))
    tx.run(let_go.values(**_LET_GO, attempts=unspent, due_at=now()))
    tx.wakes = True


def release_dead_holders(tx: Tx, table: Table, host: str) -> int:
    """Frees at once what processes of this host held that are no more; answers how many rows."""
    held_here = table.c.lease_holder.startswith(f"{host}/", autoescape=True)
    holders = tx.run(select(table.c.lease_holder).where(held_here).distinct()).scalars()
    dead = [holder for holder in holders if not is_alive(holder)]
    if not dead:
        return 0
    freed = update(table).where(table.c.lease_holder.in_(dead)).values(**_LET_GO, due_at=now())
    tx.wakes = True
    return tx.run(freed).rowcount


def make_due(tx: Tx, table: Table, which: ColumnElement[bool]) -> int:
    """Makes rows that wait due now, without touching any that is leased; answers how many."""
    return run_due(tx, making_due(table, which), {})


def making_due(table: Table, which: ColumnElement[bool]) -> Update:
    """The statement of `make_due`, for `run_due`. To be made once where it is often run."""
    waiting = and_(
        table.c.chore.is_not(None), table.c.lease_token.is_(None), table.c.due_at > now()
    )
    return update(table).where(waiting, which).values(due_at=now())


def run_due(tx: Tx, statement: Update, given: Mapping[str, object]) -> int:
    """Runs what `making_due` made; `given` are the parameters of its condition."""
    tx.wakes = True
    return tx.run(statement, given).rowcount


def holder_name(host: str) -> str:
    """This process, so that it can be told from a later one with the same number."""
    return f"{host}/{os.getpid()}/{_started(os.getpid())}"


def is_alive(holder: str) -> bool:
    """Whether the process that a lease of this host names still runs."""
    _, _, name = holder.partition("/")
    pid, _, started = name.partition("/")
    return pid.isdecimal() and _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (field 22 of proc(5)), or "" if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _due(tx: Tx, table: Table, which: ColumnElement[bool], lane: Lane, limit: int) -> list[int]:
    rows = (
        select(table.c.id)
        .where(which, table.c.lane == lane, table.c.due_at <= now())
        .order_by(table.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(tx.run(rows).scalars())


_LET_GO: dict[str, None] = {"lease_token": None, "lease_holder": None}


def _held(table: Table, lease: Lease) -> ColumnElement[bool]:
    column: Column[str] = table.c.lease_token
    return and_(table.c.id == lease.row_id, column == lease.token)


def _write(tx: Tx, table: Table, lease: Lease, values: dict[str, object]) -> None:
    """Values are plain or SQL; an SQL value is part of the statement."""
    plain = {name: value for name, value in values.items() if not isinstance(value, ClauseElement)}
    clocked = tuple(name for name, value in values.items() if isinstance(value, now))
    if len(plain) + len(clocked) == len(values):
        given = {f"new_{name}": value for name, value in plain.items()}
        held = {"of_row": lease.row_id, "of_token": lease.token}
        written = tx.run(_outcome(table, tuple(plain), clocked), given | held)
    else:
        written = tx.run(update(table).where(_held(table, lease)).values(**values))
    if written.rowcount != 1:
        raise LeaseLost


@lru_cache(maxsize=64)
def _outcome(table: Table, plain: tuple[str, ...], clocked: tuple[str, ...]) -> Update:
    """The statement for these columns, those of `clocked` with the database's time. Made once:
    building it costs more than running it."""
    values: dict[str, object] = {name: bindparam(f"new_{name}") for name in plain}
    held = and_(table.c.id == bindparam("of_row"), table.c.lease_token == bindparam("of_token"))
    return update(table).where(held).values(values | {name: now() for name in clocked})
