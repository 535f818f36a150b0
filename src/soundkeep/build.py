"""Puts the parts together from settings. Read it as a recipe.

    async with opened(settings) as house:
        await house.keep.add(...)

A house is everything that one process needs: the keep, the chores and what stands around them.
A store that is out at start is no reason not to start: its circuit opens, and it is probed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from soundkeep.audio.jail import Jail
from soundkeep.catalog import claims
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Law
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.listening import listen
from soundkeep.catalog.migrating import migrate
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import errands as errands_table
from soundkeep.catalog.schema import plan_items as plan_items_table
from soundkeep.catalog.schema import renditions as renditions_table
from soundkeep.catalog.schema import sidecars as sidecars_table
from soundkeep.chores import Frame, Kind, kinds, of_errands
from soundkeep.copies.copying import Copier
from soundkeep.copies.dropping import Dropper, InboxManners
from soundkeep.copies.forgetting import Forgetter
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.migrating import Migrator
from soundkeep.copies.orphans import Comparer
from soundkeep.copies.outages import Outages
from soundkeep.copies.passes import replan_all, replan_drained, replan_if_asked
from soundkeep.copies.placement import Layout, Rules
from soundkeep.copies.retrying import Retrier
from soundkeep.copies.scrubbing import Manners, Mode, Scrubber
from soundkeep.copies.sidecars import SidecarKeeper
from soundkeep.errors import Misconfigured, SettingsError, StoreError
from soundkeep.intake import inbox as inboxes
from soundkeep.intake import spool
from soundkeep.intake.adopting import Adopter
from soundkeep.intake.errands import Errands
from soundkeep.intake.examine import Examiner
from soundkeep.intake.spool import Spool
from soundkeep.keep import Keep
from soundkeep.model import Chore
from soundkeep.reading.reader import Reader
from soundkeep.rendering import Renderer
from soundkeep.settings import AUDIO_TYPES, Settings
from soundkeep.speech.aside import Aside
from soundkeep.speech.assembly import Assembler, Desk
from soundkeep.speech.choosing import Chooser
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.engines.kinds import make_engine
from soundkeep.speech.generation import Generation
from soundkeep.speech.judging import judging
from soundkeep.speech.leading import Leader, Where
from soundkeep.speech.plans import Plans
from soundkeep.speech.records import Records
from soundkeep.speech.revoking import Revoker
from soundkeep.speech.sounds import Sounds
from soundkeep.speech.speeches import Speeches
from soundkeep.speech.table_import import TableImport
from soundkeep.speech.timekeeping import Timekeeper
from soundkeep.stores.guarded import ExpectedId, Guarded
from soundkeep.stores.interface import Store
from soundkeep.stores.kinds import check_apart, make_store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.wrappers import Bounded, Limited
from soundkeep.writing import clear_desks

if TYPE_CHECKING:
    from soundkeep.outbound import Outbound

INBOX_KIND = "inbox"
REFUSED_TAKES = "refused"  # a folder of the data directory
ASSEMBLING = "assembling"  # likewise; what lies there is of sounds being made
LEFTOVERS_AFTER = timedelta(days=1)
CLAIMED = (copies_table, sidecars_table, renditions_table, plan_items_table, errands_table)
CALLS_AT_ONCE = 32  # of one store, readers included

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class House:
    """What one process works with."""

    keep: Keep
    kinds: tuple[Kind, ...]
    frame: Frame
    outages: Outages
    generation: Generation
    speeches: Speeches
    records: Records
    plans: Plans
    tables: TableImport
    aside: Aside
    revoker: Revoker
    renderer: Renderer
    forgetter: Forgetter
    migrator: Migrator
    scrubber: Scrubber
    comparer: Comparer
    adopter: Adopter
    retrier: Retrier

    def concurrency(self, store: str) -> int:
        """How many actions of one chore may run in a store at once."""
        return _concurrency(self.keep.settings, store)

    async def tidy(self) -> None:
        """Removes what interrupted uploads, puts and assemblies left behind, and old refused
        takes."""
        keep = self.keep
        desks = keep.settings.data_directory / ASSEMBLING
        await asyncio.to_thread(clear_desks, desks, LEFTOVERS_AFTER)
        await self.aside.sweep()
        await inboxes.remove_abandoned(keep.catalog, keep.stores[keep.settings.inbox_name])
        for name in keep.settings.stores:
            try:
                await keep.stores[name].reap(LEFTOVERS_AFTER)
            except StoreError as error:
                log.info("store not tidied", store=name, error=str(error))

    async def replan(self) -> None:
        """Runs placement over everything if the settings have changed since the last time."""
        await replan_all(self.keep.catalog, self.keep.rules)

    async def replan_moved(self) -> None:
        """Runs placement over what draining a store, or using it again, has changed."""
        await replan_drained(self.keep.catalog, self.keep.rules)
        await replan_if_asked(self.keep.catalog, self.keep.rules)

    async def listen(self, woken: Callable[[], None]) -> None:
        """Calls `woken` whenever another process makes work due (PostgreSQL only)."""
        await listen(self.keep.catalog, woken)


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
        _check_redirects(settings, stores)
        for store in stores.values():
            closing.push_async_callback(store.close)
        outages = Outages(catalog, stores, _kinds(settings), settings.worker.probe_seconds)
        await _open_inbox(settings, catalog, stores[settings.inbox_name])
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
            holder=claims.holder_name(settings.host_name),
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
        aside = _make_aside(settings, keep)
        generation = _make_generation(settings, keep, aside, closing)
        await generation.start()
        closing.push_async_callback(generation.close)
        speeches, records = _make_speeches(settings, keep, generation)
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


def _concurrency(settings: Settings, store: str) -> int:
    table = settings.stores.get(store)
    return (table and table.concurrency) or settings.worker.concurrency


def _sidecar_layouts(settings: Settings) -> dict[str, Layout]:
    """Where the JSON of adopted tracks lies, by store, whether or not we write any there."""
    return {
        name: Layout.parse_sidecars(table.sidecar_key, public=table.public)
        for name, table in settings.stores.items()
    }


def _copying(every: tuple[Kind, ...]) -> Kind:
    return next(kind for kind in every if kind.chore is Chore.COPY)


def _make_migrator(
    settings: Settings, keep: Keep, frame: Frame, every: tuple[Kind, ...]
) -> Migrator:
    """What moves tracks between stores, with the same frame around each copy as a worker's."""
    return Migrator(
        keep.catalog,
        keep.stores,
        keep.rules,
        carry_out=partial(frame.carry_out, _copying(every)),
        concurrency=partial(_concurrency, settings),
        holder=keep.holder,
        lease_seconds=settings.worker.lease_seconds,
    )


