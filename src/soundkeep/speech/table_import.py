"""What was spoken and paid for elsewhere, taken in from a table: nothing is generated for it.

Where a line has the text, its keys are computed, so that whoever asks for it here finds it: as the
API asks (by paragraph) and as gateways do (the whole text, where the engine takes it at once). Its
old key finds it too; where there is no text that is the only one. A line that is there already is
left alone, so an import that was broken off goes on where it was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundkeep.catalog import imports, segments, speeches, tracks
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.hits import Heard
from soundkeep.catalog.speaking import Requested
from soundkeep.catalog.speeches import Speech
from soundkeep.copies.placement import Rules
from soundkeep.errors import BadInput, NotAudio
from soundkeep.intake import claiming, recording
from soundkeep.intake.claiming import Claims
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.inbox import discard_unless_recorded
from soundkeep.intake.recording import Entering, Inbox, NewTrack
from soundkeep.intake.spool import Announced, Landed, Spool
from soundkeep.model import Blob, Lane, Money, Visibility
from soundkeep.settings import Settings
from soundkeep.speech.choosing import Chooser, Chosen
from soundkeep.speech.keys import canonical
from soundkeep.speech.request import CODINGS, DEFAULT_FORMAT, speech_request
from soundkeep.speech.segments import By
from soundkeep.speech.tables import Entry

if TYPE_CHECKING:
    from soundkeep.outbound import Outbound

IMPORTED = "imported"  # where its track lies that has a place in no collection
ASKED_BY: tuple[By, ...] = ("paragraph", "limit")  # the API's way and the gateways'
PIECE_BYTES = 256 * 1024

AddTrack = Callable[[AsyncIterator[bytes], NewTrack, Announced], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class How:
    """What holds for all lines: who may hear a line that has an id alone, and whether what it says
    of its copies is looked at."""

    visibility: Visibility = Visibility.PRIVATE
    claims: Claims | None = None


class Became(StrEnum):
    """What became of a line."""

    TAKEN = "taken"
    THERE = "there already"


class TableImport:
    """Takes entries of foreign tables in, one by one."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        chooser: Chooser,
        spool: Spool,
        examiner: Examiner,
        outbound: Callable[[], Outbound],
        add_track: AddTrack,
        rules: Rules,
        settings: Settings,
    ) -> None:
        self._catalog = catalog
        self._chooser = chooser
        self._spool = spool
        self._examiner = examiner
        self._outbound = outbound
        self._add_track = add_track
        self._rules = rules
        self._settings = settings

    async def take(self, entry: Entry, folder: Path, how: How = How()) -> Became:
        """Takes one line in. Paths lie under `folder`.

        Raises the `SoundkeepError` that says why it cannot be, or a claim of where its copies are,
        and then nothing was recorded.
        """
        became = await self._take(entry, folder, how)
        if became is Became.THERE and how.claims is not None and entry.id is not None:
            said = how.claims.named(entry.claims)
            await self._catalog.write(
                claiming.claim, entry.id, said, entry.urls, how.claims, self._rules
            )
        return became

    async def _take(self, entry: Entry, folder: Path, how: How) -> Became:
        if await self._is_there(entry):
            return Became.THERE
        if entry.key is None and entry.text is None:
            await self._take_track(entry, folder, how)
            return Became.TAKEN
        return await self._take_speech(entry, folder, how)

    async def look(self, entry: Entry, folder: Path) -> Became:
        """What `take` would do, as far as that can be known without reading the sound."""
        if await self._is_there(entry):
            return Became.THERE
        if entry.text is not None:
            await self._chosen(entry, DEFAULT_FORMAT)
        if isinstance(entry.audio, str) and not entry.is_url:
            _file(folder, entry.audio)
        return Became.TAKEN

    async def _is_there(self, entry: Entry) -> bool:
        """By its old key, or by the id that it shall have: no sound is read for that."""
        if entry.key is not None:
            return await self._catalog.read(imports.is_there, entry.key)
        if entry.text is None and entry.id is not None:
            return await self._catalog.read(tracks.find, entry.id) is not None
        return False

    async def _take_track(self, entry: Entry, folder: Path, how: How) -> None:
        new = NewTrack(
            id=entry.id,
            owner=entry.owner,
            path=entry.path,
            title=entry.title,
            visibility=how.visibility,
            metadata=dict(entry.metadata),
            entering=_entering(entry, how),
        )
        async with aclosing(self._pieces(entry, folder)) as pieces:
            await self._add_track(pieces, new, Announced())

    async def _take_speech(self, entry: Entry, folder: Path, how: How) -> Became:
        async with aclosing(self._pieces(entry, folder)) as pieces:
            landed = await self._spool.receive(pieces, Announced())
        try:
            blob = await known_or_examined(self._catalog, self._examiner, landed)
            chosen = await self._chosen(entry, _format_of(blob)) if entry.text else []
            heard = await self._heard(entry, chosen)
        except BaseException:
            self._spool.discard(landed)
            raise
        return await self._record(
            _Brought(entry, blob, chosen, heard, _entering(entry, how)), landed
        )

    async def _record(self, brought: _Brought, landed: Landed) -> Became:
        """As with an upload: what is not recorded is discarded, what may be recorded is not."""
        inbox_settings = self._settings.inbox
        inbox = Inbox(self._settings.inbox_name, landed.key, inbox_settings.linger_seconds)
        try:
            became, needed = await self._catalog.write(_write, brought, inbox, self._rules)
        except Exception:
            await discard_unless_recorded(self._catalog, self._spool, inbox.store, landed)
            raise
        if not needed:
            self._spool.discard(landed)
        return became

    # --- what it is -------------------------------------------------------------------------

    async def _chosen(self, entry: Entry, format_: str) -> list[Chosen]:
        """The speeches that the line's text is, by the ways in which it can be asked for."""
        if entry.speech["voice"] is None:
            raise BadInput("it has a text and no voice: map its column, or give --voice")
        fields = {**entry.speech, "text": entry.text, "format": format_, "owner": entry.owner}
        found: dict[str, Chosen] = {}
        for by in ASKED_BY:
            chosen = await self._chooser.choose(speech_request({**fields, "segment_by": by}))
            found.setdefault(chosen.key, chosen)
        return list(found.values())

    async def _heard(self, entry: Entry, chosen: Sequence[Chosen]) -> Heard:
        """Whose hits they are. (In no currency: nothing was paid for them here.)"""
        if chosen:
            first = chosen[0]
            return Heard(entry.owner, first.engine.name, first.model, first.voice, "")
        engine, _ = await self._chooser.named(entry.speech["engine"])
        said = entry.speech
        return Heard(entry.owner, engine, said["model"] or "", said["voice"] or "", "")

    # --- where its sound is -----------------------------------------------------------------

    async def _pieces(self, entry: Entry, folder: Path) -> AsyncGenerator[bytes, None]:
        """The sound, wherever it lies. Raises `BadUrl`, `UrlUnavailable`, `BadInput`."""
        if isinstance(entry.audio, bytes):
            yield entry.audio
        elif entry.is_url:
            most = self._settings.limits.file_bytes
            async with aclosing(self._outbound().get(entry.audio, most)) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            with _file(folder, entry.audio).open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece


