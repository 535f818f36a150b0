"""Tables of what was spoken elsewhere: taken in once, found by old keys and new, and never paid."""

from __future__ import annotations

import csv
import json
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import LargeBinary, bindparam, create_engine, select, text

from servers.fake_provider import API_KEY, Fake, running
from soundkeep import build, errors
from soundkeep.build.house import House
from soundkeep.catalog import hits, imports, segments
from soundkeep.catalog import speeches as speech_rows
from soundkeep.catalog.schema import speeches
from soundkeep.catalog.speeches import Speech
from soundkeep.catalog.tracks import Query
from soundkeep.settings import Settings
from soundkeep.speech.asked import Asked
from soundkeep.speech.request import speech_request
from soundkeep.speech.table_import import Became
from soundkeep.speech.tables import Entry, Line, Mapped, Table, csv_table, database_table
from sounds import wav

SOUND = wav(200_000, 1)
TWO = "The first paragraph.\n\nAnd the second one."
OLD_KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture(scope="module")
def provider() -> Iterator[Fake]:
    with running("servers.fake_openai") as fake:
        yield fake


@pytest.fixture(scope="module")
def take(provider: Fake) -> bytes:
    """A sound in the engine's own master format, paid for elsewhere."""
    body = {"model": "tts-1", "voice": "nova", "input": TWO, "response_format": "mp3"}
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    url = f"{provider.url}/v1/audio/speech"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: bytes = answer.read()
        return found


@pytest.fixture
def fake(provider: Fake, take: bytes) -> Fake:
    provider.reset()
    return provider


@pytest.fixture
async def house(
    fake: Fake, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.setenv("KEY_OF_THE_FAKE", API_KEY)
    engine = {
        "kind": "openai",
        "base_url": f"{fake.url}/v1",
        "api_key": "env:KEY_OF_THE_FAKE",
        "price": 1000,
        "voices": ["nova"],
        "captions": False,
    }
    settings = Settings(
        data=tmp_path / "data",
        catalog=database_url,
        speech={"engines": {"fake": engine}},
        outbound={"allow": ["127.0.0.1/32"]},
    )
    async with build.opened(settings) as house:
        yield house


@pytest.fixture
def files(tmp_path: Path, take: bytes) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "take.mp3").write_bytes(take)
    (folder / "sound.wav").write_bytes(SOUND)
    (folder / "words.txt").write_text("no sound at all")
    return folder


def table_of(folder: Path, *rows: dict[str, Any]) -> Table:
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return csv_table(path)


async def entries(table: Table, said: str = "", **defaults: str) -> list[Entry]:
    """Every line, understood; `said` is as `--map` has it."""
    mapping = dict(pair.split("=") for pair in said.split(",") if pair)
    try:
        await table.open()
        mapped = Mapped(table.columns, mapping, {"owner": "admin", **defaults})
        async with aclosing(table.lines()) as lines:
            return [mapped.entry(line) async for line in lines]
    finally:
        await table.close()


async def taken(house: House, files: Path, *rows: dict[str, Any], said: str = "") -> list[Became]:
    found = await entries(table_of(files, *rows), said)
    return [await house.tables.take(entry, files) for entry in found]


async def found_by(house: House, key: str) -> Speech:
    found = await house.keep.catalog.read(speech_rows.find, key)
    assert found is not None
    return found


async def heard(house: House, **fields: Any) -> bytes:
    """What somebody hears who asks for it now, who must not be the first."""
    answer = await house.speeches.say(speech_request({"voice": "nova", "model": "tts-1", **fields}))
    assert answer.hit
    async with aclosing(answer.pieces()) as pieces:
        return b"".join([piece async for piece in pieces])


# --- found again ----------------------------------------------------------------------------


async def test_an_imported_text_is_found_as_the_api_asks_and_as_gateways_do_without_a_call(
    house: House, fake: Fake, files: Path, take: bytes
) -> None:
    row = {"text": TWO, "voice": "nova", "model": "tts-1", "file_path": "take.mp3"}
    assert await taken(house, files, row) == [Became.TAKEN]
    assert await heard(house, text=TWO) == take
    assert await heard(house, text=TWO, segment_by="limit") == take
    said = await house.generation.ask(
        Asked("fake", "tts-1", "nova", TWO, None, 1, {}, "mp3"), "anna"
    )
    assert said.hit
    assert fake.charges()["calls"] == 0


async def test_the_old_key_finds_the_speech_and_its_statistics_come_along(
    house: House, fake: Fake, files: Path
) -> None:
    row = {
        "contentHash": OLD_KEY,
        "voiceId": "nova",
        "storage_url": "sound.wav",
        "metadata": json.dumps({"cacheHits": 7, "lastAccessedAt": "2026-10-05T12:00:00Z"}),
    }
    assert await taken(house, files, row) == [Became.TAKEN]
    found = await found_by(house, OLD_KEY)
    assert (found.key, found.hits, found.segments) == (OLD_KEY, 7, ())
    last = select(speeches.c.last_heard_at)
    assert await house.keep.catalog.read(lambda tx: tx.run(last).scalar_one()) == 1791201600
    [voice] = (await house.keep.catalog.read(hits.figures)).voices
    assert (voice.engine, voice.voice, voice.hits) == ("fake", "nova", 7)
    assert fake.charges()["calls"] == 0


