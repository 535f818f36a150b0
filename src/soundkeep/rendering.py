"""Renditions of tracks: the same sound in a smaller or a friendlier format, beside the original.

    track = await renderer.render("song", "opus_48000_64")

On request, and by itself for stores with `renditions = [...]`: then each track that is placed
there is also placed there in those formats. The original stays as it is.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path, PurePosixPath

import structlog

from soundkeep.audio.making import Making, file_making
from soundkeep.catalog import claims, renditions, tracks
from soundkeep.catalog.database import Tx
from soundkeep.catalog.renditions import ClaimedRendition, Rendition
from soundkeep.catalog.schema import renditions as renditions_table
from soundkeep.errors import (
    BadInput,
    Conflict,
    LeaseLost,
    NoSuchTrack,
    SoundkeepError,
    Unplayable,
)
from soundkeep.intake.recording import NewTrack
from soundkeep.keep import Keep
from soundkeep.model import Lane, Track
from soundkeep.writing import desk

LEASE_SECONDS = 60.0
POLL_SECONDS = 0.2  # while somebody waits for one
IDLE_SECONDS = 5.0  # while nobody does
NEVER = (BadInput, Conflict)  # trying again would not help

log = structlog.get_logger()


class Renderer:
    """Makes renditions, one at a time."""

    def __init__(self, keep: Keep, folder: Path) -> None:
        self._keep = keep
        self._folder = folder
        self._woken = asyncio.Event()
        self._encoding = asyncio.Lock()  # which keeps a core busy

    async def render(self, track_id: str, format: str) -> Track:
        """The track in that format, once it is made. Raises `NoSuchTrack`, `UnknownFormat`,
        `Conflict` for what can never be made, and `Unplayable` for what cannot be made now.

        Who hangs up loses nothing: it is made all the same.
        """
        file_making(format)
        await self._keep.catalog.write(_wish, track_id, format)
        while True:
            worked = await self._work_off_one()
            found = await self._keep.catalog.read(_look, track_id, format)
            if isinstance(found, Track):
                return found
            if found is None:
                raise NoSuchTrack(f"there is no track {track_id}")
            if not found.is_due:
                raise Conflict(f"{track_id} cannot be had as {format}: {found.last_error}")
            if found.rests:
                raise Unplayable(f"{track_id} cannot be had as {format} now: {found.last_error}")
            if not worked:
                await asyncio.sleep(POLL_SECONDS)

    async def of(self, track_id: str) -> list[Rendition]:
        """What a track is there in besides itself, or shall be. Raises `NoSuchTrack`."""
        return await self._keep.catalog.read(_renditions, track_id)

    async def work(self) -> None:
        """Makes what is due until it is cancelled."""
        self._keep.catalog.on_commit.append(self._woken.set)
        try:
            while True:
                self._woken.clear()
                try:
                    await self.work_off()
                except SoundkeepError as error:
                    log.warning("renditions rest", error=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._woken.wait()
        finally:
            self._keep.catalog.on_commit.remove(self._woken.set)

    async def work_off(self) -> None:
        """Makes everything that is due now."""
        while await self._work_off_one():
            pass

    async def _work_off_one(self) -> bool:
        """Makes the next that is due, if there is one: what somebody waits for goes first."""
        async with self._encoding:
            claimed = await self._keep.catalog.write(
                renditions.claim, holder=self._keep.holder, limit=1, lease_seconds=LEASE_SECONDS
            )
            for one in claimed:
                await self._carry_out(one)
            return bool(claimed)

    async def _carry_out(self, claimed: ClaimedRendition) -> None:
        """Writes down how it ended. Cancelled, it gives the lease back."""
        renewing = asyncio.create_task(self._renew(claimed))
        try:
            await self._make(claimed)
        except LeaseLost:
            log.info("lease lost", rendition=claimed.rendition.id)
        except NEVER as error:
            await self._note(renditions.cannot_be, claimed, f"{error.code}: {error}")
        except SoundkeepError as error:
            log.info("not rendered", track=claimed.rendition.track_id, why=str(error))
            await self._note(claims.fail, renditions_table, claimed.lease, str(error))
        except Exception as error:  # a fault of ours: the others must not be stuck with it
            log.exception("a rendition failed", track=claimed.rendition.track_id)
            text = f"internal: {type(error).__name__}: {error}"
            await self._note(claims.fail, renditions_table, claimed.lease, text)
        except asyncio.CancelledError:
            await self._note(claims.release, renditions_table, claimed.lease)
            raise
        finally:
            renewing.cancel()

    async def _note(self, *what: object) -> None:
        with suppress(LeaseLost):
            await self._keep.catalog.write(*what)  # type: ignore[arg-type]

    async def _renew(self, claimed: ClaimedRendition) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with suppress(SoundkeepError):
                await self._keep.catalog.write(
                    claims.renew, renditions_table, claimed.lease, LEASE_SECONDS
                )

    async def _make(self, claimed: ClaimedRendition) -> None:
        original = await self._keep.catalog.read(tracks.find, claimed.rendition.track_id)
        if original is None:
            raise BadInput("its track is no more")
        made = file_making(claimed.rendition.format)
        with desk(self._folder) as folder:
            source, target = folder / "original", folder / "rendition"
            await self._keep.reader.save(original.blob, source)
            await self._keep.jail.encode_file(
                source,
                target,
                coding=made.coding.name,
                out_rate_hz=made.rate_hz,
                bit_rate=made.bit_rate,
                seconds=_time_for(original),
            )
            await self._keep.add_file(target, _new_track(original, made, claimed))


def _time_for(track: Track) -> float:
    """Encoding takes a small share of the time that the sound lasts."""
    return max(30.0, track.blob.sound.duration_seconds)


def _new_track(original: Track, made: Making, claimed: ClaimedRendition) -> NewTrack:
    return NewTrack(
        owner=original.owner,
        path=_path_of(original.path, made),
        title=original.title,
        visibility=original.visibility,
        metadata={"rendition_of": original.id, "format": made.name},
        rendition=claimed,
    )


def _path_of(original: str, made: Making) -> str:
    """Beside the original: `ch1.mp3` as `opus_48000_64` is `ch1.opus_48000_64.opus`."""
    extension = made.coding.extension
    stem = PurePosixPath(original).with_suffix("")
    plain = f"{stem}.{extension}"
    if made.name == extension and plain != original:
        return plain
    return f"{stem}.{made.name}.{extension}"


def _wish(tx: Tx, track_id: str, format: str) -> None:
    if tracks.find(tx, track_id) is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    renditions.want(tx, track_id, [format], Lane.INTERACTIVE)
    renditions.want_again(tx, track_id, format, Lane.INTERACTIVE)


def _look(tx: Tx, track_id: str, format: str) -> Track | Rendition | None:
    for rendition in renditions.of_track(tx, track_id):
        if rendition.format == format:
            made = tracks.find(tx, rendition.rendition_id) if rendition.rendition_id else None
            return made or rendition
    return None


def _renditions(tx: Tx, track_id: str) -> list[Rendition]:
    if tracks.find(tx, track_id) is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    return renditions.of_track(tx, track_id)
