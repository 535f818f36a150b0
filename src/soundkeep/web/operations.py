"""What an operator's tools ask: is it alive, can it serve, and its figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from soundkeep.catalog.database import Tx
from soundkeep.errors import ShuttingDown
from soundkeep.keep.standing import Status
from soundkeep.web.context import Admin, Anyone, Context

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """The process lives."""
    return JSONResponse({"alive": True})


@router.get("/readyz")
async def readyz(context: Anyone) -> JSONResponse:
    """The catalog answers and the server is not stopping; else 503."""
    if context.draining:
        raise ShuttingDown
    await context.keep.catalog.read(Tx.now)
    return JSONResponse({"ready": True})


@router.get("/metrics")
async def metrics(context: Admin) -> Response:
    """Figures in Prometheus's text format, by the last count of the ledger."""
    registry = _registry(await context.keep.status(failing=0), context)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _registry(status: Status, context: Context) -> CollectorRegistry:
    registry = CollectorRegistry()
    coverage = status.coverage

    def gauge(name: str, what: str, value: float) -> None:
        Gauge(f"soundkeep_{name}", what, registry=registry).set(value)

    gauge("tracks", "Tracks", coverage.tracks)
    gauge("blobs", "Blobs", coverage.blobs)
    gauge("blob_bytes", "Bytes of all blobs", coverage.bytes)
    gauge("temporary_tracks", "Tracks that are in an inbox only", coverage.temporary)
    gauge("unplaced_tracks", "Tracks that belong in no store", coverage.unplaced)
    gauge("missing_copies", "Placed copies that are not present", coverage.missing)
    gauge("unwritten_sidecars", "Placed sidecars not as their tracks are", coverage.unwritten)
    gauge("refused_errands", "Errands that cannot be done", status.refused_errands)
    gauge("counted_at_seconds", "When the ledger was counted", coverage.counted_at)
    gauge("streams", "Sounds being sent now", context.delivery.running)
    gauge("sent_bytes", "Bytes of sound sent since the start", context.delivery.sent_bytes)
    _store_gauges(status, registry)
    return registry


def _store_gauges(status: Status, registry: CollectorRegistry) -> None:
    copies = Gauge("soundkeep_copies", "Copies", ["store", "state"], registry=registry)
    sidecars = Gauge("soundkeep_sidecars", "Sidecars", ["store", "state"], registry=registry)
    out = Gauge("soundkeep_store_out", "Whether the store is out", ["store"], registry=registry)
    for store in status.stores_json():
        out.labels(store["name"]).set(store["state"] == "out")
        for state, number in store["copies"].items():
            copies.labels(store["name"], state).set(number)
        for state, number in store["sidecars"].items():
            sidecars.labels(store["name"], state).set(number)
