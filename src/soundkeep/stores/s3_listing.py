"""The objects of a bucket in the order of their bytes, a page at a time.

S3 promises that order, and then a list is one request for each thousand objects. A server that
keeps directories, as SeaweedFS does, gives `a/b` before `a-b`, and goes on after `a-b` without
`a/b`. Which kind it is is tried, not believed; the second kind is walked directory by directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import unquote_plus

from soundkeep.errors import PermissionDenied, Unavailable
from soundkeep.stores.s3_answers import Answered, Row, moment
from soundkeep.stores.s3_parts import Part
from soundkeep.stores.s3_requests import Requests


@dataclass(frozen=True, slots=True)
class Found:
    """An object, as a list tells of it."""

    key: str
    size_bytes: int
    etag: str | None
    modified_at: float


Objects = AsyncGenerator[Found, None]

IN_ORDER = ("a-b", "a/b")  # as bytes; by directories it is the other way round


class Listing:
    """Lists one bucket. Under `trial` it may put two tiny objects of its own."""

    def __init__(self, requests: Requests, trial: str) -> None:
        self._requests = requests
        self._trial = [f"{trial}{name}" for name in IN_ORDER]
        self._trying = asyncio.Lock()
        self._in_order: bool | None = None

    async def objects(self, prefix: str, after: str) -> Objects:
        """Those whose names begin with `prefix` and come after `after`."""
        if await self._is_in_order():
            found = self._flat(prefix, after)
        else:
            found = self._walk(prefix[: prefix.rfind("/") + 1], prefix, after)
        async with aclosing(found) as objects:
            async for each in objects:
                yield each

    async def _flat(self, prefix: str, after: str) -> Objects:
        async for page in self._pages({"prefix": prefix, "start-after": after}):
            for row in page.rows["Contents"]:
                yield _found(page, row)

    # --- by directories ---------------------------------------------------------------------

    async def _walk(self, directory: str, prefix: str, after: str) -> Objects:
        """One directory. A directory in it waits for its turn: names that begin as its own and
        go on with a character before the slash come first, though the server gives them later."""
        waiting: list[str] = []
        async for name, found in self._level(directory, prefix, after):
            while waiting and waiting[-1] < name:
                async for each in self._below(waiting.pop(), after):
                    yield each
            if found is None:
                waiting.append(name)
            elif name > after:
                yield found
        while waiting:
            async for each in self._below(waiting.pop(), after):
                yield each

    async def _below(self, directory: str, after: str) -> Objects:
        """What lies in a directory, unless all of it comes before."""
        if directory > after or after.startswith(directory):
            async for each in self._walk(directory, directory, after):
                yield each

    async def _level(
        self, directory: str, prefix: str, after: str
    ) -> AsyncGenerator[tuple[str, Found | None], None]:
        """Objects and directories in one directory as the server gives them: by name, without
        the slash at the end of a directory's."""
        start = _early_enough(directory, after)
        async for page in self._pages({"prefix": prefix, "start-after": start, "delimiter": "/"}):
            entries: dict[str, Found | None]
            entries = {_name(page, row["Prefix"]): None for row in page.rows["CommonPrefixes"]}
            objects = (_found(page, row) for row in page.rows["Contents"])
            entries |= {found.key: found for found in objects}
            for name in sorted(entries, key=lambda name: name.removesuffix("/")):
                yield name, entries[name]

    # --- which kind it is -------------------------------------------------------------------

    async def _is_in_order(self) -> bool:
        async with self._trying:
            if self._in_order is None:
                self._in_order = await self._try()
            return self._in_order

    async def _try(self) -> bool:
        """By two objects that stay there. Where nothing may be put, S3's promise is believed."""
        try:
            if sorted(await self._tried()) != self._trial:
                for key in self._trial:
                    await self._requests.put_part(key, Part.of(b""), {})
            return await self._tried() == self._trial
        except PermissionDenied:
            return True

    async def _tried(self) -> list[str]:
        found = self._flat(self._trial[0].removesuffix(IN_ORDER[0]), "")
        return [each.key async for each in found]

    async def _pages(self, asked: Row) -> AsyncGenerator[Answered, None]:
        """Raises `Unavailable` for a list that says that it goes on and not where."""
        asked = {"list-type": "2", "encoding-type": "url"} | {k: v for k, v in asked.items() if v}
        token: str | None = None
        while True:
            page = await self._requests.ask("GET", "", "IsTruncated", asked)
            assert page is not None, "no refusal is fine"
            yield page
            if page.words.get("IsTruncated") != "true":
                return
            before, token = token, page.words.get("NextContinuationToken")
            if token in (None, "", before):
                raise Unavailable(f"{self._requests.name}: the list breaks off")
            asked = {**asked, "continuation-token": token}


def _found(page: Answered, row: Row) -> Found:
    modified_at = moment(row["LastModified"]).timestamp()
    return Found(_name(page, row["Key"]), int(row["Size"]), row.get("ETag"), modified_at)


def _name(page: Answered, text: str) -> str:
    """XML cannot hold every name, so we ask for them encoded; not every server hears it."""
    return unquote_plus(text) if page.words.get("EncodingType") == "url" else text


def _early_enough(directory: str, after: str) -> str:
    """Where to start in a directory so that nothing after `after` is left out.

    For `song.mp3` that is before `song`, since a directory `song/` comes after it as bytes and
    before it by name.
    """
    if not after.startswith(directory):
        return ""
    name = after[len(directory) :].partition("/")[0]
    ends = (at for at, character in enumerate(name) if at and character < "/")
    return directory + name[: next(ends, len(name))][:-1]
