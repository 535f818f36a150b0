"""The official client, for what is rare: lists, deletes, and uploads in parts.

Its models of S3 take half a second to import and read, so that is done at first use and in a
thread, and nobody's stream waits for it. It tries nothing twice: the ledger does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from soundkeep.stores.s3_errors import refuse_pages, translated
from soundkeep.stores.s3_requests import Phases
from soundkeep.stores.s3_signing import Credentials, Style

CONNECTIONS = 64  # of the client; who calls at once is limited around the store


@dataclass(frozen=True, slots=True)
class Account:
    """Whom to ask, and as whom."""

    endpoint: str
    region: str
    style: Style
    credentials: Credentials
    phases: Phases


class Client:
    """aiobotocore's client, made when it is first asked for."""

    def __init__(self, name: str, account: Account) -> None:
        self._name = name
        self._account = account
        self._made: Any = None
        self._opened = AsyncExitStack()
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def asked(self, what: str) -> AsyncIterator[Any]:
        """The client; what it raises meanwhile becomes an error of ours that begins with `what`."""
        with translated(f"{self._name}: {what}"):
            async with self._making:
                if self._made is None:
                    made = await self._opened.enter_async_context(await self._make())
                    made.meta.events.register("before-parse.s3", refuse_pages)
                    self._made = made
            yield self._made

    async def close(self) -> None:
        self._made = None
        await self._opened.aclose()

    async def _make(self) -> Any:
        account, credentials = self._account, self._account.credentials
        session, config = await asyncio.to_thread(_prepare, account)
        return session.create_client(
            "s3",
            region_name=account.region,
            endpoint_url=account.endpoint,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.session_token,
            config=config,
        )


def _prepare(account: Account) -> tuple[Any, Any]:
    """A session and how its client is to behave. The slow part."""
    from aiobotocore.config import AioConfig  # noqa: PLC0415 - 300 ms that few commands need
    from aiobotocore.session import AioSession  # noqa: PLC0415

    config = AioConfig(
        warm_up_loader_caches=True,
        retries={"total_max_attempts": 1},
        connect_timeout=account.phases.connect,
        read_timeout=account.phases.written,
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": account.style},
    )
    return AioSession(), config
