"""S3's answers in XML: some words, and rows that are all alike.

They are read as they come, a piece at a time: a page of a thousand keys takes a few milliseconds,
and nobody's stream waits for the whole of them. Names are read without their namespace, since some
servers leave it away. A document type is refused, and with it every entity that anybody could
declare; what is no XML at all, such as the page of a network's log-in, is refused as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from xml.parsers import expat


def moment(text: str) -> datetime:
    """A time that a row tells; UTC, if it names no zone. Raises `ValueError`."""
    told = datetime.fromisoformat(text)
    return told if told.tzinfo else told.replace(tzinfo=UTC)


ROWS: dict[str, dict[str, Callable[[str], object]]] = {  # what must stand in them, and be read
    "Contents": {"Key": str, "Size": int, "LastModified": moment},
    "CommonPrefixes": {"Prefix": str},
    "Upload": {"Key": str, "UploadId": str, "Initiated": moment},
}

Row = dict[str, str]


class NotAnAnswer(Exception):
    """What came is nothing that an S3 says."""


class Answered:
    """What an answer says: `words` of its own, and `rows` of each kind in their order.

    Of a row only what stands directly in it is kept, all of it as text.
    """

    def __init__(self) -> None:
        self.root = ""
        self.words: Row = {}
        self.rows: defaultdict[str, list[Row]] = defaultdict(list)
        self._depth = 0
        self._row: Row | None = None
        self._text = ""
        self._parser = expat.ParserCreate("utf-8")  # whatever it says of itself
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = _refuse
        self._parser.EntityDeclHandler = _refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._say

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes. Raises `NotAnAnswer`."""
        self._parse(piece)

    def finish(self) -> Answered:
        """Itself, read to its end. Raises `NotAnAnswer` if that has not come."""
        self._parse(b"", last=True)
        return self

    def expect(self, word: str) -> None:
        """Raises `NotAnAnswer` unless it says that. (What its root is called proves nothing: some
        servers have names of their own.)"""
        _expect([word], self.words)

    def _parse(self, piece: bytes, *, last: bool = False) -> None:
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            raise NotAnAnswer(expat.ErrorString(error.code)) from error

    def _start(self, name: str, _attributes: object) -> None:
        self._depth += 1
        self._text = ""
        if self._depth == 1:
            self.root = _local(name)
        elif self._depth == 2 and _local(name) in ROWS:
            self._row = {}

    def _say(self, text: str) -> None:
        self._text += text

    def _end(self, name: str) -> None:
        if self._depth == 3 and self._row is not None:
            self._row[_local(name)] = self._text
        elif self._depth == 2:
            self._close(_local(name))
        self._depth -= 1

    def _close(self, name: str) -> None:
        if self._row is None:
            self.words[name] = self._text
        else:
            _expect(ROWS[name], self._row)
            _check(ROWS[name], self._row)
            self.rows[name].append(self._row)
            self._row = None


def _expect(names: Iterable[str], found: Row) -> None:
    for name in names:
        if name not in found:
            raise NotAnAnswer(f"it does not tell {name}")


def _check(forms: Mapping[str, Callable[[str], object]], row: Row) -> None:
    for name, form in forms.items():
        try:
            form(row[name])
        except ValueError as error:
            raise NotAnAnswer(f"{name} cannot be read") from error


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _refuse(*_: object) -> None:
    raise NotAnAnswer("it has a document type")
