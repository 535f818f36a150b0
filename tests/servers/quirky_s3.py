"""A small S3 server that answers as real services do, and can be given every trouble they have.

    with quirky_s3(R2) as server:
        server.suffers("slow down", methods=("PUT",))

It keeps objects in memory, by path style, and checks signatures like the real ones, so that a
wrong secret is refused and an expired URL dead. `PROFILES` says what each service does its own way,
`TROUBLES` what can go wrong. A trouble replaces or spoils answers; it never touches what is kept.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import re
import xml.etree.ElementTree as ElementTree
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from servers.background import Background, background
from servers.sigv4 import Guard, Refused, Request

ACCESS_KEY = "quirky-access-key"
SECRET_KEY = "quirky-secret-key-that-nobody-may-read"
BUCKET = "sounds"
NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
PAGE = 1000
KEPT_HEADERS = ("content-type", "cache-control", "content-disposition", "x-amz-storage-class")


@dataclass(frozen=True)
class Profile:
    """What a service does its own way."""

    name: str
    regions: frozenset[str] = frozenset({"us-east-1"})
    namespaced_errors: bool = False  # error XML in a namespace, where botocore finds no code
    bad_token: tuple[int, str] = (403, "InvalidAccessKeyId")
    verifies: bool = True  # checksums, Content-MD5 and conditions mean something
    equal_parts: bool = False  # of a multipart upload, except the last
    smallest_part: int = 5 * 1024 * 1024


MINIO = Profile("minio")
R2 = Profile("r2", frozenset({"auto", "us-east-1"}), equal_parts=True)
SUPABASE = Profile(
    "supabase", namespaced_errors=True, bad_token=(404, "NoSuchBucket"), verifies=False
)
PROFILES = {profile.name: profile for profile in (MINIO, R2, SUPABASE)}


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None  # the connection ends after so many bytes of the body

    def with_headers(self, **headers: str) -> Answer:
        return replace(self, headers={**self.headers, **headers})


# --- what can go wrong ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """A refusal instead of the answer (after the deed, if applied), or an answer that is spoilt."""

    status: int = 0
    code: str = ""
    elements: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of an error's XML
    applied: bool = False
    spoils: str = ""


HTML = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Log in</body></html>"
HTML_HEADERS = {"Content-Type": "text/html; charset=utf-8"}

TROUBLES: dict[str, Trouble] = {
    "bucket missing": Trouble(404, "NoSuchBucket"),
    "not found without a word": Trouble(404, body=b""),
    "another region": Trouble(301, "PermanentRedirect", headers={"x-amz-bucket-region": "mars-1"}),
    "region in the signature": Trouble(400, "AuthorizationHeaderMalformed", {"Region": "mars-1"}),
    "access denied": Trouble(403, "AccessDenied"),
    "unknown access key": Trouble(403, "InvalidAccessKeyId"),
    "wrong secret": Trouble(403, "SignatureDoesNotMatch"),
    "clock skew": Trouble(403, "RequestTimeTooSkewed"),
    "too many requests": Trouble(429, "TooManyRequests"),
    "too many requests, retry after": Trouble(429, "TooManyRequests", headers={"Retry-After": "7"}),
    "slow down": Trouble(503, "SlowDown"),
    "internal error": Trouble(500, "InternalError"),
    "unavailable": Trouble(
        503, body=b"Service Unavailable", headers={"Content-Type": "text/plain"}
    ),
    "html": Trouble(200, body=HTML, headers=HTML_HEADERS),
    "html from a gateway": Trouble(502, body=HTML, headers=HTML_HEADERS),
    "quota exceeded": Trouble(403, "QuotaExceeded"),
    "storage full": Trouble(507, "XMinioStorageFull"),
    "applied but failed": Trouble(500, "InternalError", applied=True),
    "200 to a range": Trouble(spoils="range"),
    "short body": Trouble(spoils="short"),
    "long body": Trouble(spoils="long"),
    "flipped byte": Trouble(spoils="flip"),
    "etag that is no md5": Trouble(spoils="etag"),
    "complete that fails": Trouble(spoils="complete"),
}


# --- what is kept --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """One object."""

    body: bytes
    etag: str
    headers: Mapping[str, str]
    sha256: str | None = None  # in base64; with the number of parts if it is composite
    modified_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Upload:
    """One multipart upload that is under way."""

    key: str
    headers: Mapping[str, str]
    initiated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    parts: dict[int, Kept] = field(default_factory=dict)


class Generated(Sequence[str]):
    """Keys in order that are made when they are looked at."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix, self._count = prefix, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> str:  # type: ignore[override] # slices are not asked for
        if not 0 <= at < self._count:
            raise IndexError(at)
        return f"{self._prefix}{at:08d}"


