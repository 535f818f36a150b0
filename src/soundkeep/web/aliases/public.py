"""Speech whose address plays in a bare `<audio>`: on a public track, and held somewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soundkeep.model import Visibility
from soundkeep.shown import TrackView, audio_url
from soundkeep.speech.request import speech_request
from soundkeep.web.context import Context
from soundkeep.web.held import held


@dataclass(frozen=True, slots=True)
class Published:
    """A speech as JSON, and its public track."""

    speech: Mapping[str, Any]
    view: TrackView

    def url(self, base_url: str) -> str:
        """Where everybody can play it: in a public store, else here."""
        published = self.view.published
        return published[0].url if published else audio_url(self.view.track, base_url)


async def published(context: Context, fields: Mapping[str, Any], base_url: str) -> Published:
    """Has it said and makes its track public, which the settings have confirmed.

    Waits as an upload does until a store has it. Raises what `Speeches.say` names."""
    wanted = await asyncio.to_thread(speech_request, fields)
    answer = await context.house.speeches.say(wanted)
    speech = await context.house.records.made(answer, base_url)
    view = await context.keep.track(speech["track_id"])
    if not view.track.public:
        view = await context.keep.change(view.track.id, visibility=Visibility.PUBLIC)
        context.lookup.forget(view.track.id)
    return Published(speech, await held(context, view.track.id))