async def test_the_old_key_and_the_new_ones_find_the_same_speech(
    house: House, fake: Fake, files: Path, take: bytes
) -> None:
    row = {"content_hash": OLD_KEY, "text": TWO, "voice": "nova", "audio_url": "take.mp3"}
    assert await taken(house, files, row) == [Became.TAKEN]
    found = await found_by(house, OLD_KEY)
    chosen = await house.speeches.chooser.choose(
        speech_request({"text": TWO, "voice": "nova", "model": "tts-1"})
    )
    assert found.key == chosen.key
    segment = await house.keep.catalog.read(segments.find, OLD_KEY)
    assert segment is not None
    assert (segment.text, segment.digest, segment.cost.amount) == (TWO, found.digest, len(TWO))
    assert await heard(house, text=TWO) == take
    assert fake.charges()["calls"] == 0


async def test_a_sound_in_another_format_than_the_master_is_found_by_who_asks_for_that(
    house: House, fake: Fake, files: Path
) -> None:
    row = {"text": TWO, "voice": "nova", "file_path": "sound.wav"}
    assert await taken(house, files, row) == [Became.TAKEN]
    assert await heard(house, text=TWO, format="wav") == SOUND
    assert fake.charges()["calls"] == 0


# --- where sounds lie -----------------------------------------------------------------------


async def test_sounds_come_as_blobs_of_a_libsql_file_and_keep_their_ids(
    house: House, tmp_path: Path, files: Path
) -> None:
    path = tmp_path / "materials.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE audio_materials (nr TEXT, title TEXT, audio_blob BLOB)")
        rows = [(f"material-{n}", f"Number {n}", wav(50_000 + n * 4, n)) for n in range(3)]
        database.executemany("INSERT INTO audio_materials VALUES (?, ?, ?)", rows)
        database.commit()
    table = database_table(f"sqlite:///{path}", "audio_materials")
    for entry in await entries(table, "nr=id"):
        assert await house.tables.take(entry, files) is Became.TAKEN
    for id_, title, sound in rows:
        view = await house.keep.track(id_)
        assert view.track.title == title
        assert b"".join([piece async for piece in house.keep.open(view.track.blob)]) == sound


async def test_sounds_come_as_blobs_of_a_postgresql_table(
    house: House, postgres_url: str, files: Path, take: bytes
) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA app"))
        connection.execute(
            text("CREATE TABLE app.book_audio (words text, who text, sound bytea, at timestamptz)")
        )
        adding = text("INSERT INTO app.book_audio VALUES (:w, 'nova', :s, '2026-10-05')")
        connection.execute(
            adding.bindparams(bindparam("s", type_=LargeBinary)), {"w": TWO, "s": take}
        )
    engine.dispose()
    table = database_table(postgres_url, "app.book_audio")
    [entry] = await entries(table, "words=text,who=voice,sound=audio,at=last_heard")
    assert await house.tables.take(entry, files) is Became.TAKEN
    assert await heard(house, text=TWO) == take


async def test_sounds_come_from_addresses_and_only_through_the_door(
    house: House, files: Path, take: bytes
) -> None:
    async def sound(request: web.Request) -> web.Response:
        return web.Response(body=take)

    app = web.Application()
    app.router.add_get("/a.mp3", sound)
    async with TestServer(app) as server:
        url = str(server.make_url("/a.mp3"))
        assert await taken(house, files, {"content_hash": "a", "cdn_url": url}) == [Became.TAKEN]
    assert (await found_by(house, "a")).digest is not None
    with pytest.raises(errors.BadUrl):
        await taken(house, files, {"content_hash": "b", "cdn_url": "http://10.0.0.1/b.mp3"})


async def test_a_collection_gets_a_track_of_its_speech(house: House, files: Path) -> None:
    row = {
        "text": TWO,
        "voice": "nova",
        "file_path": "take.mp3",
        "bookId": "alice",
        "title": "Chapter 1",
    }
    assert await taken(house, files, row) == [Became.TAKEN]
    [view] = (await house.keep.list(Query("alice/"))).views
    assert view.track.title == "Chapter 1"
    kept = await (
        await house.speeches.say(
            speech_request({"text": TWO, "voice": "nova", "model": "tts-1", "collection": "alice"})
        )
    ).kept()
    assert (await house.speeches.track(kept)).id == view.track.id


# --- again, and not at all ------------------------------------------------------------------


