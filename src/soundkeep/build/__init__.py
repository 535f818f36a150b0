"""Puts the parts together from settings. Read it as a recipe.

    async with opened(settings) as house:
        await house.keep.add(...)

A store that is out at start is no reason not to start: its circuit opens, and it is probed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from soundkeep.audio.jail import Jail
from soundkeep.build.ground import (
    check_redirects,
    make_stores,
    open_inbox,
    opened_catalog,
    rules_of,
)
from soundkeep.build.house import ASSEMBLING, House, concurrency_in
from soundkeep.build.presence import present
from soundkeep.build.speech import make_aside, make_generation, make_speeches
from soundkeep.catalog import claims
from soundkeep.catalog.copy_law import Law
from soundkeep.chores import Frame, Kind, kinds, of_errands
from soundkeep.copies.copying import Copier
from soundkeep.copies.dropping import Dropper, InboxManners
from soundkeep.copies.forgetting import Forgetter
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.migrating import Migrator
from soundkeep.copies.orphans import Comparer
from soundkeep.copies.outages import Outages
from soundkeep.copies.placement import Layout, Rules
from soundkeep.copies.retrying import Retrier
from soundkeep.copies.scrubbing import Manners, Mode, Scrubber
from soundkeep.copies.sidecars import SidecarKeeper
from soundkeep.intake.adopting import Adopter
from soundkeep.intake.errands import Errands
from soundkeep.intake.examine import Examiner
from soundkeep.intake.spool import Spool
from soundkeep.keep import Keep
from soundkeep.model import Chore
from soundkeep.reading.reader import Reader
from soundkeep.rendering import Renderer
from soundkeep.settings import Settings
from soundkeep.speech.plans import Plans
from soundkeep.speech.revoking import Revoker
from soundkeep.speech.table_import import TableImport

if TYPE_CHECKING:
    from soundkeep.outbound import Outbound


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[House]:
    """A house, ready for use; closed at the end.

    Raises `SettingsError`, `CatalogUnavailable`, `WriteFailed`.
    """
    Rules.of(settings)  # what cannot be is refused before anything is made
    law = Law(frozenset(settings.stores), settings.policy.min_copies, settings.policy.proof_age)
    async with AsyncExitStack() as closing:
        catalog = await opened_catalog(settings, closing)
        stores = make_stores(settings, catalog)
        check_redirects(settings, stores)
        for store in stores.values():
            closing.push_async_callback(store.close)
        outages = Outages(catalog, stores, _kinds(settings), settings.worker.probe_seconds)
        holder = claims.holder_name(settings.host_name)
        await closing.enter_async_context(present(catalog, settings.inbox_name, holder))
        await open_inbox(settings, catalog, stores[settings.inbox_name])
        await asyncio.gather(*(outages.admit(name) for name in settings.stores))
        rules = rules_of(settings, stores)  # by now they have told what they take

        reader = Reader(catalog, stores, settings.reading, settings.policy.keep)
        closing.push_async_callback(reader.close)
        jail = Jail(
            seconds=settings.limits.decode_seconds,
            memory_bytes=settings.limits.decode_bytes,
            workers=settings.limits.decoders,
        )
        closing.push_async_callback(jail.close)
        fronts = Fronts.of(settings, rules)
        copier = Copier(catalog, reader, fronts.cache_seconds)
        spooled = Spool(
            settings.inbox_directory,
            file_bytes=settings.limits.file_bytes,
            min_free_bytes=settings.inbox.min_free_bytes,
        )
        keep = Keep(
            settings=settings,
            catalog=catalog,
            stores=stores,
            jail=jail,
            spool=spooled,
            reader=reader,
            copier=copier,
            outages=outages,
            rules=rules,
            fronts=fronts,
            holder=holder,
        )
        closing.push_async_callback(keep.copying)
        manners = InboxManners(settings.inbox.linger_seconds, settings.inbox.sweep_seconds)
        dropper = Dropper(catalog, copier, stores, rules, law, manners)
        keeper = SidecarKeeper(catalog, _cache_seconds(settings))
        adopter = Adopter(
            catalog,
            stores,
            rules,
            spooled,
            Examiner(jail, settings.limits.types),
            settings.limits.file_bytes,
        )
        errands = Errands(catalog, adopter, rules, _sidecar_layouts(settings))
        every = (*kinds(copier, dropper, keeper), *of_errands(errands))
        frame = Frame(catalog, outages, settings.worker.lease_seconds)
        aside = make_aside(settings, keep)
        generation = make_generation(settings, keep, aside, closing)
        await generation.start()
        closing.push_async_callback(generation.close)
        speeches, records = make_speeches(settings, keep, generation)
        closing.push_async_callback(speeches.close)
        yield House(
            keep=keep,
            kinds=every,
            frame=frame,
            outages=outages,
            generation=generation,
            speeches=speeches,
            records=records,
            plans=Plans(
                catalog=catalog,
                generation=generation,
                chooser=speeches.chooser,
                settings=settings.speech,
                holder=keep.holder,
            ),
            tables=TableImport(
                catalog=catalog,
                chooser=speeches.chooser,
                spool=spooled,
                examiner=Examiner(jail, settings.limits.types),
                outbound=partial(_outbound, settings),
                add_track=keep.add,
                rules=rules,
                settings=settings,
            ),
            aside=aside,
            revoker=Revoker(catalog, rules),
            renderer=Renderer(keep, settings.data_directory / ASSEMBLING),
            forgetter=Forgetter(catalog, law, frozenset(stores)),
            migrator=_make_migrator(settings, keep, frame, every),
            comparer=Comparer(catalog, stores, rules),
            adopter=adopter,
            scrubber=_make_scrubber(settings, keep, outages),
            retrier=Retrier(
                catalog,
                stores,
                carry_out=partial(frame.carry_out, _copying(every)),
                holder=keep.holder,
                lease_seconds=settings.worker.lease_seconds,
            ),
        )


def _make_migrator(
    settings: Settings, keep: Keep, frame: Frame, every: tuple[Kind, ...]
) -> Migrator:
    """What moves tracks between stores, with the same frame around each copy as a worker's."""
    return Migrator(
        keep.catalog,
        keep.stores,
        keep.rules,
        carry_out=partial(frame.carry_out, _copying(every)),
        concurrency=partial(concurrency_in, settings),
        holder=keep.holder,
        lease_seconds=settings.worker.lease_seconds,
    )