@contextlib.contextmanager
def quirky_s3(profile: Profile = MINIO) -> Iterator[QuirkyS3]:
    """A server with one empty bucket, on a port of its own."""
    with background() as thread:
        server = QuirkyS3(profile, thread)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class QuirkyS3:
    """The test's hand on it. `requests` are the lines of all that came, `open` the connections."""

    def __init__(self, profile: Profile, thread: Background) -> None:
        self.profile = profile
        self.bucket = BUCKET
        self.secrets = {ACCESS_KEY: SECRET_KEY}
        self.clock_ahead = timedelta()
        self.objects: dict[str, Kept] = {}
        self.uploads: dict[str, Upload] = {}
        self.generated: Sequence[str] = ()  # listed beside what is kept, if anything is
        self.requests: list[str] = []
        self.port = 0
        self._trouble: Trouble | None = None
        self._methods: tuple[str, ...] = ()
        self._of = ""
        self._times: int | None = None
        self._upload_ids = (f"upload-{number}" for number in itertools.count(1))
        self._thread = thread
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        runner = self._runner
        assert runner is not None
        assert runner.server is not None
        return len(runner.server.connections)

    def start(self) -> None:
        """On the port it had before, if any."""
        self._thread.run(self._start())

    def stop(self) -> None:
        """Every connection ends; what is kept stays for the next start."""
        self._thread.run(self._stop())

    def suffers(
        self,
        name: str,
        *,
        methods: Sequence[str] = (),
        of: str = "",
        times: int | None = None,
    ) -> None:
        """A trouble by its name: for some methods, for targets that hold a text, so many times."""
        self._methods, self._of, self._times = tuple(methods), of, times
        self._trouble = TROUBLES[name]

    def heals(self) -> None:
        self._trouble = None

    def damage(self, key: str, body: bytes) -> None:
        """Rot: other bytes lie there; all that is said about them stays."""
        self.objects[key] = replace(self.objects[key], body=body)

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        body = await _whole_body(incoming)
        headers = {name.lower(): value for name, value in incoming.headers.items()}
        request = Request(incoming.method, incoming.raw_path, headers, body)
        self.requests.append(f"{request.method} {request.target}")
        trouble = self._meets(request)
        try:
            answer = self._answer(request, trouble)
        except Refused as refused:
            answer = self._error(refused)
        return await _send(incoming, answer)

    def _meets(self, request: Request) -> Trouble | None:
        trouble = self._trouble
        if trouble is None or (self._methods and request.method not in self._methods):
            return None
        if self._of not in request.target or self._times == 0:
            return None
        if self._times is not None:
            self._times -= 1
        return trouble

    def _answer(self, request: Request, trouble: Trouble | None) -> Answer:
        if trouble is None:
            return _ranged(self._serve(request), request)
        if trouble.spoils == "range":
            return self._serve(request)
        if trouble.spoils:
            return _spoilt(_ranged(self._serve(request), request), trouble.spoils, request)
        if trouble.applied:
            with contextlib.suppress(Refused):
                self._serve(request)
        if trouble.body is not None:
            return Answer(trouble.status, trouble.headers, trouble.body)
        refused = Refused(trouble.status, trouble.code, "So it was ordered.", **trouble.elements)
        return self._error(refused).with_headers(**trouble.headers)

    def _error(self, refused: Refused) -> Answer:
        inner = {"Code": refused.code, "Message": refused.message, **refused.elements}
        namespace = NAMESPACE if self.profile.namespaced_errors else ""
        return _xml("Error", _elements(inner), namespace, status=refused.status)

    def _serve(self, request: Request) -> Answer:
        guard = Guard(self.secrets, self.profile.regions, self.clock_ahead)
        try:
            guard.check(request)
        except Refused as refused:
            if refused.code == "InvalidAccessKeyId":
                raise Refused(*self.profile.bad_token, "No such key.") from refused
            raise
        bucket, _, key = unquote(request.path).removeprefix("/").partition("/")
        if bucket != self.bucket:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        query = dict(request.query)
        return self._on_object(request, key, query) if key else self._on_bucket(request, query)

    # --- the bucket ------------------------------------------------------------------------------

    def _on_bucket(self, request: Request, query: Mapping[str, str]) -> Answer:
        if request.method == "HEAD":
            return Answer(headers={"x-amz-bucket-region": min(self.profile.regions)})
        if request.method == "GET" and "uploads" in query:
            return self._list_uploads()
        if request.method == "GET" and "location" in query:
            return _xml("LocationConstraint", min(self.profile.regions))
        if request.method == "GET":
            return self._list(query)
        raise Refused(405, "MethodNotAllowed", "Not on a bucket")

    def _list(self, query: Mapping[str, str]) -> Answer:
        keys = self.generated or sorted(self.objects)
        prefix = query.get("prefix", "")
        after = query.get("start-after", "")
        if token := query.get("continuation-token", ""):
            after = base64.urlsafe_b64decode(token).decode()
        size = min(int(query.get("max-keys", PAGE)), PAGE)
        first = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        ahead = itertools.takewhile(
            lambda key: key.startswith(prefix), (keys[at] for at in range(first, len(keys)))
        )
        page = list(itertools.islice(ahead, size + 1))
        more, page = len(page) > size, page[:size]
        told = {"Name": self.bucket, "KeyCount": str(len(page)), "IsTruncated": str(more).lower()}
        if more and page:
            told["NextContinuationToken"] = base64.urlsafe_b64encode(page[-1].encode()).decode()
        if encoded := query.get("encoding-type") == "url":
            told["EncodingType"] = "url"
        contents = "".join(self._listed(key, encoded) for key in page)
        return _xml("ListBucketResult", _elements(told) + contents, NAMESPACE)

    def _listed(self, key: str, encoded: bool) -> str:
        kept = self.objects.get(key) or Kept(b"", '"generated"', {})
        told = {
            "Key": quote(key, safe="/") if encoded else key,
            "LastModified": _moment(kept.modified_at),
            "ETag": kept.etag,
            "Size": str(len(kept.body)),
            "StorageClass": kept.headers.get("x-amz-storage-class", "STANDARD"),
        }
        return f"<Contents>{_elements(told)}</Contents>"

    def _list_uploads(self) -> Answer:
        told = "".join(
            f"<Upload>{_elements({'Key': up.key, 'UploadId': upload_id})}"
            f"<Initiated>{_moment(up.initiated_at)}</Initiated></Upload>"
            for upload_id, up in sorted(self.uploads.items())
        )
        told = _elements({"Bucket": self.bucket, "IsTruncated": "false"}) + told
        return _xml("ListMultipartUploadsResult", told, NAMESPACE)

    # --- objects ---------------------------------------------------------------------------------

    def _on_object(self, request: Request, key: str, query: Mapping[str, str]) -> Answer:
        if "uploads" in query or "uploadId" in query:
            return self._on_upload(request, key, query)
        if request.method == "PUT":
            return self._put(request, key)
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return Answer(204)
        if request.method in ("GET", "HEAD"):
            return self._get(request, key)
        raise Refused(405, "MethodNotAllowed", "Not on an object")

    def _put(self, request: Request, key: str) -> Answer:
        kept = self._received(request)
        only_new = self.profile.verifies and request.headers.get("if-none-match") == "*"
        if only_new and key in self.objects:
            raise Refused(412, "PreconditionFailed", "There is one already")
        self.objects[key] = kept
        told = {"ETag": kept.etag}
        if kept.sha256:
            told["x-amz-checksum-sha256"] = kept.sha256
        return Answer(headers=told)

    def _received(self, request: Request) -> Kept:
        """The body of a put or of a part, after what was announced of it held."""
        headers = request.headers
        etag = f'"{hashlib.md5(request.body).hexdigest()}"'
        if not self.profile.verifies:
            return Kept(request.body, etag, _to_keep(headers))
        announced = headers.get("x-amz-checksum-sha256")
        if announced not in (None, _base64(hashlib.sha256(request.body).digest())):
            raise Refused(400, "XAmzContentChecksumMismatch", "Not the bytes that were announced")
        if headers.get("content-md5", md5 := _base64(hashlib.md5(request.body).digest())) != md5:
            raise Refused(400, "BadDigest", "The Content-MD5 you specified did not match")
        return Kept(request.body, etag, _to_keep(headers), announced)

    def _get(self, request: Request, key: str) -> Answer:
        if key not in self.objects:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        kept = self.objects[key]
        if self.profile.verifies and request.headers.get("if-match", kept.etag) != kept.etag:
            raise Refused(412, "PreconditionFailed", "It was changed")
        told = {"ETag": kept.etag, "Accept-Ranges": "bytes", **kept.headers}
        told["Last-Modified"] = format_datetime(kept.modified_at, usegmt=True)
        if kept.sha256 and request.headers.get("x-amz-checksum-mode") == "ENABLED":
            told["x-amz-checksum-sha256"] = kept.sha256
            told["x-amz-checksum-type"] = "COMPOSITE" if "-" in kept.sha256 else "FULL_OBJECT"
        return Answer(headers=told, body=kept.body)

    # --- multipart -------------------------------------------------------------------------------

    def _on_upload(self, request: Request, key: str, query: Mapping[str, str]) -> Answer:
        if request.method == "POST" and "uploads" in query:
            return self._begin(request, key)
        upload_id = query.get("uploadId", "")
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist")
        if request.method == "PUT":
            part = upload.parts[int(query["partNumber"])] = self._received(request)
            return Answer(headers={"ETag": part.etag})
        if request.method == "POST":
            return self._complete(upload_id, upload, request.body)
        if request.method == "DELETE":
            del self.uploads[upload_id]
            return Answer(204)
        raise Refused(405, "MethodNotAllowed", "Not on an upload")

    def _begin(self, request: Request, key: str) -> Answer:
        upload_id = next(self._upload_ids)
        self.uploads[upload_id] = Upload(key, _to_keep(request.headers))
        told = {"Bucket": self.bucket, "Key": key, "UploadId": upload_id}
        return _xml("InitiateMultipartUploadResult", _elements(told), NAMESPACE)

    def _complete(self, upload_id: str, upload: Upload, body: bytes) -> Answer:
        parts = [self._named_part(upload, element) for element in _parts_in(body)]
        sizes = [len(part.body) for part in parts]
        if not parts or any(size < self.profile.smallest_part for size in sizes[:-1]):
            raise Refused(400, "EntityTooSmall", "A part but the last is too small")
        if self.profile.equal_parts and (len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]):
            text = "All non-trailing parts must have the same length."
            raise Refused(400, "InvalidPart", text)
        kept = self.objects[upload.key] = _joined(parts, upload.headers)
        del self.uploads[upload_id]
        told = {"Bucket": self.bucket, "Key": upload.key, "ETag": kept.etag}
        if kept.sha256:
            told["ChecksumSHA256"] = kept.sha256
        return _xml("CompleteMultipartUploadResult", _elements(told), NAMESPACE)

    def _named_part(self, upload: Upload, element: ElementTree.Element) -> Kept:
        part = upload.parts.get(int(element.findtext("{*}PartNumber", "0")))
        if part is None or element.findtext("{*}ETag", "").strip('"') != part.etag.strip('"'):
            raise Refused(400, "InvalidPart", "One or more of the parts could not be found")
        return part


