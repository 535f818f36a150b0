"""Pinata as its documentation describes it: the API v3, the one before, and an account's gateway.

    with fake_pinata() as pinata:
        pinata.suffers(Trouble(429, headers={"Retry-After": "1"}), of="/v3/files", times=1)

Written from docs.pinata.cloud (API reference, `pinata-api-v3.yaml`, and the pages on legacy
endpoints and gateways). It keeps files in memory, by network. `cuts_otherwise` makes it name files
as a service does that has another chunker than ours; `gateway` what its gateway does its own way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from servers.serving import served
from soundkeep.stores.ipfs_cid import DAG_PB, Cid, cid_of

TOKEN = "jwt-of-the-tests"
API_KEY, SECRET_KEY = "key-of-the-tests", "secret-of-the-tests"
GATEWAY_TOKEN = "token-of-the-gateway"
HTML = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Log in</body></html>"

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")
_NETWORKS = ("public", "private")


@dataclass(frozen=True)
class Trouble:
    """An answer instead of the right one; after the deed, if applied."""

    status: int
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    applied: bool = False

    def response(self) -> web.Response:
        body = json.dumps(self.json).encode() if self.body is None else self.body
        kind = "application/json" if self.body is None else "text/html"
        return web.Response(
            status=self.status, body=body, headers=dict(self.headers), content_type=kind
        )


@dataclass
class File:
    id: str
    cid: str
    data: bytes
    name: str
    media_type: str


@dataclass
class FakePinata:
    url: str = ""
    files: dict[str, dict[str, File]] = field(default_factory=lambda: {n: {} for n in _NETWORKS})
    cuts_otherwise: bool = False
    spoils: bool = False  # what it takes is not what it keeps
    gateway: str = ""  # "no range", "html", "wrong size", "elsewhere", "redirect", "flipped"
    gateway_token: str = ""  # wanted, if there is one
    asked: list[str] = field(default_factory=list)
    _troubles: list[tuple[Trouble, str, list[int]]] = field(default_factory=list)

    def suffers(self, trouble: Trouble, of: str = "", times: int = 10**9) -> None:
        """Requests whose method and path hold `of` are answered so, that many times."""
        self._troubles.append((trouble, of, [times]))

    def heals(self) -> None:
        self._troubles.clear()
        self.gateway = ""

    def held(self, network: str = "public") -> set[str]:
        return {file.cid for file in self.files[network].values()}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.asked.append(line)
        trouble = self._trouble(line)
        if trouble is not None and not trouble.applied:
            return trouble.response()
        answer = await self._answer(request)
        return answer if trouble is None else trouble.response()

    def _trouble(self, line: str) -> Trouble | None:
        for trouble, of, left in self._troubles:
            if of in line and left[0] > 0:
                left[0] -= 1
                return trouble
        return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/ipfs/"):
            return self._public(request)
        if path.startswith("/files/"):
            return self._private(request)
        is_legacy = path.startswith(("/data/", "/pinning/"))
        if not self._lets_in(request, is_legacy):
            return _legacy_error(401, "INVALID_CREDENTIALS") if is_legacy else _error(401)
        return await (self._legacy(request) if is_legacy else self._v3(request))

    def _lets_in(self, request: web.Request, is_legacy: bool) -> bool:
        keys = request.headers.get("pinata_api_key"), request.headers.get("pinata_secret_api_key")
        if is_legacy and keys == (API_KEY, SECRET_KEY):
            return True
        return request.headers.get("Authorization") == f"Bearer {TOKEN}"

    # --- API v3 -----------------------------------------------------------------------------

    async def _v3(self, request: web.Request) -> web.Response:
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["v3", "files"]:
                form = await _form(request)
                network = str(form.get("network", "private"))  # as documented: private by default
                file, is_new = self._keep(network, form)
                shown = {**_shown(file), "network": network}
                return _data(shown if is_new else {**shown, "is_duplicate": True})
            case "POST", ["v3", "files", "private", "download_link"]:
                return self._signed(await request.json())
            case "GET", ["v3", "files", network] if network in _NETWORKS:
                cid = request.query.get("cid")
                found = [f for f in self.files[network].values() if cid in (None, f.cid)]
                limit = int(request.query.get("limit", 10))
                return _data({"files": [_shown(f) for f in found][:limit], "next_page_token": ""})
            case "DELETE", ["v3", "files", network, file_id] if network in _NETWORKS:
                gone = self.files[network].pop(file_id, None)
                return _data(None) if gone else _error(404)
        return _error(404)

    def _signed(self, wanted: dict[str, Any]) -> web.Response:
        expires = f"X-Date={wanted['date']}&X-Expires={wanted['expires']}&X-Method=GET"
        signature = self._signature(f"{wanted['url']}?{expires}")
        return _data(f"{wanted['url']}?X-Algorithm=PINATA1&{expires}&X-Signature={signature}")

    def _signature(self, text: str) -> str:
        return hashlib.sha256(f"{TOKEN}{text}".encode()).hexdigest()

    # --- the API before ---------------------------------------------------------------------

    async def _legacy(self, request: web.Request) -> web.Response:
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["data", "testAuthentication"]:
                return web.json_response({"message": "Congratulations! You are communicating"})
            case "POST", ["pinning", "pinFileToIPFS"]:
                form = await _form(request)
                assert json.loads(str(form["pinataOptions"])) == {"cidVersion": 1}
                file, is_new = self._keep("public", form)
                told = {"IpfsHash": file.cid, "PinSize": len(file.data), "Timestamp": _now()}
                return web.json_response(told if is_new else {**told, "isDuplicate": True})
            case "GET", ["data", "pinList"]:
                part = request.query.get("hashContains", "")
                found = [f for f in self.files["public"].values() if part in f.cid]
                rows = [{"ipfs_pin_hash": f.cid, "size": len(f.data), "id": f.id} for f in found]
                return web.json_response({"rows": rows})
            case "DELETE", ["pinning", "unpin", cid]:
                mine = [f.id for f in self.files["public"].values() if f.cid == cid]
                for file_id in mine:
                    del self.files["public"][file_id]
                if mine:
                    return web.Response(text="OK")
                return _legacy_error(400, "CURRENT_USER_HAS_NOT_PINNED_CID")
        return _legacy_error(404, "NOT_FOUND")

    # --- the gateway ------------------------------------------------------------------------

    def _public(self, request: web.Request) -> web.Response:
        if self.gateway_token != request.headers.get("x-pinata-gateway-token", ""):
            return web.Response(status=403, text="ERR_ID:00006")
        return self._served(request, "public")

    def _private(self, request: web.Request) -> web.Response:
        expires = "&".join(f"{n}={request.query.get(n)}" for n in ("X-Date", "X-Expires"))
        line = f"{self.url}{request.path}?{expires}&X-Method=GET"
        if request.query.get("X-Signature") != self._signature(line):
            return web.Response(status=401, text="ERR_ID:00007")
        if int(request.query["X-Date"]) + int(request.query["X-Expires"]) <= time.time():
            return web.Response(status=401, text="ERR_ID:00008")
        return self._served(request, "private")

    def _served(self, request: web.Request, network: str) -> web.Response:
        cid = request.path.rpartition("/")[2]
        found = [f for f in self.files[network].values() if f.cid == cid]
        if self.gateway == "html":
            return web.Response(body=HTML, content_type="text/html")
        if self.gateway == "elsewhere":
            raise web.HTTPFound("http://elsewhere.example/ipfs/" + cid)
        if self.gateway == "redirect" and "again" not in request.query:
            raise web.HTTPMovedPermanently(f"{request.path}?again=1")
        if not found:
            return web.Response(status=404, text="ERR_ID:00023")
        return self._ranged(request, found[0])

    def _ranged(self, request: web.Request, file: File) -> web.Response:
        data = file.data + b"x" * (self.gateway == "wrong size")
        if self.gateway == "flipped":
            data = bytes((data[0] ^ 1,)) + data[1:]
        wanted = _RANGE.match(request.headers.get("Range", ""))
        headers = {"Accept-Ranges": "bytes", "Etag": f'"{file.cid}"'}
        if wanted is None or self.gateway == "no range" or not data:
            return web.Response(body=data, headers=headers, content_type=file.media_type)
        first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return web.Response(
            status=206,
            body=data[first : last + 1],
            headers=headers,
            content_type=file.media_type,
        )

    # --- files ------------------------------------------------------------------------------

    def _keep(self, network: str, form: Mapping[str, Any]) -> tuple[File, bool]:
        data = form["file"]
        if self.spoils:
            data = data[:-1] + b"!"
        cid = str(self._named(data))
        for file in self.files[network].values():
            if file.cid == cid:
                return file, False
        file = File(str(uuid.uuid4()), cid, data, form.get("name", "file"), form["media_type"])
        self.files[network][file.id] = file
        return file, True

    def _named(self, data: bytes) -> Cid:
        """By our own profile, or as the root of a tree that was cut in other places."""
        if not self.cuts_otherwise:
            return cid_of([data])
        return Cid.of_block(DAG_PB, hashlib.sha256(b"cut otherwise" + data).digest())


@contextlib.contextmanager
def fake_pinata() -> Iterator[FakePinata]:
    pinata = FakePinata()
    with served(pinata.handle) as url:
        pinata.url = url
        yield pinata


async def _form(request: web.Request) -> dict[str, Any]:
    """Its fields as text, and the bytes of `file` with their `media_type`."""
    edge = request.headers["Content-Type"].partition("boundary=")[2].encode()
    first, *parts, last = (b"\r\n" + await request.read()).split(b"\r\n--" + edge)
    assert (first, last) == (b"", b"--\r\n"), "the form is not whole"
    form: dict[str, Any] = {}
    for part in parts:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.findall(rb'[; ]name="(.+?)"', head)[0].decode()
        form[name] = value if name == "file" else value.decode()
        form["media_type"] = head.rpartition(b"Content-Type: ")[2].decode()
    return form


def _data(data: Any) -> web.Response:
    return web.json_response({"data": data})


def _error(status: int) -> web.Response:
    words = {401: "Not Authorized", 404: "Not Found"}[status]
    return web.json_response({"error": {"code": status, "message": words}}, status=status)


def _legacy_error(status: int, reason: str) -> web.Response:
    told = {"error": {"reason": reason, "details": "see the documentation"}}
    return web.json_response(told, status=status)


def _shown(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "cid": file.cid,
        "size": len(file.data),
        "number_of_files": 1,
        "mime_type": file.media_type,
        "group_id": None,
        "keyvalues": {},
        "created_at": _now(),
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