def _copying(every: tuple[Kind, ...]) -> Kind:
    return next(kind for kind in every if kind.chore is Chore.COPY)


def _make_scrubber(settings: Settings, keep: Keep, outages: Outages) -> Scrubber:
    """What looks at every copy again."""
    modes = {name: Mode(table.scrub) for name, table in settings.stores.items()}
    manners = Manners(modes, settings.scrub.period, settings.scrub.bytes_per_day)
    return Scrubber(
        keep.catalog, keep.copier, keep.stores, outages, manners, partial(concurrency_in, settings)
    )


def _kinds(settings: Settings) -> dict[str, str]:
    return {name: table.kind for name, table in settings.stores.items()}


def _cache_seconds(settings: Settings) -> dict[str, int]:
    """What caches are told of what lies in each public store."""
    return {name: table.cache_seconds for name, table in settings.stores.items() if table.public}


def _sidecar_layouts(settings: Settings) -> dict[str, Layout]:
    """Where the JSON of adopted tracks lies, by store, whether or not we write any there."""
    return {
        name: Layout.parse_sidecars(table.sidecar_key, public=table.public)
        for name, table in settings.stores.items()
    }


def _outbound(settings: Settings) -> Outbound:
    """Made when an address is to be asked: an HTTP client is 10 MB that most do without."""
    from soundkeep.outbound import Outbound  # noqa: PLC0415

    return Outbound(settings.outbound)
