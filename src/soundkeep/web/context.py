"""What every route of the API works with, made once and found on the app's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from soundkeep.access.keys import KeyRing
from soundkeep.access.rates import Rate
from soundkeep.build.house import House
from soundkeep.errors import ShuttingDown, Unauthorized
from soundkeep.keep import Keep
from soundkeep.reading.lookup import Lookup
from soundkeep.web.delivery import Delivery


@dataclass(slots=True)
class Context:
    """The parts of one server."""

    house: House
    keys: KeyRing
    lookup: Lookup
    delivery: Delivery
    anonymous: Rate
    draining: bool = False

    @property
    def keep(self) -> Keep:
        return self.house.keep

    @property
    def origins(self) -> frozenset[str]:
        """Whose pages may read sounds, and where they play."""
        return frozenset(self.keep.settings.http.cors_origins)

    def base_url(self, request: Request) -> str:
        """What absolute URLs begin with: the setting, else what the client asked for."""
        configured = self.keep.settings.http.base_url
        return (configured or str(request.base_url)).rstrip("/")


def context_of(request: Request) -> Context:
    """The server's context."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def is_admin(context: Context, request: Request) -> bool:
    """Whether the request carries the admin key."""
    authorization = request.headers.get("authorization")
    return context.keys.allows(authorization.encode("latin-1") if authorization else None)


def admin_only(request: Request) -> Context:
    """Lets only the admin key through. Raises `Unauthorized`."""
    context = context_of(request)
    if not is_admin(context, request):
        raise Unauthorized("this needs the admin key: Authorization: Bearer KEY")
    return context


def taking_work(request: Request) -> Context:
    """As `admin_only`, and refuses what would begin while the server stops."""
    context = admin_only(request)
    if context.draining:
        raise ShuttingDown
    return context


Anyone = Annotated[Context, Depends(context_of)]
Admin = Annotated[Context, Depends(admin_only)]
Working = Annotated[Context, Depends(taking_work)]
