"""Supabase Storage as its documents and its source tell of it, small, on loopback.

    with fake_supabase() as server:
        server.new_bucket("audio", types=["audio/*"], max_bytes=1_000_000)
        server.fails(Trouble(429, headers={"retry-after": "7"}), of="/object/info")

What bites is kept to: nearly every refusal has HTTP status 400 and the true status in its body; a
wrong key is a missing bucket; what a key may not see is a missing object; names are of a few signs
of ASCII; the older list sorts without regard to capitals, by folders, and counts; an upload in
chunks wants them of 6 MiB, and keeps what of one arrived before a cut; a body that was cut makes no
object. `has_list_v2` and `has_codes` make it an older one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from servers.background import background

SERVICE_KEY = "service-key-that-nobody-may-see"
ANON_KEY = "anon-key"  # let in, and allowed nothing
BASE = "/storage/v1"
CHUNK_BYTES = 6 * 1024 * 1024
PROJECT_BYTES = 5 * 1024**3
VALID_NAME = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+\Z")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """Answered as the service answers."""

    def __init__(self, status: int, code: str, error: str, message: str, http: int = 400) -> None:
        super().__init__(message)
        self.http = http
        self.body = {"statusCode": str(status), "code": code, "error": error, "message": message}


def no_object() -> Refused:
    return Refused(404, "NoSuchKey", "not_found", "Object not found")


def no_bucket() -> Refused:
    return Refused(404, "NoSuchBucket", "Bucket not found", "Bucket not found")


def denied(message: str = "new row violates row-level security policy") -> Refused:
    return Refused(403, "AccessDenied", "Unauthorized", message)


@dataclass
class Bucket:
    public: bool = False
    max_bytes: int | None = None
    types: list[str] | None = None

    def check(self, media_type: str, size_bytes: int) -> None:
        if size_bytes > min(self.max_bytes or PROJECT_BYTES, PROJECT_BYTES):
            raise Refused(
                413,
                "EntityTooLarge",
                "Payload too large",
                "The object exceeded the maximum allowed size",
            )
        kind = f"{media_type.partition('/')[0]}/*"
        if self.types and media_type not in self.types and kind not in self.types:
            message = f"mime type {media_type} is not supported"
            raise Refused(415, "InvalidMimeType", "invalid_mime_type", message)


@dataclass
class Kept:
    body: bytes
    media_type: str
    cache_control: str
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body).hexdigest()}"'


@dataclass
class Upload:
    bucket: str
    name: str
    size: int
    metadata: dict[str, str]
    body: bytearray = field(default_factory=bytearray)


@dataclass
class Trouble:
    """A refusal in place of the answer, or after the deed."""

    status: int = 500
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    applied: bool = False
    of: str = ""  # looked for in method and path
    times: int = 1_000_000


class FakeSupabase:
    """The service, and what a test may look at."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Empty, and well."""
        self.buckets: dict[str, Bucket] = {}
        self.objects: dict[tuple[str, str], Kept] = {}
        self.uploads: dict[str, Upload] = {}
        self.asked: list[str] = []  # methods and paths
        self.chunks: list[tuple[int, int]] = []  # offset and length of what PATCH announced
        self.trouble: Trouble | None = None
        self.has_list_v2 = True
        self.has_codes = True
        self.knows_offset = True
        self.forgets = False  # an upload with its last chunk
        self.slashes = False  # at the end of a folder's name
        self.page_most = 1000

    def new_bucket(self, name: str, **limits: Any) -> str:
        self.buckets[name] = Bucket(**limits)
        return name

    def names(self, bucket: str) -> list[str]:
        return sorted(name for where, name in self.objects if where == bucket)

    def fails(self, trouble: Trouble | None) -> None:
        self.trouble = trouble

    # --- every request ----------------------------------------------------------------------

    @web.middleware
    async def around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.asked.append(line)
        trouble = self.trouble
        if trouble is not None and trouble.of in line and trouble.times:
            trouble.times -= 1
            if trouble.applied:
                await handler(request)
            else:
                await request.read()
            return web.Response(
                status=trouble.status,
                body=trouble.body,
                headers={"content-type": trouble.content_type, **trouble.headers},
            )
        try:
            return await handler(request)
        except Refused as refused:
            await request.read()
            body = refused.body
            if not self.has_codes:
                body = {word: text for word, text in body.items() if word != "code"}
            return web.json_response(body, status=refused.http)

    def allow(self, request: web.Request, lenient: bool = False) -> bool:
        """Whether the key is the service's. A lenient route shows a wrong one no bucket."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key == SERVICE_KEY:
            return True
        if key != ANON_KEY:
            raise no_bucket() if lenient else denied("Invalid Compact JWS")
        return False

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise no_bucket()
        return self.buckets[name]

    def kept(self, request: web.Request, *, seen: bool) -> Kept:
        bucket, name = request.match_info["bucket"], request.match_info["name"]
        public = self.bucket(bucket).public
        if not (seen or public) or (bucket, name) not in self.objects:
            raise no_object()
        return self.objects[bucket, name]

    # --- buckets ----------------------------------------------------------------------------

    async def get_bucket(self, request: web.Request) -> web.Response:
        name = request.match_info["bucket"]
        if not self.allow(request):
            raise no_bucket()
        found = self.bucket(name)
        told = {"id": name, "name": name, "owner": "", "public": found.public}
        limits = {"file_size_limit": found.max_bytes, "allowed_mime_types": found.types}
        return web.json_response(told | limits)

    async def make_bucket(self, request: web.Request) -> web.Response:
        if not self.allow(request):
            raise denied()
        asked = await request.json()
        if asked["id"] in self.buckets:
            message = "The resource already exists"
            raise Refused(409, "BucketAlreadyExists", "Duplicate", message)
        self.new_bucket(asked["id"], public=asked["public"], max_bytes=asked.get("file_size_limit"))
        return web.json_response({"name": asked["id"]})

    # --- objects ----------------------------------------------------------------------------

    async def put(self, request: web.Request) -> web.Response:
        bucket, name = request.match_info["bucket"], request.match_info["name"]
        allowed = self.allow(request, lenient=False)
        media_type = request.headers.get("content-type", "application/octet-stream")
        self._check(bucket, name, media_type, request.content_length or 0, allowed)
        if (bucket, name) in self.objects and request.headers.get("x-upsert") != "true":
            raise Refused(409, "KeyAlreadyExists", "Duplicate", "The resource already exists")
        body = await request.read()  # raises if it was cut
        cache = request.headers.get("cache-control", "no-cache")
        self.objects[bucket, name] = kept = Kept(body, media_type, cache)
        return web.json_response({"Id": kept.id, "Key": f"{bucket}/{name}"})

    async def get(self, request: web.Request) -> web.StreamResponse:
        return _served(request, self.kept(request, seen=self.allow(request)))

    async def get_public(self, request: web.Request) -> web.StreamResponse:
        if not self.bucket(request.match_info["bucket"]).public:
            raise no_bucket()
        return _served(request, self.kept(request, seen=True))

    async def get_signed(self, request: web.Request) -> web.StreamResponse:
        if not secrets.compare_digest(request.query.get("token", ""), _token(request)):
            raise Refused(400, "InvalidJWT", "InvalidJWT", "invalid signature")
        return _served(request, self.kept(request, seen=True))

    async def sign(self, request: web.Request) -> web.Response:
        self.kept(request, seen=self.allow(request))
        assert (await request.json())["expiresIn"] >= 1
        where = f"{request.match_info['bucket']}/{request.match_info['name']}"
        return web.json_response({"signedURL": f"/object/sign/{where}?token={_token(request)}"})

    async def info(self, request: web.Request) -> web.Response:
        kept = self.kept(request, seen=self.allow(request, lenient=True))
        return web.json_response(
            {
                "id": kept.id,
                "name": request.match_info["name"],
                "size": len(kept.body),
                "content_type": kept.media_type,
                "cache_control": kept.cache_control,
                "etag": kept.etag,
                "last_modified": kept.at.isoformat(),
            }
        )

    async def delete(self, request: web.Request) -> web.Response:
        self.kept(request, seen=self.allow(request))
        if not self.allow(request):
            raise denied("Access denied")
        del self.objects[request.match_info["bucket"], request.match_info["name"]]
        return web.json_response({"message": "Successfully deleted"})

    def _check(self, bucket: str, name: str, media_type: str, size: int, allowed: bool) -> None:
        if not VALID_NAME.match(name):
            raise Refused(400, "InvalidKey", "InvalidKey", f"Invalid key: {name}")
        self.bucket(bucket).check(media_type, size)
        if not allowed:
            raise denied()

    # --- lists ------------------------------------------------------------------------------

    async def list_newer(self, request: web.Request) -> web.Response:
        if not self.has_list_v2:
            message = f"Route POST:{request.path} not found"
            raise Refused(404, "", "Not Found", message, http=404)
        asked, names = await request.json(), self._seen(request)
        cursor = base64.b64decode(asked.get("cursor", "")).decode().removeprefix("l:")
        rest = [one for one in names if one.startswith(asked.get("prefix", "")) and one > cursor]
        page = rest[: min(asked.get("limit", 1000), self.page_most)]
        more = len(page) < len(rest)
        told: dict[str, Any] = {"hasNext": more, "folders": []}
        if more:
            told["nextCursor"] = base64.b64encode(f"l:{page[-1]}".encode()).decode()
        told["objects"] = [self._row(request, one, one) for one in page]
        return web.json_response(told)

    async def list_older(self, request: web.Request) -> web.Response:
        """One folder, whatever the capitals of its name; folders have no id."""
        asked, names = await request.json(), self._seen(request)
        prefix = asked["prefix"]
        folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        entries: dict[str, Any] = {}
        for one in names:
            if one.lower().startswith(folder.lower()):
                head, _, below = one[len(folder) :].partition("/")
                shown = head + "/" * self.slashes
                row = {"name": shown, "id": None, "updated_at": None, "metadata": None}
                entries[f"{head}/" if below else head] = (
                    row if below else self._row(request, one, head)
                )
        ordered = [entries[name] for name in sorted(entries, key=lambda name: name.lower())]
        start = asked.get("offset", 0) if self.knows_offset else 0
        most = min(asked.get("limit", 100), self.page_most)
        return web.json_response(ordered[start : start + most])

    def _seen(self, request: web.Request) -> list[str]:
        seen = self.allow(request)
        bucket = request.match_info["bucket"]
        return self.names(bucket) if seen and bucket in self.buckets else []

    def _row(self, request: web.Request, name: str, shown: str) -> dict[str, Any]:
        kept = self.objects[request.match_info["bucket"], name]
        told = {"size": len(kept.body), "eTag": kept.etag, "mimetype": kept.media_type}
        at = kept.at.isoformat()
        return {"name": shown, "id": kept.id, "updated_at": at, "metadata": told}

    # --- in chunks --------------------------------------------------------------------------

    async def begin(self, request: web.Request) -> web.Response:
        pairs = (pair.split(" ") for pair in request.headers["upload-metadata"].split(","))
        metadata = {word: base64.b64decode(text).decode() for word, text in pairs}
        size = int(request.headers["upload-length"])
        bucket, name = metadata["bucketName"], metadata["objectName"]
        try:
            self._check(bucket, name, metadata["contentType"], size, self.allow(request))
        except Refused as refused:  # tus answers with the true status and no JSON
            status, text = int(refused.body["statusCode"]), refused.body["message"]
            return web.Response(status=status, text=text)
        upload_id = base64.urlsafe_b64encode(secrets.token_bytes(24)).decode()
        self.uploads[upload_id] = Upload(bucket, name, size, metadata)
        location = f"http://elsewhere.example{BASE}/upload/resumable/{upload_id}"
        return web.Response(status=201, headers={"location": location, "tus-resumable": "1.0.0"})

    async def go_on(self, request: web.Request) -> web.Response:
        upload = self.uploads.get(request.match_info["id"])
        if upload is None:
            return web.Response(status=404, text="Upload not found")
        offset, length = int(request.headers["upload-offset"]), request.content_length or 0
        if offset != len(upload.body):
            return web.Response(status=409, text="Upload-Offset conflict")
        self.chunks.append((offset, length))
        whole = offset % CHUNK_BYTES == 0 and offset + length < upload.size
        if whole and length != CHUNK_BYTES:
            return web.Response(status=400, text="chunks are of 6 MB")
        async for piece in request.content.iter_any():
            upload.body += piece
        if len(upload.body) == upload.size:
            self._finish(upload)
            if self.forgets:
                del self.uploads[request.match_info["id"]]
        return self._offset(upload)

    def _finish(self, upload: Upload) -> None:
        cache = upload.metadata.get("cacheControl", "")
        told = f"max-age={cache}" if cache.isdecimal() else "no-cache"
        kept = Kept(bytes(upload.body), upload.metadata["contentType"], told)
        self.objects[upload.bucket, upload.name] = kept

    async def look(self, request: web.Request) -> web.Response:
        upload = self.uploads.get(request.match_info["id"])
        return web.Response(status=404) if upload is None else self._offset(upload)

    async def throw_away(self, request: web.Request) -> web.Response:
        self.uploads.pop(request.match_info["id"], None)
        return web.Response(status=204)

    def _offset(self, upload: Upload) -> web.Response:
        headers = {"upload-offset": str(len(upload.body)), "tus-resumable": "1.0.0"}
        return web.Response(status=204, headers=headers)

    # --- the table --------------------------------------------------------------------------

    def application(self) -> web.Application:
        made = web.Application(middlewares=[self.around], client_max_size=PROJECT_BYTES)
        there = f"{BASE}/object"
        name = "{bucket}/{name:.+}"
        made.router.add_routes(
            [
                web.post(f"{BASE}/bucket", self.make_bucket),
                web.get(f"{BASE}/bucket/{{bucket}}", self.get_bucket),
                web.post(f"{there}/list/{{bucket}}", self.list_older),
                web.post(f"{there}/list-v2/{{bucket}}", self.list_newer),
                web.post(f"{there}/sign/{name}", self.sign),
                web.get(f"{there}/sign/{name}", self.get_signed),
                web.get(f"{there}/info/{name}", self.info),
                web.get(f"{there}/authenticated/{name}", self.get),
                web.get(f"{there}/public/{name}", self.get_public),
                web.post(f"{BASE}/upload/resumable", self.begin),
                web.patch(f"{BASE}/upload/resumable/{{id}}", self.go_on),
                web.head(f"{BASE}/upload/resumable/{{id}}", self.look),
                web.delete(f"{BASE}/upload/resumable/{{id}}", self.throw_away),
                web.post(f"{there}/{name}", self.put),
                web.delete(f"{there}/{name}", self.delete),
            ]
        )
        return made


def _served(request: web.Request, kept: Kept) -> web.Response:
    headers = {
        "etag": kept.etag,
        "content-type": kept.media_type,
        "cache-control": kept.cache_control,
        "accept-ranges": "bytes",
    }
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return web.Response(body=kept.body, headers=headers)
    size = len(kept.body)
    first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
    if first >= size:
        raise Refused(416, "InvalidRange", "invalid_range", "invalid range provided")
    headers["content-range"] = f"bytes {first}-{last}/{size}"
    return web.Response(status=206, body=kept.body[first : last + 1], headers=headers)


def _token(request: web.Request) -> str:
    where = f"{request.match_info['bucket']}/{request.match_info['name']}"
    return hashlib.sha256(f"{SERVICE_KEY} {where}".encode()).hexdigest()


@contextlib.contextmanager
def fake_supabase() -> Iterator[FakeSupabase]:
    server = FakeSupabase()
    with background() as thread:
        runner = web.AppRunner(server.application(), access_log=None)
        thread.run(runner.setup())
        thread.run(web.TCPSite(runner, "127.0.0.1", 0).start())
        server.port = runner.addresses[0][1]
        server.url = f"http://127.0.0.1:{server.port}"
        try:
            yield server
        finally:
            thread.run(runner.cleanup())
