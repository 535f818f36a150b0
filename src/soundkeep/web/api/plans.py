"""Plans over HTTP: what shall be spoken before anybody asks, how far it is, and how to stop it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from soundkeep import shown
from soundkeep.errors import BadInput
from soundkeep.speech.plan_form import plan_json
from soundkeep.speech.plan_request import budget_of, plan_request
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Admin, Context, Working

router = APIRouter(prefix="/api/speech/plans", tags=["speech"])

MAX_BYTES = 32 * 1024 * 1024  # of texts: a long novel has five
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_BUDGET: dict[str, Any] = {
    "type": "number",
    "minimum": 0,
    "description": "in the currency of the engine's price",
}
OF_A_PLAN: dict[str, Any] = {
    "texts": _TEXTS | {"description": "or one `text`"},
    "voices": _TEXTS | {"description": "or one `voice`"},
    "name": _TEXT,
    "budget": _BUDGET,
    "rate": {"type": "number", "description": "segments a minute"},
    "window": _TEXT | {"description": "HH:MM-HH:MM in UTC, or with an offset such as +02:00"},
    "order": {"type": "string", "enum": ["text", "popular"], "default": "text"},
    "standing": {"type": "boolean", "description": "take up new texts of `collection`"},
    "collection": _TEXT,
    "engine": _TEXT,
    "model": _TEXT,
    "language": _TEXT,
    "speed": {"type": "number"},
    "format": _TEXT,
    "settings": {"type": "object"},
    "segment_by": {"type": "string", "enum": ["paragraph", "sentence", "limit"]},
    "owner": _TEXT,
}


@router.post("", openapi_extra=described(required=True, **OF_A_PLAN))
async def make(request: Request, context: Working) -> JSONResponse:
    """Has `texts` spoken in `voices` by and by, in the background. 201 with the plan: nothing was
    spoken or paid for yet. What the engine does not have is refused at once."""
    fields = await json_object(request, MAX_BYTES)
    plan = await context.house.plans.make(plan_request(fields))
    return JSONResponse(plan_json(plan), status_code=201)


@router.get("")
async def list_plans(
    context: Admin,
    owner: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> JSONResponse:
    """Plans and how far each is, the newest first."""
    page = await context.house.plans.page(owner=owner, after=cursor, limit=limit + 1)
    next_cursor = page[limit - 1].id if len(page) > limit else None
    return JSONResponse(shown.items(map(plan_json, page[:limit]), next_cursor))


@router.get("/{plan_id}")
async def read(context: Admin, plan_id: str) -> JSONResponse:
    """One plan, how far it is, and what could not be spoken or not yet."""
    return await _shown(context, plan_id)


@router.delete("/{plan_id}")
async def cancel(context: Admin, plan_id: str) -> JSONResponse:
    """Ends a plan for ever. What was spoken is kept; what is being spoken just now will be."""
    await context.house.plans.cancel(plan_id)
    return await _shown(context, plan_id)


@router.post("/{plan_id}/pause")
async def pause(context: Admin, plan_id: str) -> JSONResponse:
    """Begins nothing more until it is resumed."""
    await context.house.plans.pause(plan_id)
    return await _shown(context, plan_id)


@router.post("/{plan_id}/resume", openapi_extra=described(required=False, budget=_BUDGET))
async def resume(request: Request, context: Working, plan_id: str) -> JSONResponse:
    """Goes on, also with what failed; under another `budget` if one is given."""
    fields = await json_object(request)
    if unknown := sorted(set(fields) - {"budget"}):
        raise BadInput(f"there is no field {unknown[0]!r}; there is budget")
    await context.house.plans.resume(plan_id, budget_of(fields.get("budget")))
    return await _shown(context, plan_id)


async def _shown(context: Context, plan_id: str) -> JSONResponse:
    plans = context.house.plans
    return JSONResponse(plan_json(await plans.find(plan_id), await plans.failing(plan_id)))
