"""One object in parts: for what is too large for a single PUT.

All parts but the last have one size, as R2 wants it. However many uploads run, few parts are in
flight. What fails or is cancelled on the way is aborted at once; what could not be aborted is
found by `reap`. The object appears when the last call, which names its parts, succeeds, and only
if their bytes have the digest of the source.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

from soundkeep.digest import Digest
from soundkeep.errors import StoreError
from soundkeep.stores.interface import Source
from soundkeep.stores.s3_answers import moment
from soundkeep.stores.s3_checking import NOTE, WRONG, Checking
from soundkeep.stores.s3_parts import Part, parts_of
from soundkeep.stores.s3_requests import Requests
from soundkeep.stores.s3_signing import encoded

MOST_PARTS = 10_000  # of one object, in every S3
PARTS_AT_ONCE = 2  # of one object that are being sent
PARTS_IN_FLIGHT = 4  # of all uploads into one bucket: what is not a file is held in memory
ABORT_SECONDS = 5.0
NO_UPLOAD = ("NoSuchUpload",)  # so rclone also says that there are none
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MARKERS = (("key-marker", "KeyMarker"), ("upload-id-marker", "UploadIdMarker"))  # of a next page

Named = dict[str, str]  # a part that was sent, as the last call names it


class Uploads:
    """Uploads in parts into one bucket."""

    def __init__(self, requests: Requests, part_bytes: int, lie_key: str) -> None:
        self._requests = requests
        self._part_bytes = part_bytes
        self._lie_key = lie_key
        self._checking = Checking()
        self._room = asyncio.Semaphore(PARTS_IN_FLIGHT)

    async def put(self, key: str, source: Source, headers: Mapping[str, str]) -> tuple[str, bool]:
        """Answers the ETag, and whether the server checked every part.

        `headers` are the object's own, such as its type. Raises every `StoreError`, and whatever
        the source raises.
        """
        checked = await self._checking.is_true(self._lie)
        upload = await self._begin(key, headers)
        try:
            return await upload.complete(await self._send_all(upload, source)), checked
        except BaseException:
            await upload.abandon()
            raise

    async def reap(self, prefix: str, older_than: timedelta) -> int:
        """Aborts what was begun so long ago and never completed; answers how many."""
        count, before = 0, datetime.now(UTC) - older_than
        async with aclosing(self._begun_before(prefix, before)) as uploads:
            async for upload in uploads:
                await upload.abort()
                count += 1
        return count

    async def _begun_before(self, prefix: str, before: datetime) -> AsyncGenerator[_Upload, None]:
        asked = {"uploads": "", "prefix": prefix}
        while page := await self._requests.ask("GET", "", "IsTruncated", asked, fine=NO_UPLOAD):
            for row in page.rows["Upload"]:
                if moment(row["Initiated"]) <= before:
                    yield self._upload(row["Key"], row["UploadId"])
            markers = {marker: page.words.get(f"Next{name}", "") for marker, name in MARKERS}
            if page.words.get("IsTruncated") != "true" or markers.items() <= asked.items():
                return
            asked = {**asked, **markers}

    async def _lie(self) -> None:
        """Sends a part that a server which looks at it must refuse, in an upload of its own."""
        upload = await self._begin(self._lie_key, {})
        try:
            await upload.send(1, Part.of(NOTE), checksum=WRONG)
        finally:
            await upload.abandon()

    async def _begin(self, key: str, headers: Mapping[str, str]) -> _Upload:
        headers = {**headers, "x-amz-checksum-algorithm": "SHA256"}
        begun = await self._requests.ask("POST", key, "UploadId", {"uploads": ""}, headers=headers)
        assert begun is not None, "no refusal is fine"
        return self._upload(key, begun.words["UploadId"])

    async def _send_all(self, upload: _Upload, source: Source) -> list[Named]:
        """Sends a few parts at once, while the next is read. Raises `Corrupt` in the end if they
        are not what the source said it was."""
        sent: list[Named] = []
        sending: deque[asyncio.Task[Named]] = deque()
        try:
            async with aclosing(parts_of(source, self._size_of_parts(source))) as parts:
                for number in itertools.count(1):
                    part = await self._next(upload, number, parts)
                    if part is None:
                        break
                    sending.append(part)
                    if len(sending) > PARTS_AT_ONCE:
                        sent.append(await sending.popleft())
            while sending:
                sent.append(await sending.popleft())
        finally:
            await _stop(sending)
        return sent

    async def _next(
        self, upload: _Upload, number: int, parts: AsyncGenerator[Part, None]
    ) -> asyncio.Task[Named] | None:
        """Reads the next part once there is room for it, and begins to send it; None at the end."""
        await self._room.acquire()
        sending = None
        try:
            if (part := await anext(parts, None)) is not None:
                sending = asyncio.create_task(upload.send(number, part))
                sending.add_done_callback(lambda _: self._room.release())
            return sending
        finally:
            if sending is None:
                self._room.release()

    def _size_of_parts(self, source: Source) -> int:
        return max(self._part_bytes, -(-source.size_bytes // MOST_PARTS))

    def _upload(self, key: str, upload_id: str) -> _Upload:
        return _Upload(self._requests, key, upload_id)


@dataclass(frozen=True, slots=True)
class _Upload:
    """One upload that was begun."""

    requests: Requests
    key: str
    upload_id: str

    async def send(self, number: int, part: Part, checksum: Digest | None = None) -> Named:
        """Sends one part, replacing what had its number."""
        query = f"partNumber={number}&uploadId={encoded(self.upload_id)}"
        answer = await self.requests.put_part(self.key, part, {}, query=query, checksum=checksum)
        sha256 = base64.b64encode(part.digest.raw).decode()
        return {"PartNumber": str(number), "ETag": answer["etag"], "ChecksumSHA256": sha256}

    async def complete(self, parts: list[Named]) -> str:
        """Makes them the object; answers its ETag."""
        answer = await self.requests.ask(
            "POST",
            self.key,
            "ETag",
            self._asked,
            headers={"content-type": "application/xml"},
            body=_named(parts),
        )
        assert answer is not None, "no refusal is fine"
        return answer.words["ETag"]

    async def abort(self) -> None:
        """Throws its parts away. One that is gone is success."""
        await self.requests.delete(self.key, self._asked, fine=NO_UPLOAD)

    async def abandon(self) -> None:
        """Aborts it if that can be done now; else `reap` will."""
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                await self.abort()

    @property
    def _asked(self) -> dict[str, str]:
        return {"uploadId": self.upload_id}


def _named(parts: list[Named]) -> bytes:
    """The parts as the last call names them."""
    named = "".join(f"<Part>{_elements(part)}</Part>" for part in parts)
    return (
        f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{named}</CompleteMultipartUpload>'.encode()
    )


def _elements(part: Named) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in part.items())


async def _stop(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
