"""Who pins: a Kubo node, Pinata by its two protocols, and pinning services, each in its own words.

A provider that takes bytes answers with the CID that it gave them. A pinning service is told a CID
and fetches the bytes itself, from whoever has them. To have something is to have it pinned: a block
that nobody pins may be gone at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from soundkeep.errors import StoreError, Unavailable
from soundkeep.stores.http_service import Phases
from soundkeep.stores.ipfs_cid import RAW, SHA2_256, Cid, file_bytes
from soundkeep.stores.ipfs_requests import NOTHING, Requests, Told, Upload

POLL_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)  # the last again and again
MOST_ORIGINS = 20  # of a pin, by the specification
LISTED = "100"  # files of one CID; there is one, unless somebody else uses the account
PINS_LISTED = "1000"  # of one CID, as many as the specification allows: somebody may repeat himself

KUBO_PROFILE = {  # unixfs-v1-2025, whatever the node's own settings are
    "cid-version": "1",
    "raw-leaves": "true",
    "chunker": "size-1048576",
    "hash": "sha2-256",
    "trickle": "false",
    "pin": "true",
    "progress": "false",
}


@dataclass(frozen=True, slots=True)
class Held:
    """Something pinned. Not everybody who pins says how large it is."""

    size_bytes: int | None


class Pinner(Protocol):
    """Somebody who pins. Each call raises every `StoreError` but `NotFound`."""

    @property
    def who(self) -> str: ...

    async def probe(self) -> None:
        """Succeeds if it is there and lets us in."""
        ...

    async def held(self, cid: Cid) -> Held | None:
        """What is pinned under the CID; None if it says that nothing is."""
        ...

    async def unpin(self, cid: Cid) -> None:
        """Absent is success."""
        ...

    async def close(self) -> None: ...


class Provider(Pinner, Protocol):
    """Somebody who takes bytes and pins them."""

    async def add(self, upload: Upload, name: str) -> Cid:
        """Sends the bytes; answers the CID that they got. Raises `SourceFailed`, too."""
        ...

    async def origins(self) -> Sequence[str]:
        """Where pinning services find what it has; empty if they find it anyway."""
        ...


class _Server:
    """What they have in common."""

    def __init__(
        self, who: str, url: str, phases: Phases, headers: Mapping[str, str] = NOTHING
    ) -> None:
        self.who = who
        self.requests = Requests(who, url, phases, headers)

    async def origins(self) -> Sequence[str]:
        return ()

    async def close(self) -> None:
        await self.requests.close()


# --- a node ---------------------------------------------------------------------------------


class Kubo(_Server):
    """A node with Kubo's RPC: one's own, Filebase, or Infura with an old key. All errors are
    HTTP 500, also that something is not pinned."""

    async def probe(self) -> None:
        (await self._ask("version")).expected()

    async def add(self, upload: Upload, name: str) -> Cid:
        answer = await self.requests.send("/api/v0/add", upload, query=KUBO_PROFILE)
        return _cid(answer, "Hash")

    async def held(self, cid: Cid) -> Held | None:
        answer = await self._ask("pin/ls", arg=str(cid), type="recursive")
        if answer.status >= 300 and answer.says("not pinned"):
            return None
        answer.expected()
        return Held(await self._size(cid))

    async def unpin(self, cid: Cid) -> None:
        answer = await self._ask("pin/rm", arg=str(cid))
        if not answer.says("not pinned"):
            answer.done()

    async def origins(self) -> Sequence[str]:
        """A node behind a router has none that help; then the service must find another way."""
        with suppress(StoreError):
            told = (await self._ask("id")).expected()
            if isinstance(told, dict) and isinstance(told.get("Addresses"), list):
                return [each for each in told["Addresses"] if isinstance(each, str)]
        return ()

    async def _size(self, cid: Cid) -> int:
        """By the root's own word, which its hash vouches for."""
        if cid.codec == RAW:
            answer = await self._ask("block/stat", arg=str(cid))
            size = _field(answer, "Size")
            if not isinstance(size, int):
                raise answer.nonsense()
            return size
        answer = await self._ask("block/get", arg=str(cid))
        if answer.status >= 300:
            raise answer.refusal()
        if cid.multihash[0] == SHA2_256 and not cid.names(answer.raw):
            raise answer.nonsense()
        try:
            return file_bytes(answer.raw)
        except ValueError as error:
            raise answer.nonsense() from error

    async def _ask(self, verb: str, **asked: str) -> Told:
        return await self.requests.ask("POST", f"/api/v0/{verb}", asked)