def _make_scrubber(settings: Settings, keep: Keep, outages: Outages) -> Scrubber:
    """What looks at every copy again."""
    modes = {name: Mode(table.scrub) for name, table in settings.stores.items()}
    manners = Manners(modes, settings.scrub.period, settings.scrub.bytes_per_day)
    return Scrubber(
        keep.catalog, keep.copier, keep.stores, outages, manners, partial(_concurrency, settings)
    )


def _make_aside(settings: Settings, keep: Keep) -> Aside:
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


def _make_generation(
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


def _make_speeches(
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


def _outbound(settings: Settings) -> Outbound:
    """Made when an address is to be asked: an HTTP client is 10 MB that most do without."""
    from soundkeep.outbound import Outbound  # noqa: PLC0415

    return Outbound(settings.outbound)


async def opened_catalog(settings: Settings, closing: AsyncExitStack) -> Catalog:
    """The catalog, up to date, and free of what dead processes of this host still held."""
    try:
        settings.data_directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data: {settings.data_directory}: {error.strerror}") from None
    catalog = Catalog(settings.catalog_url)
    closing.push_async_callback(catalog.close)
    await catalog.upgrade(migrate)
    freed = 0
    for table in CLAIMED:
        freed += await catalog.write(claims.release_dead_holders, table, settings.host_name)
    if freed:
        log.info("took up the work of a process that died", rows=freed)
    return catalog


def make_stores(settings: Settings, catalog: Catalog) -> Mapping[str, Store]:
    """Every configured store in its wrappers, and this host's inbox. Raises `SettingsError`."""
    check_apart(settings.stores)
    stores: dict[str, Store] = {
        settings.inbox_name: LocalStore(settings.inbox_name, settings.inbox_directory)
    }
    for name in settings.stores:
        guarded = Guarded(bounded_store(settings, name), _expected_id(catalog, name))
        stores[name] = Limited(guarded, CALLS_AT_ONCE)
    return stores


def bounded_store(settings: Settings, name: str) -> Store:
    """A store by itself, whoever's it is, that answers in time or not at all."""
    table = settings.stores[name]
    store = make_store(name, table, data=settings.data_directory, catalog_url=settings.catalog_url)
    return Bounded(store, table.timeout_seconds)


def rules_of(settings: Settings, stores: Mapping[str, Store]) -> Rules:
    """Placement, as far as these stores can follow it. Raises `SettingsError`."""
    return Rules.of(settings).within({name: store.caps for name, store in stores.items()})


def _check_redirects(settings: Settings, stores: Mapping[str, Store]) -> None:
    """Raises `SettingsError` for a store that listeners cannot be sent to."""
    for name, table in settings.stores.items():
        reachable = table.public_url is not None or stores[name].caps.signs
        if table.delivery == "redirect" and not reachable:
            raise SettingsError(
                f"stores.{name}.delivery: redirect needs a public_url, or a store that can sign"
            )


def _expected_id(catalog: Catalog, name: str) -> ExpectedId:
    """What the store's marker must say, by the catalog. Once it is known it never changes."""
    found: list[str] = []

    async def expected() -> str | None:
        if not found:
            state = (await catalog.read(store_rows.known)).get(name)
            found.extend([state.store_id] if state and state.marked else [])
        return found[0] if found else None

    return expected


def _kinds(settings: Settings) -> dict[str, str]:
    return {name: table.kind for name, table in settings.stores.items()}


def _cache_seconds(settings: Settings) -> dict[str, int]:
    """What caches are told of what lies in each public store."""
    return {name: table.cache_seconds for name, table in settings.stores.items() if table.public}


async def _open_inbox(settings: Settings, catalog: Catalog, inbox: Store) -> None:
    """Prepares the inbox and says what it has lost. A new disk in its place is taken as it is:
    what lay on the old one is named, and nothing is gained by refusing uploads."""
    try:
        await asyncio.to_thread(spool.prepare, settings.inbox_directory)
    except OSError as error:
        raise SettingsError(f"inbox.path: {settings.inbox_directory}: {error.strerror}") from None
    known = await catalog.write(store_rows.ensure, inbox.name, INBOX_KIND)
    found = await inbox.read_marker()
    if found not in (None, known.store_id):
        raise Misconfigured(f"{settings.inbox_directory} is the inbox of another catalog or host")
    if found is None:
        await inbox.write_marker(known.store_id)
        await catalog.write(store_rows.note_marked, inbox.name)
    await inboxes.name_losses(catalog, inbox)
