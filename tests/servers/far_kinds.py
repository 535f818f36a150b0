"""Every kind of store that is asked over HTTP, on the most real server there is, behind a proxy.

    with far_kind("turso", request, folder) as far:
        far.proxy.suffers(silence())
        store = far.store(timeout_seconds=0.5)

`KINDS` names them. What lies in a store stays there until its server ends: use keys of your own.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from servers.azurite import ACCOUNT, ACCOUNT_KEY, running_azurite
from servers.fake_pinata import API_KEY, SECRET_KEY, TOKEN, fake_pinata
from servers.fake_supabase import SERVICE_KEY, fake_supabase
from servers.fault_proxy import FaultProxy, fault_proxy
from servers.google import google_door
from servers.ipfs import SERVICE_TOKEN, running_node, running_pinning_service
from servers.seaweed import CREDENTIALS, running_seaweed
from soundkeep.settings.stores import StoreSettings
from soundkeep.stores.interface import MARKER_KEY, Store
from soundkeep.stores.kinds import make_store

SECRETS = {
    "access": CREDENTIALS.access_key,
    "secret": CREDENTIALS.secret_key,
    "supabase": SERVICE_KEY,
    "azure": ACCOUNT_KEY,
    "jwt": TOKEN,
    "pinata key": API_KEY,
    "pinata secret": SECRET_KEY,
    "pinning": SERVICE_TOKEN,
    "wrong": "d3Jvbmc=",
}
Table = dict[str, Any]
Files = Callable[[str], str]  # where a secret's text is, by its name


@dataclass(frozen=True)
class Server:
    """Where a kind's server listens, and its settings for whoever reaches it at an address."""

    port: int
    table: Callable[[str], Table]
    strangers: Table | None = None  # what makes the credentials wrong
    elsewhere: Table | None = None  # what names a place that does not exist
    is_only_one: bool = True  # without it nothing can be read
    unmark: Callable[[], object] | None = None  # where the marker is no object


@dataclass(frozen=True)
class Far:
    kind: str
    proxy: FaultProxy
    server: Server

    @property
    def table(self) -> Table:
        """The settings of the store behind the proxy."""
        return self.server.table(self.proxy.url)

    @property
    def is_by_obstore(self) -> bool:
        """Which shows no headers of an answer, and closes its connections when it is collected."""
        return str(self.table["kind"]) == "cloud"

    @property
    def wrong_tables(self) -> list[Table]:
        """Settings of strangers, and of a place that does not exist."""
        return [wrong for wrong in (self.server.strangers, self.server.elsewhere) if wrong]

    def store(self, **settings: Any) -> Store:
        return _store(self.table | settings)

    def direct(self) -> Store:
        """The same store, past the proxy."""
        return _store(self.server.table(f"http://127.0.0.1:{self.server.port}"))

    async def unmark(self) -> None:
        """Removes whatever marker there is, so that another catalog may take the store."""
        store = self.direct()
        if self.server.unmark is not None:
            await store.write_marker("any")  # which makes the place, too
            self.server.unmark()
        elif store.caps.marks:
            await store.delete(MARKER_KEY)
        await store.close()


@contextlib.contextmanager
def far_kind(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Far]:
    """One of `KINDS`, on servers that may be those of the whole run."""

    def secret(name: str) -> str:
        (folder / name).write_text(SECRETS[name])
        return f"file:{folder / name}"

    with KINDS[kind](request, secret) as server, fault_proxy(server.port) as proxy:
        yield Far(kind, proxy, server)


def _store(table: Table) -> Store:
    parsed: StoreSettings = TypeAdapter(StoreSettings).validate_python(table)
    return make_store("far", parsed, data=Path("/nowhere"), catalog_url="sqlite:///c.db")


