"""The parts that turn text into sound, put together from settings: engines, takes and speeches."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack

from soundkeep.build.house import ASSEMBLING
from soundkeep.intake.examine import Examiner
from soundkeep.intake.spool import Spool
from soundkeep.keep import Keep
from soundkeep.settings import Settings
from soundkeep.settings.house import AUDIO_TYPES
from soundkeep.speech.aside import Aside
from soundkeep.speech.assembly import Assembler, Desk
from soundkeep.speech.choosing import Chooser
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.engines.kinds import make_engine
from soundkeep.speech.generation import Generation
from soundkeep.speech.judging import judging
from soundkeep.speech.leading import Leader, Where
from soundkeep.speech.records import Records
from soundkeep.speech.sounds import Sounds
from soundkeep.speech.speeches import Speeches
from soundkeep.speech.timekeeping import Timekeeper

REFUSED_TAKES = "refused"  # a folder of the data directory


def make_aside(settings: Settings, keep: Keep) -> Aside:
    """Where takes are kept that were refused."""
    return Aside(
        settings.data_directory / REFUSED_TAKES,
        settings.host_name,
        catalog=keep.catalog,
        spool=_speech_spool(settings),
        examiner=Examiner(keep.jail, AUDIO_TYPES),
        rules=keep.rules,
        inbox=settings.inbox_name,
        linger_seconds=settings.inbox.linger_seconds,
        keep_seconds=settings.speech.keep_refused_days * 86_400,
    )


def make_generation(
    settings: Settings, keep: Keep, aside: Aside, closing: AsyncExitStack
) -> Generation:
    """What has text spoken, by the engines of the settings."""
    engines = {name: make_engine(name, table) for name, table in settings.speech.engines.items()}
    for engine in engines.values():
        closing.push_async_callback(engine.close)
    leader = Leader(
        catalog=keep.catalog,
        spool=_speech_spool(settings),
        examiner=Examiner(keep.jail, AUDIO_TYPES),
        judge=judging(keep.jail),
        aside=aside,
        rules=keep.rules,
        where=Where(
            inbox=settings.inbox_name,
            linger_seconds=settings.inbox.linger_seconds,
            host=settings.host_name,
        ),
        lease_seconds=settings.speech.lease_seconds,
    )
    return Generation(
        catalog=keep.catalog,
        engines=engines,
        leader=leader,
        reader=keep.reader,
        settings=settings.speech,
        holder=keep.holder,
        host=settings.host_name,
    )


def make_speeches(
    settings: Settings, keep: Keep, generation: Generation
) -> tuple[Speeches, Records]:
    """What makes speeches of segments, and what finds them again."""
    folder = settings.data_directory / ASSEMBLING
    folder.mkdir(parents=True, exist_ok=True)
    sounds = Sounds(keep.catalog, keep.reader, keep.jail)
    timekeeper = Timekeeper(keep.catalog, sounds, _clock(generation.engines), folder)
    assembler = Assembler(
        catalog=keep.catalog,
        sounds=sounds,
        timekeeper=timekeeper,
        jail=keep.jail,
        spool=_speech_spool(settings),
        examiner=Examiner(keep.jail, AUDIO_TYPES),
        rules=keep.rules,
        desk=Desk(folder, settings.inbox_name, settings.inbox.linger_seconds),
    )
    speeches = Speeches(
        catalog=keep.catalog,
        generation=generation,
        chooser=Chooser(generation.engines, settings.speech),
        assembler=assembler,
        timekeeper=timekeeper,
        reader=keep.reader,
        rules=keep.rules,
        settings=settings.speech,
    )
    return speeches, Records(keep.catalog, speeches, timekeeper)


def _speech_spool(settings: Settings) -> Spool:
    """What we make ourselves has no limit but the disk: `limits.file_bytes` is for uploads."""
    return Spool(
        settings.inbox_directory,
        file_bytes=sys.maxsize,
        min_free_bytes=settings.inbox.min_free_bytes,
    )


def _clock(engines: Mapping[str, Engine]) -> Engine | None:
    """The voice by which takes are aligned: the offline one, where it is installed."""
    return next((engine for engine in engines.values() if isinstance(engine, EspeakEngine)), None)
