"""The ledger over HTTP: copies by state, retries, stores, and how things stand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from soundkeep import shown
from soundkeep.catalog import copies
from soundkeep.errors import BadCursor, BadInput
from soundkeep.model import CopyState
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Admin, Working

router = APIRouter(prefix="/api", tags=["ledger"])

DRAINING = {"type": "boolean", "description": "whether it is to be emptied"}


@router.get("/copies")
async def list_copies(
    context: Admin,
    state: CopyState | None = None,
    store: str | None = None,
    failed: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> JSONResponse:
    """Rows of the ledger, in the order they were recorded."""
    page = await context.keep.catalog.read(
        copies.page,
        state=state,
        store=store,
        failed=failed,
        after=_after(cursor),
        limit=limit + 1,
    )
    more = len(page) > limit
    next_cursor = str(page[limit - 1].id) if more else None
    return JSONResponse(shown.items(map(shown.copy_json, page[:limit]), next_cursor))


@router.post("/copies/retry", openapi_extra=described(required=False))
async def retry(request: Request, context: Admin) -> JSONResponse:
    """Makes waiting rows due now: of one `track_id`, of one `store`, or all."""
    which = await json_object(request)
    if unknown := sorted(set(which) - {"track_id", "store"}):
        raise BadInput(f"there is no field {unknown[0]!r}; there are track_id and store")
    if not all(isinstance(value, str) for value in which.values()):
        raise BadInput("track_id and store are texts")
    return JSONResponse({"due": await context.keep.retry(**which)})


@router.get("/stores")
async def list_stores(context: Admin) -> JSONResponse:
    """Every configured store with its health."""
    return JSONResponse(shown.items((await context.keep.status()).stores_json(), None))


@router.get("/stores/{name}")
async def read_store(context: Admin, name: str) -> JSONResponse:
    """One store's health."""
    return JSONResponse(await context.keep.store(name))


@router.patch("/stores/{name}", openapi_extra=described(required=True, draining=DRAINING))
async def change_store(request: Request, context: Working, name: str) -> JSONResponse:
    """Drains a store (`"draining": true`: nothing more is placed there, and what lies there leaves
    by the copy law), or takes it into use again."""
    change = await json_object(request)
    wanted = change.get("draining")
    if set(change) != {"draining"} or not isinstance(wanted, bool):
        raise BadInput("what can be changed of a store is draining: true or false")
    await (context.keep.drain(name) if wanted else context.keep.resume(name))
    return JSONResponse(await context.keep.store(name))


@router.get("/status")
async def status(context: Admin) -> JSONResponse:
    """How things stand, by the last count, and when that was."""
    return JSONResponse((await context.keep.status()).as_json())


@router.get("/check")
async def check(context: Admin) -> JSONResponse:
    """Counts exactly whether all copies are where they should be."""
    return JSONResponse((await context.keep.check()).as_json())


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise BadCursor
    return int(cursor)
