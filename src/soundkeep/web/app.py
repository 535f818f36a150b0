"""Puts the server together: the hot path outermost, the API and the pages behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from soundkeep import __version__
from soundkeep.access.keys import KeyRing
from soundkeep.access.rates import Rate
from soundkeep.build.house import House
from soundkeep.errors import SoundkeepError
from soundkeep.reading.lookup import Lookup
from soundkeep.web import aliases, operations
from soundkeep.web.api import (
    hooks,
    ledger,
    plans,
    refused,
    renditions,
    sources,
    speech,
    sync,
    tracks,
)
from soundkeep.web.context import Context
from soundkeep.web.delivery import PREFIX, Delivery
from soundkeep.web.exchange import Message, Receive, Send
from soundkeep.web.gateways.elevenlabs import ElevenLabsGateway
from soundkeep.web.gateways.openai import OpenAIGateway
from soundkeep.web.openapi import AUDIO, SECURITY
from soundkeep.web.pages import pages
from soundkeep.web.problems import headers_of, problem, status_of

App = Callable[[Message, Receive, Send], Awaitable[None]]

log = structlog.get_logger()


class Server:
    """The outermost ASGI application: sound and gateways lie before the API."""

    def __init__(self, house: House, admin_key: str) -> None:
        keep = house.keep
        keys = KeyRing(admin_key)
        lookup = Lookup(keep.catalog, sees_outages=bool(keep.fronts.redirecting))
        self.delivery = Delivery(lookup, keep.reader, keep.stores, keys, keep.settings)
        anonymous = Rate(keep.settings.aliases.anonymous_per_minute)
        self.context = Context(house, keys, lookup, self.delivery, anonymous)
        self.api = make_api(self.context)
        self.gateways = (OpenAIGateway(self.context), ElevenLabsGateway(self.context))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._part(scope)(scope, receive, send)

    def _part(self, scope: Message) -> App:
        path = scope["path"] if scope["type"] == "http" else ""
        if path.startswith(PREFIX):
            return self.delivery
        for gateway in self.gateways:
            if path.startswith(gateway.prefix):
                return gateway
        return self.api


def make_api(context: Context) -> FastAPI:
    """Everything but the sound."""
    api = FastAPI(title="Soundkeep", version=__version__, docs_url=None, redoc_url=None)
    api.state.context = context
    for router in (
        tracks.router,
        sync.router,
        sources.router,
        plans.router,
        refused.router,
        speech.router,
        speech.of_tracks,
        renditions.router,
        ledger.router,
        hooks.router,
        operations.router,
        pages.router,
        *aliases.routers(context.keep.settings.aliases.enabled),
    ):
        api.include_router(router)
    api.add_exception_handler(SoundkeepError, _refuse)
    api.add_exception_handler(RequestValidationError, _refuse_invalid)
    api.add_exception_handler(HTTPException, _refuse_http)
    api.add_exception_handler(Exception, _refuse_unexpected)
    api.openapi = lambda: _described(api)  # type: ignore[method-assign] # FastAPI's own way
    return api


def _document(status: int, code: str, detail: str) -> Response:
    return Response(
        problem(status, code, detail),
        status_code=status,
        media_type="application/problem+json",
        headers=headers_of(status),
    )


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SoundkeepError)
    status = status_of(error)
    if status == 500:
        log.error("request failed", code=error.code, error=str(error))
    return _document(status, error.code, str(error))


async def _refuse_invalid(_request: Request, error: Exception) -> Response:
    """What a parameter should have been, without what was sent."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return _document(400, "bad_input", f"{where}: {fault['msg']}")


async def _refuse_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    return _document(error.status_code, codes.get(error.status_code, "bad_input"), error.detail)


async def _refuse_unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", path=request.url.path, exc_info=error)
    return _document(500, "internal", "something went wrong here; the server's log says what")


def _described(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        schema = get_openapi(title=api.title, version=api.version, routes=api.routes)
        schema["paths"] = {"/audio/{track_id}": AUDIO, **schema["paths"]}
        schema.setdefault("components", {})["securitySchemes"] = SECURITY
        schema["security"] = [{"key": []}]
        api.openapi_schema = schema
    return api.openapi_schema
