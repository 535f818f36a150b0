"""The sample track of a new installation, so that there is something to play.

The offline voice says it, with timings, where that is installed; else it is a short tune.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog

from soundkeep.build.house import House
from soundkeep.catalog import facts
from soundkeep.catalog.database import Tx
from soundkeep.errors import EngineError, SoundkeepError
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Visibility
from soundkeep.speech.request import speech_request

GREETED = "greeted"
COLLECTION = "soundkeep"
SAMPLE = NewTrack(
    path=f"{COLLECTION}/hello.mp3", title="Hello from Soundkeep", visibility=Visibility.PUBLIC
)
WORDS = (
    "Hello from Soundkeep. This voice lives on your own machine: it needs no account and no "
    "network. Have something said twice, and it is spoken only once."
)

log = structlog.get_logger()


async def greet(house: House) -> None:
    """Adds the sample track to a new catalog, once. That it fails is no reason not to serve."""
    if not await house.keep.catalog.write(_is_new):
        return
    try:
        if not await _say(house):
            tune = await house.keep.jail.tune()
            await house.keep.add(_once(tune), SAMPLE)
    except SoundkeepError as error:
        log.warning("the sample track could not be added", code=error.code, error=str(error))


async def _say(house: House) -> bool:
    """Whether the offline voice has said it. No other engine is asked: that might cost."""
    engines = house.keep.settings.speech.engines
    offline = next((name for name, table in engines.items() if table.kind == "espeak"), None)
    if offline is None:
        return False
    request = speech_request({"text": WORDS, "engine": offline, "voice": "en-us"})
    try:
        answer = await house.speeches.say(request)
        kept = await answer.kept()
    except EngineError as error:
        log.info("the sample track is not spoken", error=str(error))
        return False
    await house.speeches.track_as(kept, COLLECTION, SAMPLE)
    return True


def _is_new(tx: Tx) -> bool:
    """Whether this catalog was never greeted; from now on it was."""
    if facts.read(tx, GREETED) is not None:
        return False
    facts.write(tx, GREETED, True)
    return True


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
