"""Google's storage as far as its XML API is that of S3: a door before a bucket in SeaweedFS.

The door takes Google's own form of authorisation, of which SeaweedFS knows nothing, and answers in
three things as Google does: a put tells the object's generation, a list is in the order of bytes
(SeaweedFS lists by directories), and no bucket is made by writing into it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import quote

from aiohttp import ClientSession, web
from yarl import URL

from servers.s3_plain import Bucket
from servers.serving import served

BETWEEN_TWO = {"authorization", "connection", "host", "transfer-encoding", "date", "server"}
NO_BUCKET = "<Error><Code>NoSuchBucket</Code><Message>There is no such bucket.</Message></Error>"

_CONTENTS = re.compile(r"<Contents>.*?</Contents>", re.DOTALL)
_KEY = re.compile(r"<Key>(.*?)</Key>", re.DOTALL)
_MORE = re.compile(r"<NextContinuationToken>(.*?)</NextContinuationToken>")


@contextlib.contextmanager
def google_door(bucket: Bucket) -> Iterator[str]:
    """The address where obstore finds this bucket and no other."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path.split("/")[1] != bucket.name:
            await request.read()
            return web.Response(status=404, text=NO_BUCKET, content_type="application/xml")
        async with ClientSession(auto_decompress=False) as session:
            if request.query.get("list-type") == "2":
                return await _listed(session, bucket, request.query)
            return await _passed_on(session, bucket, request)

    with served(handle) as url:
        yield url


async def _passed_on(
    session: ClientSession, bucket: Bucket, request: web.Request
) -> web.StreamResponse:
    async with session.request(
        request.method,
        URL(bucket.endpoint + request.raw_path, encoded=True),
        headers=_kept(request.headers),
        data=request.content if request.body_exists else None,
    ) as answer:
        response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
        if request.method == "PUT":
            response.headers["x-goog-generation"] = "1"
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        return response


async def _listed(session: ClientSession, bucket: Bucket, asked: object) -> web.Response:
    """All pages of SeaweedFS as one, in the order of bytes."""
    prefix, after = (asked.get(name, "") for name in ("prefix", "start-after"))  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    more = ""
    while True:
        query = f"list-type=2&prefix={quote(prefix, safe='')}{more}"
        url = URL(f"{bucket.endpoint}/{bucket.name}?{query}", encoded=True)
        async with session.get(url) as answer:
            text = await answer.text()
        found |= {_KEY.findall(each)[0]: each for each in _CONTENTS.findall(text)}
        token = _MORE.search(text)
        if token is None:
            break
        more = f"&continuation-token={quote(token[1], safe='')}"
    lines = [found[key] for key in sorted(found, key=str.encode) if key > after]
    body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(lines)}</ListBucketResult>"
    return web.Response(text=body, content_type="application/xml")


def _kept(headers: object) -> dict[str, str]:
    pairs = headers.items()  # type: ignore[attr-defined]
    return {name: text for name, text in pairs if name.lower() not in BETWEEN_TWO}
