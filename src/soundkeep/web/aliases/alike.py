"""What all aliases have in common: who may call, the shape of errors, and pages elsewhere.

Errors are `{"success": false, "error": "what failed, in words"}` with a true status.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from soundkeep.errors import ShuttingDown, SoundkeepError, Unauthorized, WriteFailed
from soundkeep.web.context import Context, context_of, is_admin
from soundkeep.web.headers import cors_headers
from soundkeep.web.problems import headers_of, status_of

UNEXPECTED = "something went wrong here; the server's log says what"
ALLOWED_HEADERS = "Authorization, Content-Type, Range, If-Range, If-None-Match"

log = structlog.get_logger()


class AliasRoute(APIRoute):
    """A route whose errors have the shape of the aliases, and that pages elsewhere may call."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except SoundkeepError as error:
                response = _refused(error)
            except RequestValidationError as error:
                fault = error.errors()[0]
                response = refusal(400, f"{fault['loc'][-1]}: {fault['msg']}")
            except Exception:
                log.exception("unexpected error", path=request.url.path)
                response = refusal(500, UNEXPECTED)
            return _for_pages_elsewhere(request, response)

        return answer


def alias_router() -> APIRouter:
    """For the routes of one alias."""
    return APIRouter(tags=["aliases"], route_class=AliasRoute)


def calling(alias: str) -> Any:
    """The context, for who has the key, and for everybody within a rate if the settings open this
    alias. Raises `Unauthorized`, `TooManyRequests`, `ShuttingDown`."""

    def admit(request: Request) -> Context:
        context = context_of(request)
        if not is_admin(context, request):
            if alias not in context.keep.settings.aliases.anonymous:
                raise Unauthorized("this needs the admin key: Authorization: Bearer KEY")
            context.anonymous.admit(request.client.host if request.client else "")
        if context.draining:
            raise ShuttingDown
        return context

    return Depends(admit)


def preflight(methods: str) -> Response:
    """What a page elsewhere asks before it sends anything."""
    fields = {
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "86400",
    }
    return Response(status_code=204, headers=fields)


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as these clients know it."""
    document = {"success": False, "error": sentence}
    return JSONResponse(document, status_code=status, headers=headers)


def _refused(error: SoundkeepError) -> JSONResponse:
    """Where nothing can hold the audio, that is 503 whatever is full."""
    status = 503 if isinstance(error, WriteFailed) else status_of(error)
    if status == 500:
        log.error("request failed", code=error.code, error=str(error))
    return refusal(status, str(error), headers_of(status))


def _for_pages_elsewhere(request: Request, response: Response) -> Response:
    context = context_of(request)
    origin = request.headers.get("origin")
    for name, value in cors_headers(origin.encode("latin-1") if origin else None, context.origins):
        response.headers[name.decode()] = value.decode("latin-1")
    return response
