"""The objects of a bucket at Supabase in the order of their bytes, a page at a time.

Its newer list (`list-v2`) has that order. A server that does not know it is walked folder by folder
with the older one, which sorts without regard to capitals and goes on by counting: each folder is
held whole and sorted here, and folders whose names differ in nothing but capitals are mixed up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from soundkeep.errors import Misconfigured, Unavailable, Unsupported
from soundkeep.stores.interface import Stat
from soundkeep.stores.supabase_requests import Requests

LISTED_AT_ONCE = 1000  # as many as there are
PLACEHOLDER = ".emptyFolderPlaceholder"  # the dashboard's way to keep an empty folder

Stats = AsyncGenerator[Stat, None]


class Listing:
    """Lists one bucket."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._has_the_newer = True  # until it says otherwise

    async def objects(self, prefix: str, after: str) -> Stats:
        """Those whose names begin with `prefix` and come after `after`."""
        if self._has_the_newer:
            self._has_the_newer = await self._knows_the_newer()
        found = self._flat(prefix) if self._has_the_newer else self._walk(_folder_of(prefix), after)
        async with aclosing(found) as stats:
            async for stat in stats:
                name = stat.locator
                if name > after and name.startswith(prefix) and not name.endswith(PLACEHOLDER):
                    yield stat

    async def _knows_the_newer(self) -> bool:
        try:
            await self._ask("list-v2", {"prefix": "", "limit": 1, "with_delimiter": False})
        except (Unsupported, Misconfigured):  # a route that is not there; the older one will tell
            return False
        return True

    async def _flat(self, prefix: str) -> Stats:
        asked = {"prefix": prefix, "limit": LISTED_AT_ONCE, "with_delimiter": False}
        cursors = {None, ""}
        while True:
            page = await self._ask("list-v2", asked)
            try:
                for row in page["objects"]:
                    yield _stat(row, row["name"])
                if not page["hasNext"]:
                    return
                cursor = page["nextCursor"]
            except (KeyError, TypeError, ValueError) as error:
                raise self._unreadable() from error
            if cursor in cursors:
                raise self._broken_off()
            cursors.add(cursor)
            asked = {**asked, "cursor": cursor}

    async def _walk(self, folder: str, after: str) -> Stats:
        """What lies in and below a folder, unless all of it comes before."""
        rows = [row async for row in self._rows(folder)]
        entries = {folder + row["name"] + "/" * (row["id"] is None): row for row in rows}
        for name in sorted(entries.keys() - {folder, f"{folder}/"}):  # nothing without a name
            if not name.endswith("/"):
                yield _stat(entries[name], name)
            elif name > after or after.startswith(name):
                async for stat in self._walk(name, after):
                    yield stat

    async def _rows(self, folder: str) -> AsyncGenerator[dict[str, Any], None]:
        """Objects and folders in one folder, with names of their own."""
        by_name = {"column": "name", "order": "asc"}
        asked = {"prefix": folder, "limit": LISTED_AT_ONCE, "sortBy": by_name}
        seen, first = 0, None
        while page := await self._ask("list", {**asked, "offset": seen}):
            try:
                for row in page:
                    yield {**row, "id": row["id"], "name": row["name"].rstrip("/")}
                before, first = first, page[0]["name"]
            except (KeyError, TypeError, AttributeError) as error:
                raise self._unreadable() from error
            if len(page) < LISTED_AT_ONCE:
                return
            if before == first:
                raise self._broken_off()
            seen += len(page)

    async def _ask(self, verb: str, body: Any) -> Any:
        return await self._requests.ask("POST", self._requests.bucket_path(f"object/{verb}"), body)

    def _broken_off(self) -> Unavailable:
        """Also of a list that begins again."""
        return Unavailable(f"{self._requests.name}: the list breaks off")

    def _unreadable(self) -> Unavailable:
        return Unavailable(f"{self._requests.name}: the list cannot be understood")


def _stat(row: dict[str, Any], name: str) -> Stat:
    told = row.get("metadata") or {}
    modified_at = datetime.fromisoformat(row["updated_at"]).timestamp()
    return Stat(name, int(told["size"]), etag=told.get("eTag"), modified_at=modified_at)


def _folder_of(prefix: str) -> str:
    return prefix[: prefix.rfind("/") + 1]
