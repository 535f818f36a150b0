"""`import`: keeps a directory tree; run again, it goes on where it stopped.

What is there already under the same path, with the same bytes, is skipped. It ends when every
copy is made, with a summary that names each file that was not taken and why.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from soundkeep.cli.adding import pieces_of
from soundkeep.cli.app import Options, app
from soundkeep.cli.doors import Door, Listing, door
from soundkeep.cli.running import WENT_WRONG, err, out, print_json, run, size_text
from soundkeep.errors import SettingsError, SoundkeepError
from soundkeep.intake.folder import Candidate, digest_of, walk

PAGE_TRACKS = 1000


@dataclass(slots=True)
class Summary:
    """What became of each file."""

    added: int = 0
    skipped: int = 0
    bytes_added: int = 0
    left_out: dict[str, str] = field(default_factory=dict)  # not audio, nor meant to be
    missing: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "added": self.added,
            "skipped": self.skipped,
            "bytes_added": self.bytes_added,
            "left_out": self.left_out,
            "missing": self.missing,
        }


@app.command(name="import")
def import_(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="The directory tree.")],
    batch: Annotated[int, typer.Option(min=1, max=100, help="Files at once.")] = 10,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between batches.")] = 0,
    prefix: Annotated[str, typer.Option(help="What every path begins with.")] = "",
    visibility: Annotated[str, typer.Option(help="private or public.")] = "private",
    owner: Annotated[str, typer.Option(help="Whose tracks they are.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Keep every audio file of a directory tree."""
    try:
        candidates = list(walk(directory))
    except OSError as error:
        raise SettingsError(f"{directory}: {error.strerror}") from None
    fields = {"visibility": visibility, "owner": owner}
    summary = run(_import(context.obj, candidates, prefix, fields, batch, pause))
    if json:
        print_json(summary.as_json())
    else:
        _say(summary)
    raise typer.Exit(WENT_WRONG if summary.missing else 0)


async def _import(
    options: Options,
    candidates: list[Candidate],
    prefix: str,
    fields: dict[str, str],
    batch: int,
    pause: float,
) -> Summary:
    summary = Summary()
    async with door(options, bulk=True) as keep:
        known = await _known(keep, prefix)
        with _progress() as progress:
            bar = progress.add_task("files", total=sum(found.size_bytes for found in candidates))

            async def one(found: Candidate) -> None:
                await _import_one(keep, found, prefix + found.path, fields, known, summary)
                progress.advance(bar, found.size_bytes)

            await _in_batches(one, candidates, batch, pause)
        await keep.settle()
        checked = await keep.check()
        for copy in checked["missing_copies"]:
            summary.missing[f"{copy['store']}: {copy['key']}"] = (
                copy["last_error"] or "not there yet"
            )
    return summary


async def _in_batches(one: object, candidates: list[Candidate], batch: int, pause: float) -> None:
    """With a pause, batch by batch; without one, as many at once as a batch has."""
    assert callable(one)
    if pause:
        for start in range(0, len(candidates), batch):
            await asyncio.gather(*map(one, candidates[start : start + batch]))
            if start + batch < len(candidates):
                await asyncio.sleep(pause)
        return
    waiting = iter(candidates)

    async def work() -> None:
        for found in waiting:
            await one(found)

    await asyncio.gather(*(work() for _ in range(batch)))


async def _import_one(
    keep: Door,
    found: Candidate,
    path: str,
    fields: dict[str, str],
    known: dict[str, tuple[int, str]],
    summary: Summary,
) -> None:
    try:
        if await _is_there(found, known.get(path)):
            summary.skipped += 1
            return
        with found.file.open("rb") as file:
            _, created = await keep.add(pieces_of(file), {**fields, "path": path})
    except (SoundkeepError, OSError) as error:
        not_audio = getattr(error, "code", "") in ("not_audio", "type_not_allowed", "empty_upload")
        where = summary.left_out if not_audio and not found.means_audio else summary.missing
        where[found.path] = str(error)
        return
    summary.added += created
    summary.skipped += not created
    summary.bytes_added += found.size_bytes if created else 0


async def _is_there(found: Candidate, known: tuple[int, str] | None) -> bool:
    """Sizes are compared first; only equal ones cost a hash."""
    if known is None or known[0] != found.size_bytes:
        return False
    return await asyncio.to_thread(digest_of, found.file) == known[1]


async def _known(keep: Door, prefix: str) -> dict[str, tuple[int, str]]:
    """Size and digest of what is kept already, by path."""
    known: dict[str, tuple[int, str]] = {}
    cursor = None
    while True:
        page = await keep.page(Listing(prefix, limit=PAGE_TRACKS, cursor=cursor))
        for track in page["items"]:
            known[track["path"]] = (track["size_bytes"], track["digest"])
        cursor = page["next_cursor"]
        if cursor is None:
            return known


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )


def _say(summary: Summary) -> None:
    out.print(
        f"{summary.added} added ({size_text(summary.bytes_added)}), "
        f"{summary.skipped} already there, "
        f"{len(summary.left_out)} left out, {len(summary.missing)} missing"
    )
    for title, files in (("Left out", summary.left_out), ("Missing", summary.missing)):
        if files:
            out.print(f"{title}:")
        for name, why in sorted(files.items()):
            out.print(f"  {name}: {why}", markup=False)
