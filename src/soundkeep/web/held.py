"""Waits for what was just made as an upload waits: until a store has it, within bounds."""

from __future__ import annotations

import asyncio
import time

from soundkeep.catalog import stores
from soundkeep.shown import TrackView
from soundkeep.web.context import Context

POLL_SECONDS = 0.02


async def held(context: Context, track_id: str) -> TrackView:
    """The track once a store has it, or after `policy.ack_seconds`; at once if all are out.

    Raises `NoSuchTrack`, `CatalogUnavailable`."""
    policy = context.keep.settings.policy
    deadline = time.monotonic() + policy.ack_seconds
    view = await context.keep.track(track_id)
    while view.temporary and policy.ack_copies and time.monotonic() < deadline:
        if await context.keep.catalog.read(stores.out) >= set(policy.keep):
            break
        await asyncio.sleep(POLL_SECONDS)
        view = await context.keep.track(track_id)
    return view