def _entering(entry: Entry, how: How) -> Entering | None:
    """What is recorded with the line's track: what the table claims of its copies."""
    if how.claims is None or entry.id is None:
        return None
    said = how.claims.named(entry.claims)
    return partial(claiming.enter, said=said, urls=entry.urls, claims=how.claims)


def _file(folder: Path, name: str) -> Path:
    """Under the folder that the operator named, and nowhere else."""
    try:
        path = (folder / name).resolve()
        is_there = path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        raise BadInput(f"there is no file {ascii(name)[:80]}") from None
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(f"{ascii(name)[:80]} lies outside of the folder of --files")
    if not is_there:
        raise BadInput(f"there is no file {ascii(name)[:80]}")
    return path


def _format_of(blob: Blob) -> str:
    if blob.sound.extension not in CODINGS:
        raise NotAudio(f"no speech is asked for as {blob.sound.extension}: leave its text away")
    return blob.sound.extension


# --- writing down ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Brought:
    """A line with its sound."""

    entry: Entry
    blob: Blob
    chosen: Sequence[Chosen]
    heard: Heard
    entering: Entering | None

    @property
    def key(self) -> str:
        """The first of its speech's keys."""
        if self.chosen:
            return self.chosen[0].key
        assert self.entry.key is not None  # a line has one, or a text
        return self.entry.key


