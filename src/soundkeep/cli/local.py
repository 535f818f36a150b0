"""The verbs' service on a data directory itself, also while a server runs on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from soundkeep import shown
from soundkeep.answers import Receipt
from soundkeep.build import opened
from soundkeep.build.house import House
from soundkeep.catalog import copies
from soundkeep.catalog.tracks import Query
from soundkeep.cli.service import Document, Which
from soundkeep.intake.recording import NewTrack
from soundkeep.intake.spool import Announced
from soundkeep.keep.syncs import Wanted
from soundkeep.model import Lane, Operation
from soundkeep.settings import Settings
from soundkeep.speech.plan_form import plan_json
from soundkeep.speech.plan_request import budget_of, plan_request
from soundkeep.speech.request import speech_request
from soundkeep.worker import settled

PROGRESS_SECONDS = 0.2


@asynccontextmanager
async def opened_locally(settings: Settings) -> AsyncIterator[LocalService]:
    """The service, closed at the end."""
    async with opened(settings) as house:
        yield LocalService(house)


class LocalService:
    """Asks the keep of this process."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._keep = house.keep
        http = house.keep.settings.http
        self._base_url = (http.base_url or f"http://{http.host}:{http.port}").rstrip("/")

    async def add(
        self, body: AsyncIterator[bytes], new: NewTrack, size_bytes: int | None
    ) -> tuple[Document, bool]:
        added = await self._keep.add(body, new, Announced(size_bytes), lane=Lane.BULK)
        return await self.track(added.track.id), added.created

    async def add_file(self, file: Path, new: NewTrack) -> None:
        await self._keep.add_file(file, new)

    async def digest_at(self, owner: str, path: str, size_bytes: int) -> str | None:
        held = await self._keep.held_at(owner, path)
        return held[0].hex if held and held[1] == size_bytes else None

    async def track(self, track_id: str) -> Document:
        return shown.track_json(await self._keep.track(track_id), self._base_url)

    async def copies(self, track_id: str) -> Document:
        held = (await self._keep.track(track_id)).copies
        return shown.copies_json(held, await self._keep.sidecars(track_id))

    async def tracks(self, which: Which, limit: int, cursor: str | None = None) -> Document:
        listed = await self._keep.list(
            Query(which.prefix, which.search, which.owner, limit=limit, cursor=cursor)
        )
        items = (shown.track_json(view, self._base_url) for view in listed.views)
        return shown.items(items, listed.next_cursor)

    async def sound(self, track: Document) -> AsyncGenerator[bytes, None]:
        blob = (await self._keep.track(track["id"])).track.blob
        async with aclosing(self._keep.open(blob)) as pieces:
            async for piece in pieces:
                yield piece

    async def remove(self, track_id: str) -> Document:
        return self._receipt(await self._keep.remove(track_id))

    async def receipt(self, track_id: str) -> Document:
        return self._receipt(await self._keep.receipt(track_id))

    def _receipt(self, receipt: Receipt) -> Document:
        return shown.receipt_json(receipt, self._keep.fronts.cache_seconds)

    async def status(self) -> Document:
        return (await self._keep.status(anew=True)).as_json()  # there may be no server that counts

    async def failing(self, limit: int) -> list[Document]:
        found = await self._keep.catalog.read(copies.page, failed=True, limit=limit)
        return [shown.copy_json(copy) for copy in found]

    async def check(self) -> Document:
        return (await self._keep.check()).as_json()

    async def retry(self, track_id: str | None, store: str | None) -> int:
        return await self._keep.retry(track_id=track_id, store=store)

    async def drain(self, store: str) -> Document:
        await self._keep.drain(store)
        await self._house.replan_moved()
        return await self._keep.store(store, anew=True)

    async def resume(self, store: str) -> Document:
        await self._keep.resume(store)
        await self._house.replan_moved()
        return await self._keep.store(store, anew=True)

    async def sync(self, order: Document) -> Document:
        operation, ids = Operation(order["operation"]), tuple(order.get("track_ids", ()))
        wanted = Wanted(**{**order, "operation": operation, "track_ids": ids})
        return (await self._keep.sync(wanted)).as_json()

    async def render(self, track_id: str, format: str) -> Document:
        return await self.track((await self._house.renderer.render(track_id, format)).id)

    async def say(self, fields: Document, heard: Callable[[int, int], object]) -> Document:
        answer = await self._house.speeches.say(speech_request(fields))
        making = asyncio.create_task(self._house.records.made(answer, self._base_url))
        while not making.done():
            heard(answer.segments_done, len(answer.chosen.segments))
            await asyncio.wait({making}, timeout=PROGRESS_SECONDS)
        return await making

    async def timing(self, track_id: str, *, as_webvtt: bool) -> str:
        text, timing = await self._house.records.timing_of_track(track_id)
        return (
            timing.to_webvtt(text) if as_webvtt else json.dumps({"text": text, **timing.to_json()})
        )

    async def speech_stats(self) -> Document:
        return await self._house.records.stats()

    async def voices(self, engine: str | None) -> list[Document]:
        return await self._house.records.voices(engine)

    async def make_plan(self, fields: Document) -> Document:
        return plan_json(await self._house.plans.make(plan_request(fields)))

    async def plans(self, limit: int, cursor: str | None = None) -> Document:
        page = await self._house.plans.page(after=cursor, limit=limit + 1)
        next_cursor = page[limit - 1].id if len(page) > limit else None
        return shown.items(map(plan_json, page[:limit]), next_cursor)

    async def plan(self, plan_id: str) -> Document:
        plans = self._house.plans
        return plan_json(await plans.find(plan_id), await plans.failing(plan_id))

    async def pause_plan(self, plan_id: str) -> Document:
        await self._house.plans.pause(plan_id)
        return await self.plan(plan_id)

    async def resume_plan(self, plan_id: str, budget: str | None) -> Document:
        await self._house.plans.resume(plan_id, budget_of(budget))
        return await self.plan(plan_id)

    async def cancel_plan(self, plan_id: str) -> Document:
        await self._house.plans.cancel(plan_id)
        return await self.plan(plan_id)

    async def settle(self, within_seconds: float) -> None:
        await settled(self._house, within_seconds)
