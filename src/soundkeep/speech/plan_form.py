"""A plan in its forms: as it is first written down, its items, and as a person sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from soundkeep.catalog.plans import Failing, NewItem, Plan, PlanState
from soundkeep.errors import BadSpeech
from soundkeep.model import Money
from soundkeep.names import new_track_id
from soundkeep.shown import when
from soundkeep.speech.asked import Asked
from soundkeep.speech.choosing import Chosen
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.keys import canonical, segment_key
from soundkeep.speech.plan_request import PlanRequest


def plan_json(plan: Plan, failing: Iterable[Failing] = ()) -> dict[str, Any]:
    """A plan as it looks over HTTP and on the command line."""
    far, budget = plan.progress, plan.budget
    return {
        "id": plan.id,
        "owner": plan.owner,
        "name": plan.name,
        "state": plan.state.value,
        "error": plan.error,
        "engine": plan.engine,
        "model": plan.model,
        "voices": list(plan.voices),
        "format": plan.format,
        "collection": plan.collection,
        "standing": plan.standing,
        "order": plan.order.value,
        "rate": plan.rate_per_minute,
        "window": plan.window,
        "created_at": when(plan.created_at),
        "segments": far.segments,
        "segments_done": far.done,
        "segments_failed": far.failed,
        "characters": far.characters,
        "characters_done": far.characters_done,
        "budget": None if budget is None else float(budget.amount),
        "spent": float(plan.spent.amount),
        "estimate_left": float(far.left.amount),
        "currency": plan.spent.currency or None,
        "failing": [
            {"segment": each.segment_key, "state": each.state.value, "error": each.error}
            for each in failing
        ],
    }


def first_written(request: PlanRequest, form: Chosen, voices: Sequence[str]) -> Plan:
    """The plan as it is written down first."""
    currency = form.engine.estimate(form.asked[0]).currency or ""
    budget = request.budget
    return Plan(
        id=new_track_id(),
        owner=request.form.owner,
        name=request.name,
        engine=form.engine.name,
        model=form.model,
        request=canonical(replace(form.asked[0], text="", voice="")).decode(),
        format=form.output.name,
        voices=tuple(voices),
        collection=request.form.collection,
        budget=None if budget is None else budget_in(budget, currency, form.engine.name),
        spent=Money(0, currency),
        rate_per_minute=request.rate_per_minute,
        window=request.window.text if request.window else None,
        order=request.order,
        standing=request.standing,
        state=PlanState.RUNNING,
        error=None,
        created_at=0.0,  # the database's clock decides
    )


def budget_in(budget: Decimal, currency: str, engine: str) -> Money:
    if not currency:
        raise BadSpeech(
            f"a budget needs to know what {engine} costs: set speech.engines.{engine}.price"
        )
    return Money.of(budget, currency)


def items_of(engine: Engine, texts: Sequence[Asked], voices: Iterable[str]) -> list[NewItem]:
    """Each text in each voice. What an engine is asked is what it is paid for: `estimate` knows."""
    return [
        _item(engine, replace(asked, voice=voice), text_number, voice_number)
        for voice_number, voice in enumerate(voices)
        for text_number, asked in enumerate(texts)
    ]


def _item(engine: Engine, asked: Asked, text_number: int, voice_number: int) -> NewItem:
    bill = engine.estimate(asked)
    return NewItem(
        segment_key=segment_key(asked),
        request=canonical(asked).decode(),
        text_number=text_number,
        voice_number=voice_number,
        characters=len(asked.text),
        estimate=Money.of(bill.cost, bill.currency),
    )