async def test_it_goes_on_where_it_was_and_counts_no_hit_twice(house: House, files: Path) -> None:
    rows = [
        {"content_hash": f"key-{n}", "text": f"Text {n}.", "voice": "nova", "audio": "take.mp3",
         "uses": 3}
        for n in range(4)
    ]  # fmt: skip
    said = "audio=audio,uses=hits"
    assert await taken(house, files, *rows[:2], said=said) == [Became.TAKEN] * 2
    again = await taken(house, files, *rows, said=said)
    assert again == [Became.THERE] * 2 + [Became.TAKEN] * 2
    assert await taken(house, files, *rows, said=said) == [Became.THERE] * 4
    assert (await house.keep.catalog.read(hits.figures)).hits == 12
    assert [(await found_by(house, f"key-{n}")).hits for n in range(4)] == [3] * 4


async def test_a_line_without_a_key_is_known_by_its_text(house: House, files: Path) -> None:
    row = {"text": TWO, "voice": "nova", "file_path": "take.mp3"}
    assert await taken(house, files, row, row) == [Became.TAKEN, Became.THERE]


async def test_a_look_takes_nothing(house: House, files: Path) -> None:
    row = {"content_hash": "a", "text": TWO, "voice": "nova", "file_path": "take.mp3"}
    [entry] = await entries(table_of(files, row))
    assert await house.tables.look(entry, files) is Became.TAKEN
    assert not await house.keep.catalog.read(imports.is_there, "a")
    assert await house.tables.take(entry, files) is Became.TAKEN
    assert await house.tables.look(entry, files) is Became.THERE


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"file_path": ""}, "no audio"),
        ({"file_path": "gone.mp3"}, "no file 'gone.mp3'"),
        ({"file_path": "../../etc/passwd"}, "outside"),
        ({"file_path": "/etc/passwd"}, "outside"),
        ({"file_path": "words.txt"}, "no audio that we know"),
        ({"voice": ""}, "no voice"),
        ({"engine": "other"}, "no engine 'other'"),
        ({"model": "tts-9"}, "no model 'tts-9'"),
        ({"text": "", "content_hash": ""}, "no key, no text and no id"),
        ({"text": "***"}, "can be spoken"),
        ({"metadata": "{"}, "metadata"),
        ({"file_path": "a\0b"}, "no file"),
        ({"file_path": "long" * 1000}, "no file"),
        ({"uses": "many"}, "hits is a number"),
        ({"uses": "nan"}, "hits is a number"),
        ({"uses": "inf"}, "hits is a number"),
        ({"seen": "yesterday"}, "is no date"),
    ],
)
async def test_what_cannot_be_taken_says_why_and_leaves_nothing(
    house: House, fake: Fake, files: Path, cells: dict[str, str], why: str
) -> None:
    row = {
        "content_hash": OLD_KEY, "text": TWO, "voice": "nova", "model": "tts-1", "engine": "fake",
        "file_path": "take.mp3", "metadata": "{}", "uses": "1", "seen": "2026-01-01",
    }  # fmt: skip
    said = "engine=engine,uses=hits,seen=last_heard"
    with pytest.raises((errors.BadInput, errors.EngineRefused), match=why):
        await taken(house, files, row | cells, said=said)
    assert not await house.keep.catalog.read(imports.is_there, OLD_KEY)
    assert (await house.keep.catalog.read(hits.figures)).hits == 0
    inbox = house.keep.settings.inbox_directory / "uploads"
    assert not inbox.exists() or not list(inbox.iterdir())
    assert fake.charges()["calls"] == 0


@pytest.mark.parametrize(
    ("columns", "said", "why"),
    [
        (["text", "voice"], {}, "which column has the audio"),
        (["audio_url", "voice"], {}, "the key, the text or the id"),
        (["audio_url", "text"], {"words": "text"}, "no column 'words'"),
        (["audio_url", "text"], {"text": "colour"}, "no field 'colour'"),
    ],
)
def test_a_table_that_means_nothing_is_refused_before_its_first_line(
    columns: list[str], said: dict[str, str], why: str
) -> None:
    with pytest.raises(errors.SettingsError, match=why):
        Mapped(columns, said, {})


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        ("2024-03-21T14:14:11Z", 1_711_030_451),
        ("20240321", 1_710_979_200),
        ("1711030451", 1_711_030_451),
        ("1711030451.5", 1_711_030_451.5),
        ("1711030451230", 1_711_030_451.23),  # ISO 8601 would be half past twelve in 1711
    ],
)
def test_a_csv_file_says_when_in_any_of_the_usual_ways(seen: str, seconds: float) -> None:
    mapped = Mapped(
        ["id", "audio_url", "seen"], {"id": "id", "seen": "last_heard"}, {"owner": "admin"}
    )
    line = Line(1, {"id": "a", "audio_url": "a.mp3", "seen": seen})
    assert mapped.entry(line).last_heard_at == seconds


async def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(errors.SettingsError, match="no file"):
        await database_table(f"sqlite:///{path}", "t").open()
    assert not path.exists()