def _write(tx: Tx, brought: _Brought, inbox: Inbox, rules: Rules) -> tuple[Became, bool]:
    """What became of it, and whether the bytes that landed are needed."""
    entry, blob = brought.entry, brought.blob
    if imports.is_there(tx, brought.key):
        _name(tx, brought)
        return Became.THERE, False
    needed = recording.record_speech(
        tx,
        blob,
        lambda: _write_speeches(tx, brought),
        inbox=inbox,
        rules=rules,
        lane=Lane.BULK,
    )
    _name(tx, brought)
    imports.carry_over(tx, brought.heard, entry.hits)
    if entry.id is not None or entry.collection is not None:
        _write_track(tx, brought, rules)
    return Became.TAKEN, needed


def _write_speeches(tx: Tx, brought: _Brought) -> None:
    entry, digest = brought.entry, brought.blob.digest
    if not brought.chosen:
        format_ = brought.blob.sound.extension
        row = Speech(brought.key, format_, (), digest, None, entry.hits)
        imports.add_speech(tx, row, entry.last_heard_at)
    for chosen in brought.chosen:
        # Only of one take we know where in the sound its text is: of more there are no segments.
        script = chosen.script.to_json() if chosen.is_one_take else None
        row = Speech(
            chosen.key, chosen.output.name, chosen.segment_keys, digest, script, entry.hits
        )
        imports.add_speech(tx, row, entry.last_heard_at)
        if chosen.is_one_take:
            imports.add_segment(tx, _requested(chosen), digest, _worth(chosen), entry.hits)


def _name(tx: Tx, brought: _Brought) -> None:
    """The old key finds what the new ones find."""
    if brought.chosen and brought.entry.key is not None:
        imports.also_known_as(tx, brought.key, [brought.entry.key])
        for chosen in brought.chosen:
            if chosen.is_one_take:
                segments.also_known_as(tx, chosen.segment_keys[0], [brought.entry.key])


def _write_track(tx: Tx, brought: _Brought, rules: Rules) -> None:
    entry = brought.entry
    collection = entry.collection or IMPORTED
    new = NewTrack(
        id=entry.id,
        owner=entry.owner,
        path=entry.path or f"{collection}/{brought.key}.{brought.blob.sound.extension}",
        title=entry.title,
        metadata=dict(entry.metadata),
        entering=brought.entering,
    )
    track = recording.name_kept(tx, new, brought.blob, rules=rules, lane=Lane.BULK)
    speeches.note_track(tx, brought.key, entry.owner, collection, track.id)


def _requested(chosen: Chosen) -> Requested:
    [asked] = chosen.asked
    return Requested(
        key=chosen.segment_keys[0],
        request=canonical(asked).decode(),
        engine=asked.engine,
        model=asked.model,
        voice=asked.voice,
        owner=asked.owner,
        text=asked.text,
    )


def _worth(chosen: Chosen) -> Money:
    """What a hit saves: what it would cost here."""
    bill = chosen.engine.estimate(chosen.asked[0])
    return Money.of(bill.cost, bill.currency)
