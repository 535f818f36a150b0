"""The ledger over HTTP: copies by state, retries, stores, and how things stand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from soundkeep import shown
from soundkeep.catalog import copies
from soundkeep.errors import BadCursor, BadInput, NoSuchStore
from soundkeep.model import CopyState
from soundkeep.web.api.bodies import described, json_object
from soundkeep.web.context import Admin

router = APIRouter(prefix="/api", tags=["ledger"])


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
    for store in (await context.keep.status()).stores_json():
        if store["name"] == name:
            return JSONResponse(store)
    raise NoSuchStore(f"there is no store {name}")


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