@contextlib.contextmanager
def _s3(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    seaweed = request.getfixturevalue("seaweed")
    own = {"bucket": seaweed.bucket.name, "prefix": f"far-{uuid.uuid4().hex}"}
    keys = {"access_key": secret("access"), "secret_key": secret("secret")}
    yield Server(
        seaweed.port,
        lambda url: {"kind": "s3", "endpoint": url, **own, **keys},
        strangers={"secret_key": secret("wrong")},
        elsewhere={"bucket": "nothing-here"},
    )


@contextlib.contextmanager
def _supabase(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    key = secret("supabase")
    with fake_supabase() as server:
        bucket = server.new_bucket("audio")
        yield Server(
            server.port,
            lambda url: {"kind": "supabase", "url": url, "bucket": bucket, "service_key": key},
            strangers={"service_key": secret("wrong")},
            elsewhere={"bucket": "nothing-here"},
        )


@contextlib.contextmanager
def _turso(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    sqld = request.getfixturevalue("sqld")
    database = sqld.new_database()
    path = database.partition(f":{sqld.port}")[2]
    yield Server(
        sqld.port,
        lambda url: {"kind": "turso", "url": f"{url}{path}"},
        elsewhere={"url": f"http://127.0.0.1:{sqld.port}/dev/nothing-here"},
        unmark=lambda: sqld.run(database, "DELETE FROM marker"),
    )


@contextlib.contextmanager
def _azure(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    with running_azurite() as azurite:
        at = {"service": "azure", "account": ACCOUNT, "account_key": secret("azure")}
        container = azurite.new_container()

        def table(url: str) -> Table:
            place = {**at, "endpoint": f"{url}/{ACCOUNT}"}
            return {"kind": "cloud", "bucket": container, "at": place}

        wrong = {**at, "account_key": secret("wrong"), "endpoint": azurite.endpoint}
        yield Server(
            _port(azurite.endpoint), table, strangers={"at": wrong}, elsewhere={"bucket": "nothing"}
        )


@contextlib.contextmanager
def _google(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    with running_seaweed(is_open=True) as seaweed, google_door(seaweed.bucket) as door:
        bucket = seaweed.bucket.name

        def table(url: str) -> Table:
            at = {"service": "gcs", "endpoint": url, "anonymous": True}
            return {"kind": "cloud", "bucket": bucket, "at": at}

        yield Server(_port(door), table, elsewhere={"bucket": "nothing"})


@contextlib.contextmanager
def _kubo(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    with running_node() as node:
        yield Server(_port(node), lambda url: _ipfs({"kind": "kubo", "url": url}))


@contextlib.contextmanager
def _pinata(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    with fake_pinata() as server:

        def table(url: str, token: str = secret("jwt")) -> Table:
            urls = {"url": url, "upload_url": url, "gateway": url}
            return _ipfs({"kind": "pinata", "token": token, **urls})

        yield Server(_port(server.url), table, strangers=table(server.url, secret("wrong")))


@contextlib.contextmanager
def _pinata_legacy(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    keys = {"api_key": secret("pinata key"), "secret_key": secret("pinata secret")}
    wrong = {**keys, "secret_key": secret("wrong")}
    with fake_pinata() as server:

        def table(url: str, keys: Table = keys) -> Table:
            return _ipfs({"kind": "pinata_legacy", "url": url, "gateway": url, **keys})

        yield Server(_port(server.url), table, strangers=table(server.url, wrong))


@contextlib.contextmanager
def _pinning(request: pytest.FixtureRequest, secret: Files) -> Iterator[Server]:
    """A node on the spot and a service that is far."""
    token, wrong = secret("pinning"), secret("wrong")
    with running_node() as node, running_pinning_service() as service:

        def table(url: str, token: str = token) -> Table:
            far = {"kind": "pinning", "url": url, "token": token}
            return _ipfs(far, {"kind": "kubo", "url": node}) | {"pin_seconds": 0}

        stranger = table(service, wrong)
        yield Server(_port(service), table, strangers=stranger, is_only_one=False)


def _ipfs(*providers: Table) -> Table:
    return {"kind": "ipfs", "providers": list(providers)}


def _port(url: str) -> int:
    return int(url.split(":")[2].partition("/")[0])


Making = Callable[[pytest.FixtureRequest, Files], contextlib.AbstractContextManager[Server]]
KINDS: dict[str, Making] = {
    "s3": _s3,
    "supabase": _supabase,
    "turso": _turso,
    "azure": _azure,
    "google": _google,
    "kubo": _kubo,
    "pinata": _pinata,
    "pinata before v3": _pinata_legacy,
    "pinning service": _pinning,
}
