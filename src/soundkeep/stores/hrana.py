"""libSQL over HTTP: statements sent by the Hrana protocol, version 3, a transaction a request.

    POST …/v3/pipeline   a batch: BEGIN, each statement if the one before went well, COMMIT or
                         ROLLBACK; then `close`

So nothing stays open between two requests: Turso ends a transaction after 5 s and forgets a stream
after 10 s, and neither can happen to us while a source is slow. The whole request is there before
its transaction begins.

A statement that fails is an error inside an answer 200; a service in front of the database says
what is wrong by the status alone, maybe in HTML. Of both only the code is repeated.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.expression import ClauseElement

from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    TooLarge,
    Truncated,
    Unavailable,
    Unsupported,
)
from soundkeep.stores.http_bodies import Body, each
from soundkeep.stores.http_service import (
    COMMON,
    Meaning,
    Phases,
    new_session,
    parsed,
    retry_after,
    start_of,
    translated,
)

ANSWER_BYTES = 16 * 1024 * 1024
ERROR_BYTES = 16 * 1024
PIECE_BYTES = 64 * 1024  # of a request; each has its own time

Statement = ClauseElement | CreateTable
Value = int | float | str | bytes | None
Row = tuple[Any, ...]

# The database lets one write at a time; the others are on their way meanwhile. Of sixteen, sqld
# 0.24 was seen to answer none for a minute, or that it is busy.
WRITES_AT_ONCE = 4

NO_DATABASE: Meaning = Misconfigured, "there is no such database"
NO_HRANA: Meaning = Misconfigured, "nothing that speaks Hrana answers at this address"
NO_TABLES: Meaning = Misconfigured, "the database has not the tables of this store"
BAD_TOKEN: Meaning = PermissionDenied, "the token is wrong, has expired, or is missing"
DENIED: Meaning = PermissionDenied, "the token does not allow this"
BLOCKED: Meaning = QuotaExceeded, "the service has blocked this: a quota of its plan is used up"
FULL: Meaning = QuotaExceeded, "the database has no room left"
LARGE: Meaning = TooLarge, "one request is larger than the service takes"
LONG: Meaning = Unavailable, "the answer would be larger than the service gives"
DAMAGED: Meaning = Corrupt, "the database is damaged"
REAPED: Meaning = Unavailable, "what was being written has been reaped"
BUSY: Meaning = Unavailable, "the database is busy"
EXPIRED: Meaning = Unavailable, "the service gave up the transaction"
SLOWER: Meaning = Throttled, "the service asks us to slow down"
LATE: Meaning = TimedOut, "the service gave up waiting"
DOWN: Meaning = Unavailable, "the service cannot serve now"
GARBLED: Meaning = Unavailable, "the answer cannot be understood"
CUT: Meaning = Truncated, "the answer ended too early"
CANNOT: Meaning = Unsupported, "the service cannot do this"

BY_CODE: dict[str, Meaning] = {
    "AUTH_JWT_EXPIRED": BAD_TOKEN,
    "BLOCKED": BLOCKED,
    "SQL_READ_BLOCKED": BLOCKED,
    "SQL_WRITE_BLOCKED": BLOCKED,
    "RESPONSE_TOO_LARGE": LONG,
    "STREAM_EXPIRED": EXPIRED,
    "TRANSACTION_TIMEOUT": EXPIRED,
    "TRANSACTION_BUSY": BUSY,
    "SQL_INPUT_ERROR": NO_TABLES,
    "SQL_PARSE_ERROR": CANNOT,
    "SQLITE_UNKNOWN": NO_TABLES,  # SQLITE_ERROR: there is no such table
    "SQLITE_ERROR": NO_TABLES,
    "SQLITE_BUSY": BUSY,
    "SQLITE_LOCKED": BUSY,
    "SQLITE_CONSTRAINT": REAPED,
    "SQLITE_FULL": FULL,
    "SQLITE_TOOBIG": LARGE,
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": DAMAGED,
    "SQLITE_AUTH": DENIED,
    "SQLITE_PERM": DENIED,
    "SQLITE_READONLY": DENIED,
}  # an `AUTH_…` is a bad token; any other may pass

BY_STATUS: dict[int, Meaning] = {
    401: BAD_TOKEN,
    402: BLOCKED,
    403: DENIED,
    404: NO_DATABASE,
    408: LATE,
    409: BUSY,
    410: NO_DATABASE,
    413: LARGE,
    429: SLOWER,
    504: LATE,
    507: FULL,
}  # all other 5xx may pass; with any other status, what answers is no Hrana

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,60}\Z")
_DIALECT = SQLiteDialect(paramstyle="qmark")


@dataclass(frozen=True, slots=True)
class Answered:
    """What one statement came to."""

    rows: list[Row]
    changed: int  # rows inserted, changed or removed


class Hrana:
    """One database. It opens nothing until it is used."""

    def __init__(self, name: str, url: str, token: str | None, phases: Phases) -> None:
        """`url` begins with http:// or https://."""
        self.name = name
        self._url = f"{url.rstrip('/')}/v3/pipeline"
        self._headers = {**COMMON, "content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._phases = phases
        self._writing = asyncio.Semaphore(WRITES_AT_ONCE)
        self._session: ClientSession | None = None

    async def read(self, *statements: Statement) -> list[Answered]:
        """Runs them at one state of the database. Raises every `StoreError`."""
        return await self._transaction("BEGIN DEFERRED", statements, self._phases.first_byte)

    async def write(self, *statements: Statement) -> list[Answered]:
        """Runs all of them or none. Raises every `StoreError`; if the answer was lost, nobody
        knows which."""
        async with self._writing:
            return await self._transaction("BEGIN IMMEDIATE", statements, self._phases.written)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _transaction(
        self, begin: str, statements: Sequence[Statement], seconds: float
    ) -> list[Answered]:
        steps = _steps(begin, statements)
        pipeline = [{"type": "batch", "batch": {"steps": steps}}, {"type": "close"}]
        sent = msgspec.json.encode({"baton": None, "requests": pipeline})
        said = await self._ask(sent, seconds)
        try:
            return self._results(said, len(statements))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self._error(GARBLED, "") from error

    async def _ask(self, sent: bytes, seconds: float) -> Any:
        """The JSON of an answer 200."""
        if self._session is None:
            self._session = new_session(self._headers)
        with translated(self.name):
            async with self._session.post(
                self._url,
                data=Body(len(sent), lambda: each(_pieces(sent)), self._phases.between_bytes),
                allow_redirects=False,  # a token is for one host
                timeout=ClientTimeout(
                    total=None, sock_connect=self._phases.connect, sock_read=seconds
                ),
            ) as answer:
                if answer.status != 200:
                    raise self._refused(answer, await start_of(answer, ERROR_BYTES))
                return self._json(answer, await start_of(answer, ANSWER_BYTES + 1))

    def _json(self, answer: ClientResponse, body: bytes) -> Any:
        try:
            return parsed(body)
        except ValueError as error:
            if "html" in answer.content_type:
                raise self._error(NO_HRANA, "HTML") from error
            raise self._error(CUT, "") from error

    def _refused(self, answer: ClientResponse, body: bytes) -> StoreError:
        code = _code_in(body)
        meaning = _by_code(code) or BY_STATUS.get(answer.status)
        if meaning is None:
            meaning = DOWN if answer.status >= 500 else NO_HRANA
        if meaning is NO_DATABASE and "json" not in answer.content_type:
            meaning = NO_HRANA  # one that does says which it misses
        said = f"HTTP {answer.status} {code}".strip()
        if meaning is SLOWER:
            return Throttled(f"{self.name}: {SLOWER[1]} ({said})", retry_after(answer.headers))
        return self._error(meaning, said)

    def _results(self, said: Any, count: int) -> list[Answered]:
        """Raises what a statement failed of, and `LookupError` or such for another form."""
        batch = said["results"][0]
        if batch["type"] == "error":
            raise self._failed(batch["error"])
        steps = batch["response"]["result"]
        for error in steps["step_errors"]:
            if error is not None:
                raise self._failed(error)
        results = steps["step_results"]
        if results[count + 1] is None:
            raise self._error(GARBLED, "nothing was committed")
        return [_answered(result) for result in results[1 : count + 1]]

    def _failed(self, error: Any) -> StoreError:
        code = str(error.get("code") or "")
        code = code if _CODE.match(code) else ""
        return self._error(_by_code(code) or DOWN, code)

    def _error(self, meaning: Meaning, said: str) -> StoreError:
        kind, sentence = meaning
        return kind(f"{self.name}: {sentence} ({said})" if said else f"{self.name}: {sentence}")


def _steps(begin: str, statements: Sequence[Statement]) -> list[dict[str, Any]]:
    """Of a batch: a transaction that is rolled back as soon as a step fails."""
    texts = [{"sql": begin}, *map(_encoded, statements), {"sql": "COMMIT"}]
    steps: list[dict[str, Any]] = [{"stmt": {**text, "want_rows": True}} for text in texts]
    for number, step in enumerate(steps[1:]):
        step["condition"] = {"type": "ok", "step": number}
    begun = {"type": "ok", "step": 0}
    done = {"type": "not", "cond": {"type": "ok", "step": len(steps) - 1}}
    rollback = {"type": "and", "conds": [begun, done]}
    return [*steps, {"stmt": {"sql": "ROLLBACK"}, "condition": rollback}]


def _encoded(statement: Statement) -> dict[str, Any]:
    compiled: Any = statement.compile(dialect=_DIALECT)
    names = getattr(compiled, "positiontup", None) or ()
    return {"sql": str(compiled), "args": [_value(compiled.params[name]) for name in names]}


def _value(value: Value) -> dict[str, Any]:
    """An integer goes as text, since JSON has none of 64 bits everywhere."""
    match value:
        case None:
            return {"type": "null"}
        case int():
            return {"type": "integer", "value": str(value)}
        case float():
            return {"type": "float", "value": value}
        case str():
            return {"type": "text", "value": value}
        case bytes():
            return {"type": "blob", "base64": b64encode(value).decode()}


def _answered(result: Any) -> Answered:
    rows = [tuple(_decoded(cell) for cell in row) for row in result["rows"]]
    return Answered(rows, result["affected_row_count"])


def _decoded(cell: Any) -> Value:
    """Base64 comes with its padding or without."""
    match cell["type"]:
        case "null":
            return None
        case "integer":
            return int(cell["value"])
        case "float":
            return float(cell["value"])
        case "text":
            return str(cell["value"])
        case "blob":
            text = cell["base64"]
            return b64decode(text + "=" * (-len(text) % 4), validate=True)
        case kind:
            raise ValueError(f"a value of type {kind}")


def _by_code(code: str) -> Meaning | None:
    if code.startswith("SQLITE_"):  # maybe an extended one: SQLITE_BUSY_SNAPSHOT
        code = "_".join(code.split("_")[:2])
    return BY_CODE.get(code) or (BAD_TOKEN if code.startswith("AUTH_") else None)


def _code_in(body: bytes) -> str:
    """That of an `Error` of the protocol, or of what the service wraps around one."""
    try:
        said = parsed(body)
        code = said.get("code") or said["error"]["code"]
    except (AttributeError, LookupError, TypeError, ValueError):
        return ""
    return code if isinstance(code, str) and _CODE.match(code) else ""


def _pieces(sent: bytes) -> list[memoryview]:
    whole = memoryview(sent)
    return [whole[at : at + PIECE_BYTES] for at in range(0, len(sent), PIECE_BYTES)]
