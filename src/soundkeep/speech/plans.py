"""Plans: what is spoken before anybody asks for it, within a budget, at a pace, in certain hours.

    plan = await plans.make(plan_request({...}))

A plan is rows of the ledger, one for each segment (`catalog/plans.py`), so it survives whoever
works on it. Each segment is had as by any other caller, from the cache or the engine
(`generation.py`): what somebody asked for meanwhile costs the plan nothing, and who asks for a
segment that the plan has in hand joins it.

In the background means: of an engine's places one stays free of plans, unless it has but one. What
may pass is tried again on the curve, and the plan rests meanwhile, so an engine that is out is not
asked once for each segment. What never will be is noted, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal

import structlog

from soundkeep.catalog import claims, hits, plan_items, plans
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.plan_items import Taken
from soundkeep.catalog.plans import Failing, Ordering, Plan
from soundkeep.catalog.schema import plan_items as items_table
from soundkeep.errors import (
    BadInput,
    EngineRefused,
    EngineThrottled,
    EngineUnavailable,
    LeaseLost,
    NoSuchPlan,
    OverBudget,
    PlanIsOver,
    SoundkeepError,
)
from soundkeep.settings.speech import SpeechSettings
from soundkeep.speech.asked import Asked
from soundkeep.speech.choosing import Chooser, Chosen
from soundkeep.speech.generation import Generation
from soundkeep.speech.keys import asked_of
from soundkeep.speech.plan_form import budget_in, first_written, items_of
from soundkeep.speech.plan_request import PlanRequest, Window
from soundkeep.speech.request import SpeechRequest

POLL_SECONDS = 2.0
GATHER_SECONDS = 0.05  # after a wake-up: what comes in a burst is looked for once
SPEECHES_AT_ONCE = 20  # that a standing plan takes up in one transaction
RENEWALS_IN_A_LEASE = 3

log = structlog.get_logger()


class Plans:
    """Everything that is to be spoken by and by."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        generation: Generation,
        chooser: Chooser,
        settings: SpeechSettings,
        holder: str,
    ) -> None:
        self._catalog = catalog
        self._generation = generation
        self._chooser = chooser
        self._settings = settings
        self._holder = holder
        self._in_hand: defaultdict[str, set[asyncio.Task[None]]] = defaultdict(set)
        self._woken = asyncio.Event()
        self._turn = 0

    # --- asking -----------------------------------------------------------------------------

    async def make(self, request: PlanRequest) -> Plan:
        """A plan that runs from now on. Nothing is spoken yet, and nothing was paid.

        Raises what `Chooser.choose` names, `EngineRefused` for a voice that the engine does not
        have, and `BadSpeech` for a budget where no price is known.
        """
        form = await self._chooser.choose(replace(request.form, voice=request.voices[0]))
        await self._check(form, request.voices)
        voices = request.voices
        if request.order is Ordering.POPULAR:
            voices = await self._popular_first(form.engine.name, request.form.owner, voices)
        asked = [one for text in request.texts for one in await self._asked(text, voices[0])]
        items = await asyncio.to_thread(items_of, form.engine, asked, voices)
        plan = first_written(request, form, voices)
        await self._catalog.write(plans.make, plan, items)
        return await self.find(plan.id)

    async def find(self, plan_id: str) -> Plan:
        """A plan and how far it is. Raises `NoSuchPlan`."""
        plan = await self._catalog.read(plans.find, plan_id)
        if plan is None:
            raise NoSuchPlan(f"there is no plan {plan_id}")
        return plan

    async def page(
        self, *, owner: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Plan]:
        """Plans and how far each is, the newest first, from the one behind `after` on."""
        return await self._catalog.read(plans.page, owner=owner, after=after, limit=limit)

    async def failing(self, plan_id: str, limit: int = 20) -> list[Failing]:
        """Segments that could not be spoken, or not yet, and why."""
        return await self._catalog.read(plans.failing, plan_id, limit)

    async def pause(self, plan_id: str) -> Plan:
        """Begins nothing more until it is resumed. Raises `NoSuchPlan`, `PlanIsOver`."""
        return self._turned(
            await self._catalog.write(plans.pause, plan_id), await self.find(plan_id)
        )

    async def resume(self, plan_id: str, budget: Decimal | None = None) -> Plan:
        """Goes on, also with what failed, under another budget if one is given. Raises as
        `pause`."""
        plan = await self.find(plan_id)
        more = None if budget is None else budget_in(budget, plan.spent.currency, plan.engine)
        turned = await self._catalog.write(plans.resume, plan_id, more)
        return self._turned(turned, await self.find(plan_id))

    async def cancel(self, plan_id: str) -> Plan:
        """Ends it for ever; what was spoken is kept. Raises `NoSuchPlan`."""
        await self._catalog.write(plans.cancel, plan_id)
        return await self.find(plan_id)

    def _turned(self, turned: bool, plan: Plan) -> Plan:
        if not turned:
            raise PlanIsOver(f"the plan {plan.id} is {plan.state.value}")
        return plan

    async def _check(self, form: Chosen, voices: Sequence[str]) -> None:
        """What the engine does not have is an error before there is a plan."""
        for voice in voices:
            await form.engine.check(replace(form.asked[0], voice=voice))

    async def _asked(self, text: SpeechRequest, voice: str) -> Sequence[Asked]:
        return (await self._chooser.choose(replace(text, voice=voice))).asked

    async def _popular_first(
        self, engine: str, owner: str, voices: Sequence[str]
    ) -> tuple[str, ...]:
        figures = await self._catalog.read(hits.figures, owner)
        heard = {
            each.voice: each.hits + each.misses for each in figures.voices if each.engine == engine
        }
        return tuple(sorted(voices, key=lambda voice: -heard.get(voice, 0)))

    # --- working them off -------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether this process has anything of a plan in hand."""
        return any(self._in_hand.values())

    async def work(self) -> None:
        """Has plans spoken until it is cancelled. Any number of processes may."""
        self._catalog.on_commit.append(self._woken.set)
        try:
            while True:
                self._woken.clear()
                wait_seconds = await self._begin_due()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_seconds, POLL_SECONDS)):
                        await self._woken.wait()
                        await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._catalog.on_commit.remove(self._woken.set)
            await self._let_go()

    async def _let_go(self) -> None:
        """What is being spoken goes on, and is kept; the items are given back."""
        tasks = [task for tasks in self._in_hand.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_due(self) -> float:
        """Begins what may be begun; answers for how long nothing more may."""
        try:
            clock, running = await self._catalog.read(plans.running)
            self._turn += 1
            first = self._turn % max(1, len(running))  # each has its turn to be the first
        except SoundkeepError as error:
            log.warning("plans rest", error=str(error))
            return POLL_SECONDS
        waits = [await self._try_begin(plan, clock) for plan in running[first:] + running[:first]]
        return min(waits, default=POLL_SECONDS)

    async def _try_begin(self, plan: Plan, clock: float) -> float:
        """One plan that cannot go on keeps no other from it."""
        try:
            return await self._begin(plan, clock)
        except SoundkeepError as error:
            log.warning("a plan rests", plan=plan.id, error=str(error))
        except Exception:  # a fault of ours must be seen, and must not end the work
            log.exception("a plan rests", plan=plan.id)
        return POLL_SECONDS

    async def _begin(self, plan: Plan, clock: float) -> float:
        if plan.engine not in self._generation.engines:
            await self._note_no_engine(plan)
            return POLL_SECONDS
        if plan.standing:
            await self._take_up(plan)
        closed_seconds = Window.parse(plan.window).opens_in(clock) if plan.window else 0.0
        if closed_seconds:
            return closed_seconds
        while self._has_place(plan.engine):
            taken = await self._catalog.write(
                plan_items.take,
                plan.id,
                holder=self._holder,
                lease_seconds=self._settings.lease_seconds,
            )
            if not isinstance(taken, Taken):
                return POLL_SECONDS if taken is None else taken
            self._start(plan.engine, taken)
        return POLL_SECONDS

    async def _note_no_engine(self, plan: Plan) -> None:
        why = f"there is no engine {plan.engine!r} in the settings"
        if plan.error != why:
            await self._catalog.write(plans.note, plan.id, why)

    def _has_place(self, engine: str) -> bool:
        table = self._settings.engines.get(engine)
        places = max(1, table.concurrency - 1) if table is not None else 1
        return len(self._in_hand[engine]) < places

    def _start(self, engine: str, taken: Taken) -> None:
        task = asyncio.create_task(self._have_spoken(taken))
        self._in_hand[engine].add(task)
        task.add_done_callback(lambda done: self._ended(engine, done))

    def _ended(self, engine: str, task: asyncio.Task[None]) -> None:
        self._in_hand[engine].discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("a plan's segment was not written down", error=str(error))

    async def _have_spoken(self, taken: Taken) -> None:
        """Whoever has lost the lease writes nothing: somebody else has it by now."""
        with suppress(LeaseLost):
            try:
                async with self._renewed(taken):
                    await self._generation.segment(asked_of(taken.request), taken.owner)
            except asyncio.CancelledError:
                await self._catalog.write(plan_items.give_back, taken)
                raise
            except OverBudget as error:
                await self._catalog.write(plan_items.stop, taken, str(error))
            except (EngineRefused, BadInput) as error:
                await self._catalog.write(plan_items.failed, taken, _written(error))
            except SoundkeepError as error:
                await self._rest(taken, error)
            except Exception as error:  # a fault of ours: the others must not be stuck with it
                log.exception("a plan's segment failed", segment=taken.segment_key)
                text = f"internal: {type(error).__name__}: {error}"
                await self._catalog.write(plan_items.failed, taken, text)
            else:
                await self._catalog.write(plan_items.done, taken)

    async def _rest(self, taken: Taken, error: SoundkeepError) -> None:
        log.info("a plan rests", plan=taken.plan_id, code=error.code, why=str(error))
        await self._catalog.write(
            plan_items.rest,
            taken,
            _written(error),
            retry_after=getattr(error, "retry_after", None),
            of_engine=isinstance(error, EngineThrottled | EngineUnavailable),
        )

    @asynccontextmanager
    async def _renewed(self, taken: Taken) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew(taken))
        try:
            yield
        finally:
            renewing.cancel()

    async def _renew(self, taken: Taken) -> None:
        """Until it is cancelled, or the lease is lost: then the outcome finds out."""
        while True:
            await asyncio.sleep(self._settings.lease_seconds / RENEWALS_IN_A_LEASE)
            try:
                await self._catalog.write(
                    claims.renew, items_table, taken.lease, self._settings.lease_seconds
                )
            except LeaseLost:
                return
            except SoundkeepError as error:
                log.warning("lease not renewed", error=str(error))

    # --- standing plans ---------------------------------------------------------------------

    async def _take_up(self, plan: Plan) -> None:
        """Texts that were asked for in the plan's collection since it was looked at last."""
        heard = await self._catalog.read(plans.new_texts, plan, SPEECHES_AT_ONCE)
        if not heard:
            return
        voices: Sequence[str] = plan.voices
        if plan.order is Ordering.POPULAR:
            voices = await self._popular_first(plan.engine, plan.owner, voices)
        form = asked_of(plan.request)
        texts = dict.fromkeys(text for each in heard for text in each.texts)
        asked = [replace(form, text=text) for text in texts]
        engine = self._generation.engines[plan.engine]
        items = await asyncio.to_thread(items_of, engine, asked, voices)
        keys = [each.speech_key for each in heard]
        await self._catalog.write(plans.take_up, plan.id, voices, items, keys)


def _written(error: SoundkeepError) -> str:
    return f"{error.code}: {error}".replace("\x00", "")