# --- Pinata ---------------------------------------------------------------------------------


class Pinata(_Server):
    """Pinata's API v3: files of the network `public` or `private`, found by their CID."""

    def __init__(
        self,
        who: str,
        url: str,
        phases: Phases,
        headers: Mapping[str, str],
        *,
        network: str,
        upload_url: str,
    ) -> None:
        super().__init__(who, url, phases, headers)
        self.network = network
        self._upload_url = upload_url.rstrip("/")

    async def probe(self) -> None:
        await self._files(limit="1")

    async def add(self, upload: Upload, name: str) -> Cid:
        fields = {"network": self.network, "name": name}
        answer = await self.requests.send("/v3/files", upload, fields=fields, base=self._upload_url)
        return _cid(answer, "data", "cid")

    async def held(self, cid: Cid) -> Held | None:
        sizes = [_size(file.get("size")) for file in await self._named(cid)]
        return Held(sizes[0]) if sizes else None

    async def unpin(self, cid: Cid) -> None:
        for file in await self._named(cid):
            path = f"/v3/files/{self.network}/{quote(str(file['id']), safe='')}"
            answer = await self.requests.ask("DELETE", path)
            if answer.status != 404:
                answer.done()

    async def sign(self, url: str, signed_at: int, seconds: int) -> str:
        """The address of a private file as anybody can read it until then."""
        wanted = {"url": url, "date": signed_at, "expires": seconds, "method": "GET"}
        answer = await self.requests.ask("POST", "/v3/files/private/download_link", body=wanted)
        link = _field(answer, "data")
        if not isinstance(link, str) or not link.startswith(f"{url}?"):
            raise answer.nonsense()  # also what leads to another host
        return link

    async def _named(self, cid: Cid) -> list[dict[str, Any]]:
        files = await self._files(cid=str(cid), limit=LISTED)
        return [file for file in files if _is(file.get("cid"), cid) and "id" in file]

    async def _files(self, **asked: str) -> list[dict[str, Any]]:
        answer = await self.requests.ask("GET", f"/v3/files/{self.network}", asked)
        return _rows(answer, "data", "files")


class PinataLegacy(_Server):
    """Pinata as it was before its API v3: everything is public."""

    async def probe(self) -> None:
        (await self.requests.ask("GET", "/data/testAuthentication")).expected()

    async def add(self, upload: Upload, name: str) -> Cid:
        fields = {
            "pinataOptions": '{"cidVersion": 1}',
            "pinataMetadata": f'{{"name": "{name}"}}',
        }
        answer = await self.requests.send("/pinning/pinFileToIPFS", upload, fields=fields)
        return _cid(answer, "IpfsHash")

    async def held(self, cid: Cid) -> Held | None:
        asked = {"status": "pinned", "hashContains": str(cid), "pageLimit": LISTED}
        rows = _rows(await self.requests.ask("GET", "/data/pinList", asked), "rows")
        sizes = [_size(row.get("size")) for row in rows if _is(row.get("ipfs_pin_hash"), cid)]
        return Held(sizes[0]) if sizes else None

    async def unpin(self, cid: Cid) -> None:
        answer = await self.requests.ask("DELETE", f"/pinning/unpin/{cid}")
        if answer.says("has_not_pinned") or answer.says("not pinned"):
            return
        if answer.status != 404 or await self.held(cid):  # anybody says 404, also a wrong address
            answer.done()


# --- pinning services -----------------------------------------------------------------------


