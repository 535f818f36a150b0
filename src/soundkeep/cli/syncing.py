"""`sync`: pushes tracks to public stores, or any store, or withdraws them from there."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import complain, say_json, say_rows
from soundkeep.cli.service import Document, Service
from soundkeep.errors import SettingsError

BATCH = 100  # tracks in one call, so that a person sees how far it is
SETTLE_SECONDS = 30.0
FOLLOW_SECONDS = 2.0  # one look of `--wait`
WAIT_SECONDS = 600.0
HEADERS = ("track", "store", "state", "still due", "where")


def sync(
    context: typer.Context,
    tracks: Annotated[list[str] | None, typer.Argument(help="Ids of tracks.")] = None,
    prefix: Annotated[str | None, typer.Option(help="All paths that begin so.")] = None,
    store: Annotated[str | None, typer.Option(help="By default every public store.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Withdraw instead of uploading.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all is done, up to 10 minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as JSON.")] = False,
) -> None:
    """Push tracks to a store, or withdraw them."""
    if bool(tracks) == (prefix is not None):
        raise SettingsError("name the tracks by their ids, or all of them by --prefix")
    order: Document = {"operation": "delete" if delete else "upload", "dry_run": dry_run}
    if store is not None:
        order["store"] = store
    options = options_of(context)
    lines = run(options, _sync(options, order, tracks or [], prefix, wait=wait))
    say_json({"items": lines, "summary": _summary(lines)}) if as_json else _say(lines)
    if any(line["error"] for line in lines) or (wait and any(line["due"] for line in lines)):
        raise typer.Exit(FAILED)


async def _sync(
    options: Options, order: Document, ids: list[str], prefix: str | None, *, wait: bool
) -> list[Document]:
    async with options.service() as service:
        pages = _by_prefix(service, order, prefix) if prefix is not None else None
        lines = [line async for line in pages or _by_ids(service, order, ids)]
        if order["dry_run"]:
            return lines
        await service.settle(SETTLE_SECONDS)
        return await _follow(service, order, lines, WAIT_SECONDS if wait else 0)


async def _by_ids(service: Service, order: Document, ids: list[str]) -> AsyncIterator[Document]:
    for start in range(0, len(ids), BATCH):
        page = await service.sync({**order, "track_ids": ids[start : start + BATCH]})
        for line in page["items"]:
            yield line


async def _by_prefix(service: Service, order: Document, prefix: str) -> AsyncIterator[Document]:
    cursor: Document = {}
    while True:
        page = await service.sync({**order, "prefix": prefix, "limit": BATCH, **cursor})
        for line in page["items"]:
            yield line
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


async def _follow(
    service: Service, order: Document, lines: list[Document], within_seconds: float
) -> list[Document]:
    """The lines as they stand now, or when nothing is due any more: a dry run changes nothing."""
    deadline = time.monotonic() + within_seconds
    with _progress() as progress:
        shown = progress.add_task("sync", total=len(lines))
        while True:
            left = min(FOLLOW_SECONDS, max(0.0, deadline - time.monotonic()))
            lines = await _looked_again(service, {**order, "dry_run": True}, lines, left)
            due = sum(bool(line["due"]) for line in lines)
            progress.update(shown, completed=len(lines) - due)
            if not due or not left:
                return lines
            await service.settle(left)


async def _looked_again(
    service: Service, order: Document, lines: list[Document], wait_seconds: float
) -> list[Document]:
    """Asks again about what was still due."""
    waiting = list(dict.fromkeys(line["track_id"] for line in lines if line["due"]))
    look = {**order, "wait_seconds": wait_seconds}
    now = {_place(line): line async for line in _by_ids(service, look, waiting)}
    return [now.get(_place(line), line) for line in lines]


def _place(line: Document) -> tuple[str, str | None]:
    return line["track_id"], line["store"]


def _summary(lines: Iterable[Document]) -> Document:
    counts = {"done": 0, "due": 0, "refused": 0}
    for line in lines:
        counts["refused" if line["error"] else "due" if line["due"] else "done"] += 1
    return counts


def _say(lines: list[Document]) -> None:
    say_rows(HEADERS, map(_row, lines))
    for line in lines:
        if line["error"]:
            complain(f"{line['track_id']}: {line['error']['detail']}")
        elif line["why"]:
            complain(f"{line['track_id']}: still due: {line['why']}")


def _row(line: Document) -> tuple[str, ...]:
    return (
        line["track_id"],
        line["store"] or "",
        line["state"],
        ", ".join(line["due"]),
        line["cdn_url"] or "",
    )


def _progress() -> Progress:
    """How many are done, on stderr; nothing where that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
