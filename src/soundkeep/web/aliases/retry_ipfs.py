"""`/api/admin/retry-ipfs`: tries what IPFS is still to have, now. Cron services send GET."""

from __future__ import annotations

from fastapi.responses import JSONResponse, Response

from soundkeep.copies.retrying import Retried
from soundkeep.web.aliases.alike import alias_router, calling, preflight
from soundkeep.web.context import Context

PATH = "/api/admin/retry-ipfs"
NAME = "retry-ipfs"

router = alias_router()


@router.post(PATH)
@router.get(PATH)
async def retry(context: Context = calling(NAME)) -> JSONResponse:
    """Tries each once and tells how it ended; what fails is tried again by itself."""
    stores = context.keep.settings.stores
    names = [name for name, table in stores.items() if table.kind == "ipfs"]
    results = [_item(each) for each in await context.house.retrier.run(names)]
    succeeded = sum(item["success"] is True for item in results)
    document = {
        "success": True,
        "processed": len(results),
        "successCount": succeeded,
        "failureCount": len(results) - succeeded,
        "results": results,
    }
    return JSONResponse(document)


@router.options(PATH, include_in_schema=False)
async def options() -> Response:
    """For pages elsewhere."""
    return preflight("GET, POST, OPTIONS")


def _item(each: Retried) -> dict[str, object]:
    if each.locator is not None:
        return {"id": each.name, "success": True, "ipfsHash": each.locator}
    return {"id": each.name, "success": False, "error": each.error}