class PinningService(_Server):
    """Anybody with the Pinning Service API (https://ipfs.github.io/pinning-services-api-spec/)."""

    def __init__(
        self, who: str, url: str, phases: Phases, headers: Mapping[str, str], pin_seconds: float
    ) -> None:
        super().__init__(who, url, phases, headers)
        self._pin_seconds = pin_seconds

    async def probe(self) -> None:
        await self._pins(limit="1")

    async def pin(self, cid: Cid, name: str, origins: Sequence[str]) -> None:
        """Asks for it, unless that was done, and waits a while. What is still being fetched then
        is believed: whoever took the bytes has them. Raises if the service gives up."""
        answer = await self._asked_for(cid, name, origins)
        loop = asyncio.get_running_loop()
        until, polls = loop.time() + self._pin_seconds, 0
        while (status := _word(answer, "status")) in ("queued", "pinning"):
            pause_seconds = POLL_SECONDS[min(polls, len(POLL_SECONDS) - 1)]
            if loop.time() + pause_seconds > until:
                return
            await asyncio.sleep(pause_seconds)
            polls += 1
            answer = await self._look(_word(answer, "requestid"))
        if status != "pinned":
            raise Unavailable(f"{self.who}: it could not fetch {cid} and gave up")

    async def held(self, cid: Cid) -> Held | None:
        return Held(None) if await self._pins_of(cid, "pinned") else None

    async def unpin(self, cid: Cid) -> None:
        """Also what it is still fetching, and what it failed to fetch."""
        for request in await self._pins_of(cid, "queued,pinning,pinned,failed"):
            answer = await self.requests.ask("DELETE", _pin_path(request))
            if answer.status != 404:
                answer.done()

    async def _asked_for(self, cid: Cid, name: str, origins: Sequence[str]) -> Told:
        """A second request for one CID is a second pin at some services, and an error at others."""
        for request in await self._pins_of(cid, "queued,pinning,pinned"):
            return await self._look(request)
        wanted = {"cid": str(cid), "name": name, "origins": list(origins)[:MOST_ORIGINS]}
        return await self.requests.ask("POST", "/pins", body=wanted)

    async def _look(self, request: str) -> Told:
        return await self.requests.ask("GET", _pin_path(request))

    async def _pins_of(self, cid: Cid, status: str) -> list[str]:
        """The requests for one CID. A service that does not look at the CID lists them all."""
        pins = await self._pins(cid=str(cid), status=status, limit=PINS_LISTED)
        return [str(pin["requestid"]) for pin in pins if "requestid" in pin and _pins(pin, cid)]

    async def _pins(self, **asked: str) -> list[dict[str, Any]]:
        return _rows(await self.requests.ask("GET", "/pins", asked), "results")


# --- reading answers ------------------------------------------------------------------------


def _field(answer: Told, *names: str) -> Any:
    """What lies under these names, one in the other; None if there is no such thing."""
    found = answer.expected()
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _word(answer: Told, name: str) -> str:
    found = _field(answer, name)
    if not isinstance(found, str) or not found:
        raise answer.nonsense()
    return found


def _cid(answer: Told, *names: str) -> Cid:
    try:
        return Cid.parse(str(_field(answer, *names)))
    except ValueError as error:
        raise answer.nonsense() from error


def _rows(answer: Told, *names: str) -> list[dict[str, Any]]:
    """A list of objects. An empty one may be null."""
    rows = _field(answer, *names)
    outer = _field(answer, *names[:-1])
    if not isinstance(outer, dict) or names[-1] not in outer or not isinstance(rows, list | None):
        raise answer.nonsense()
    return [row for row in rows or [] if isinstance(row, dict)]


def _pin_path(request: str) -> str:
    return f"/pins/{quote(request, safe='')}"


def _pins(pin: dict[str, Any], cid: Cid) -> bool:
    wanted = pin.get("pin")
    return isinstance(wanted, dict) and _is(wanted.get("cid"), cid)


def _is(text: object, cid: Cid) -> bool:
    try:
        return Cid.parse(str(text)) == cid
    except ValueError:
        return False


def _size(told: object) -> int | None:
    """Some services write numbers as text."""
    if isinstance(told, str) and told.isdecimal() and len(told) < 20:
        return int(told)
    return told if isinstance(told, int) else None
