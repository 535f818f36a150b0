"""One object in parts: for what is too large for a single PUT.

All parts but the last have one size, as R2 wants it. What fails or is cancelled on the way is
aborted at once; what could not be aborted is found by `reap`. The object appears when the last
call, which names its parts, succeeds, and only if their bytes have the digest of the source.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from soundkeep.digest import Digest
from soundkeep.errors import Corrupt, StoreError
from soundkeep.stores.interface import Source
from soundkeep.stores.pieces import exactly, regrouped
from soundkeep.stores.s3_checking import NOTE, WRONG, Checking
from soundkeep.stores.s3_client import Client

MOST_PARTS = 10_000  # of one object, in every S3
PARTS_AT_ONCE = 2  # each held in memory until it is sent
ABORT_SECONDS = 5.0

FIELDS = {  # headers of an object, as the client calls them
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "x-amz-storage-class": "StorageClass",
}

Part = dict[str, Any]  # as the last call names it


class Uploads:
    """Uploads in parts into one bucket."""

    def __init__(self, client: Client, bucket: str, part_bytes: int) -> None:
        self._client = client
        self._bucket = bucket
        self._part_bytes = part_bytes
        self._checking = Checking()

    async def put(self, key: str, source: Source, headers: Mapping[str, str]) -> tuple[str, bool]:
        """Answers the ETag, and whether the server checked every part.

        `headers` are the object's own, such as its type. Raises every `StoreError`, and whatever
        the source raises.
        """
        async with self._begun(key, headers) as upload:
            checked = await self._checking.is_true(upload.lie)
            parts = await self._send_all(upload, source)
            return await upload.complete(parts), checked

    async def reap(self, prefix: str, older_than: timedelta) -> int:
        """Aborts what was begun so long ago and never completed; answers how many."""
        count, before = 0, datetime.now(UTC) - older_than
        async with aclosing(self._begun_before(prefix, before)) as uploads:
            async for upload in uploads:
                await upload.abort()
                count += 1
        return count

    async def _begun_before(self, prefix: str, before: datetime) -> AsyncGenerator[_Upload, None]:
        async with self._client.asked("list uploads") as client:
            pages = client.get_paginator("list_multipart_uploads")
            try:
                async for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                    for found in page.get("Uploads", ()):
                        if found["Initiated"] <= before:
                            yield self._upload(found["Key"], found["UploadId"])
            except client.exceptions.NoSuchUpload:
                return  # so rclone says that there are none

    @asynccontextmanager
    async def _begun(self, key: str, headers: Mapping[str, str]) -> AsyncIterator[_Upload]:
        """An upload that is aborted unless the block succeeds."""
        fields = {FIELDS[name]: value for name, value in headers.items()}
        async with self._client.asked(f"begin {key}") as client:
            begun = await client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256", **fields
            )
        upload = self._upload(key, begun["UploadId"])
        try:
            yield upload
        except BaseException:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(ABORT_SECONDS):
                    await upload.abort()
            raise

    async def _send_all(self, upload: _Upload, source: Source) -> list[Part]:
        """Sends a few parts at once, while the next is read. Raises `Corrupt` in the end if they
        are not what the source said it was."""
        whole, sent = hashlib.sha256(), []
        sending: deque[asyncio.Task[Part]] = deque()
        try:
            async with aclosing(regrouped(exactly(source), self._size_of_parts(source))) as parts:
                async for part in parts:
                    whole.update(part)
                    if len(sending) == PARTS_AT_ONCE:
                        sent.append(await sending.popleft())
                    number = len(sent) + len(sending) + 1
                    sending.append(asyncio.create_task(upload.send(number, part)))
            while sending:
                sent.append(await sending.popleft())
        finally:
            await _stop(sending)
        if whole.digest() != source.digest.raw:
            raise Corrupt(f"the source of {upload.key} does not have the digest that it names")
        return sent

    def _size_of_parts(self, source: Source) -> int:
        return max(self._part_bytes, -(-source.size_bytes // MOST_PARTS))

    def _upload(self, key: str, upload_id: str) -> _Upload:
        return _Upload(self._client, self._bucket, key, upload_id)


@dataclass(frozen=True, slots=True)
class _Upload:
    """One upload that was begun."""

    client: Client
    bucket: str
    key: str
    upload_id: str

    async def send(self, number: int, part: bytes, checksum: Digest | None = None) -> Part:
        """Sends one part, replacing what had its number."""
        digest = base64.b64encode((checksum or Digest.of(part)).raw).decode()
        async with self._asked(f"part {number}") as client:
            answer = await client.upload_part(
                **self._names, PartNumber=number, Body=part, ChecksumSHA256=digest
            )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": digest}

    async def lie(self) -> None:
        """Sends a part that a server which looks at it must refuse; the true one replaces it."""
        await self.send(1, NOTE, WRONG)

    async def complete(self, parts: list[Part]) -> str:
        """Makes them the object; answers its ETag."""
        async with self._asked("complete") as client:
            answer = await client.complete_multipart_upload(
                **self._names, MultipartUpload={"Parts": parts}
            )
        return str(answer["ETag"])

    async def abort(self) -> None:
        """Throws its parts away. One that is gone is success."""
        async with self._asked("abort") as client:
            with contextlib.suppress(client.exceptions.NoSuchUpload):
                await client.abort_multipart_upload(**self._names)

    def _asked(self, what: str) -> AbstractAsyncContextManager[Any]:
        return self.client.asked(f"{what} of {self.key}")

    @property
    def _names(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": self.upload_id}


async def _stop(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