def _parts_in(body: bytes) -> list[ElementTree.Element]:
    try:
        return ElementTree.fromstring(body).findall("{*}Part")
    except ElementTree.ParseError:
        raise Refused(400, "MalformedXML", "The XML you provided was not well-formed") from None


def _joined(parts: list[Kept], headers: Mapping[str, str]) -> Kept:
    """The object that parts make: its ETag and its SHA-256 are those of the parts' own."""
    md5 = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)).hexdigest()
    sums = [base64.b64decode(part.sha256) for part in parts if part.sha256]
    composite = f"{_base64(hashlib.sha256(b''.join(sums)).digest())}-{len(parts)}"
    whole = b"".join(part.body for part in parts)
    return Kept(
        whole, f'"{md5}-{len(parts)}"', headers, composite if len(sums) == len(parts) else None
    )


def _to_keep(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name in KEPT_HEADERS or name.startswith("x-amz-meta-")
    }


# --- answers -------------------------------------------------------------------------------------


def _ranged(answer: Answer, request: Request) -> Answer:
    """The part of it that was asked for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not found or found[0] == "bytes=-" or "Accept-Ranges" not in answer.headers:
        return answer
    size = len(answer.body)
    if found[1]:
        start, stop = int(found[1]), min(int(found[2] or size - 1) + 1, size)
    else:
        start, stop = max(size - int(found[2]), 0), size
    if start >= stop:
        raise Refused(416, "InvalidRange", "The requested range is not satisfiable")
    told = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return replace(answer.with_headers(**told), status=206, body=answer.body[start:stop])


def _spoilt(answer: Answer, how: str, request: Request) -> Answer:
    """What comes of a good answer."""
    body = answer.body
    if how == "etag":
        return answer.with_headers(ETag='"0xNotAnMD5"') if "ETag" in answer.headers else answer
    if how == "complete" and request.method == "POST" and b"CompleteMultipart" in body:
        told = {"Code": "InternalError", "Message": "We encountered an internal error."}
        return _xml("Error", _elements(told))
    if how == "complete" or request.method != "GET" or not body:
        return answer
    if how == "short":
        return replace(answer, cut=len(body) // 2)
    if how == "long":
        return replace(answer, body=body + b"and more")
    return replace(answer, body=bytes([body[0] ^ 0xFF]) + body[1:])


def _xml(name: str, inner: str, namespace: str = "", *, status: int = 200) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}{namespace}>{inner}</{name}>'
    return Answer(status, {"Content-Type": "application/xml"}, text.encode())


def _elements(told: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in told.items())


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _whole_body(incoming: web.BaseRequest) -> bytes:
    if incoming.headers.get("expect") == "100-continue" and incoming.transport is not None:
        incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces = [piece async for piece in incoming.content.iter_any()]
    return b"".join(pieces)


async def _send(incoming: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    if answer.status != 204:
        response.content_length = len(answer.body)
    await response.prepare(incoming)
    if incoming.method == "HEAD":
        return response
    await response.write(answer.body[: answer.cut])
    if answer.cut is not None and incoming.transport is not None:
        response.force_close()
        incoming.transport.close()
    return response
