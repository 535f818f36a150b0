"""Settings become stores: each kind, relative paths, and the database of its own."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from sqlalchemy.engine import make_url

from servers.sqld import Sqld
from soundkeep.build import opened
from soundkeep.errors import SettingsError
from soundkeep.settings import Settings
from soundkeep.settings.sources import load
from soundkeep.settings.stores import STORE_KINDS, StoreSettings
from soundkeep.stores.database import DatabaseStore
from soundkeep.stores.interface import Key, Store
from soundkeep.stores.kinds import KINDS, check_apart, make_store
from soundkeep.stores.local import LocalStore
from soundkeep.testing import BytesSource
from soundkeep.testing.expecting import read


def made(tmp_path: Path, table: dict[str, Any], catalog_url: str = "sqlite:///c.db") -> Store:
    settings: StoreSettings = TypeAdapter(StoreSettings).validate_python(table)
    return make_store("backup", settings, data=tmp_path / "data", catalog_url=catalog_url)


def test_every_kind_that_can_be_set_can_be_made() -> None:
    assert set(KINDS) >= set(STORE_KINDS)


@pytest.mark.parametrize(
    "table", [{"kind": "memory"}, {"kind": "local", "path": "audio"}, {"kind": "database"}]
)
async def test_a_made_store_works_and_has_what_was_set(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    store = made(tmp_path, table | {"public": True, "max_bytes": 10, "types": ["mp3"]})
    assert (store.name, store.caps.public, store.caps.max_bytes) == ("backup", True, 10)
    assert store.caps.types == frozenset({"mp3"})
    assert not (tmp_path / "data").exists()
    await store.write_marker("id-1")
    await store.put(Key("x"), BytesSource(b"x"))
    assert await read(store, "x") == b"x"
    await store.close()


def test_relative_paths_lie_under_the_data_directory(tmp_path: Path) -> None:
    relative = made(tmp_path, {"kind": "local", "path": "audio"})
    absolute = made(tmp_path, {"kind": "local", "path": "/srv/audio"})
    assert isinstance(relative, LocalStore)
    assert isinstance(absolute, LocalStore)
    assert (relative.path, absolute.path) == (tmp_path / "data/audio", Path("/srv/audio"))


@pytest.mark.parametrize(
    ("table", "file"), [({}, "data/backup.db"), ({"path": "deep/b.db"}, "data/deep/b.db")]
)
async def test_a_database_store_on_sqlite_has_a_file_of_its_own(
    tmp_path: Path, table: dict[str, str], file: str
) -> None:
    store = made(tmp_path, {"kind": "database", **table})
    await store.write_marker("id-1")
    assert (tmp_path / file).is_file()
    await store.close()


async def test_beside_a_catalog_on_postgresql_it_has_a_schema_of_its_own(
    tmp_path: Path, postgres_url: str
) -> None:
    store = made(tmp_path, {"kind": "database", "schema": "own"}, catalog_url=postgres_url)
    await store.write_marker("id-1")
    again = DatabaseStore("again", postgres_url, schema="own")
    assert await again.read_marker() == "id-1"
    await again.close()
    await store.close()
    assert not (tmp_path / "data").exists()


async def test_a_url_wins_over_the_catalogs_database(tmp_path: Path, postgres_url: str) -> None:
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    store = made(tmp_path, {"kind": "database", "url": url})
    await store.write_marker("id-1")
    assert await store.read_marker() == "id-1"
    await store.close()


# --- s3 -------------------------------------------------------------------------------------

S3 = {"kind": "s3", "bucket": "audio", "access_key": "env:KEY_ID", "secret_key": "file:/no/file"}


def test_credentials_written_into_settings_are_refused_and_not_repeated() -> None:
    for field in ("access_key", "secret_key", "session_token"):
        with pytest.raises(SettingsError, match="env:NAME or file:PATH") as refused:
            settings_with(S3 | {field: "a-plain-text"})
        assert "a-plain-text" not in str(refused.value)


def test_credentials_that_are_not_there_are_named_when_the_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="KEY_ID"):
        made(tmp_path, S3)
    monkeypatch.setenv("KEY_ID", "somebody")
    with pytest.raises(SettingsError, match="/no/file"):
        made(tmp_path, S3)


async def test_a_bucket_without_an_endpoint_is_one_of_aws_in_its_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whispered\n")
    monkeypatch.setenv("KEY_ID", "somebody")
    table = S3 | {"secret_key": f"file:{secret}", "region": "eu-west-3", "prefix": "sounds/"}
    for style, start in (
        ("path", "https://s3.eu-west-3.amazonaws.com/audio/sounds/x?"),
        ("virtual", "https://audio.s3.eu-west-3.amazonaws.com/sounds/x?"),
    ):
        store = made(tmp_path, table | {"style": style})
        url = await store.sign("x", timedelta(minutes=1)) or ""
        assert url.startswith(start)
        assert "eu-west-3%2Fs3" in url
        assert "whispered" not in url
        await store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "no/bucket"},
        {"endpoint": "localhost:9000"},
        {"endpoint": "https://user:pass@example.org"},
        {"prefix": "../other"},
        {"prefix": "a//b"},
        {"style": "both"},
        {"part_bytes": 1024},
        {"single_put_bytes": 0},
    ],
    ids=lambda wrong: " ".join(f"{name} {value}" for name, value in wrong.items()),
)
def test_settings_that_no_bucket_has_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=rf"stores\.far\.{next(iter(wrong))}"):
        settings_with(S3 | wrong)


# --- turso ----------------------------------------------------------------------------------

TURSO = {"kind": "turso", "url": "libsql://audio.turso.io"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "audio.turso.io"},
        {"url": "http://audio.turso.io"},
        {"url": "libsql://audio.turso.io?authToken=secret"},
        {"url": "libsql://somebody:secret@audio.turso.io"},
        {"token": "secret"},
    ],
    ids=lambda wrong: " ".join(f"{name} {value}" for name, value in wrong.items()),
)
def test_settings_that_no_libsql_database_has_are_refused_and_not_repeated(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(SettingsError, match=rf"stores\.far\.{next(iter(wrong))}") as refused:
        settings_with(TURSO | wrong)
    assert "secret" not in str(refused.value)


async def test_a_server_of_ones_own_needs_no_token(tmp_path: Path, sqld: Sqld) -> None:
    store = made(tmp_path, TURSO | {"url": sqld.new_database(), "max_bytes": 10})
    await store.write_marker("id-1")
    assert (store.caps.max_bytes, await store.read_marker()) == (10, "id-1")
    await store.close()


# --- supabase -------------------------------------------------------------------------------

SUPABASE = {
    "kind": "supabase",
    "url": "https://project.supabase.co",
    "bucket": "audio",
    "service_key": "env:PROJECT_KEY",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "project.supabase.co"},
        {"url": "http://project.supabase.co"},
        {"bucket": "no/bucket"},
        {"bucket": "it's"},
        {"service_key": "secret"},
        {"single_put_bytes": 0},
    ],
    ids=lambda wrong: " ".join(f"{name} {value}" for name, value in wrong.items()),
)
def test_settings_that_no_bucket_at_supabase_has_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=rf"stores\.far\.{next(iter(wrong))}") as refused:
        settings_with(SUPABASE | wrong)
    assert "secret" not in str(refused.value)


def settings_with(table: dict[str, Any]) -> None:
    """Loads a whole file with this store in it."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "soundkeep.toml"
        stores = {"disk": {"kind": "local", "path": "audio"}, "far": table}
        lines = ["[policy]", 'keep = ["disk"]']
        for name, fields in stores.items():
            lines += [f"[stores.{name}]", *(f"{key} = {value!r}" for key, value in fields.items())]
        file.write_text("\n".join(lines))
        load(file, environ={})


@pytest.mark.parametrize(
    "at",
    [
        {"service": "azure", "account": "audio", "sas_token": "env:SAS"},
        {"service": "gcs", "service_account": "env:ACCOUNT"},
    ],
    ids=lambda at: str(at["service"]),
)
def test_a_cloud_credential_goes_over_tls_or_stays_on_this_machine(at: dict[str, str]) -> None:
    def set_to(endpoint: str) -> StoreSettings:
        table = {"kind": "cloud", "bucket": "audio", "at": {**at, "endpoint": endpoint}}
        settings: StoreSettings = TypeAdapter(StoreSettings).validate_python(table)
        return settings

    with pytest.raises(ValueError, match="read on the way"):
        set_to("http://storage.example.org")
    assert set_to("https://storage.example.org")
    assert set_to("http://127.0.0.1:10000/audio")


# --- stores that would empty each other -----------------------------------------------------------

NODE = {"kind": "kubo", "url": "http://127.0.0.1:5001"}
PINATA = {"kind": "pinata", "token": "env:PINATA_JWT"}
PINS = {"kind": "pinning", "url": "https://api.pinata.cloud/psa", "token": "env:PINATA_JWT"}
PRIVATE: dict[str, Any] = {"network": "private", "public": False, "gateways": []}


def own(host: str) -> dict[str, str]:
    """A node that nobody shares."""
    return {"kind": "kubo", "url": f"http://{host}.example.org:5001"}


def two(*providers: dict[str, Any], **more: Any) -> dict[str, StoreSettings]:
    """Two stores, each with one of these providers; `second` is what else the second is told."""
    second = more.pop("second", {})
    ipfs = {"kind": "ipfs", "public": True, "gateways": ["https://ipfs.example.org"]}
    tables = {
        "first": {**ipfs, "providers": [providers[0], own("one")]},
        "second": {**ipfs, "providers": [providers[1], own("two")], **second},
    }
    return TypeAdapter(dict[str, StoreSettings]).validate_python(tables)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINATA_JWT", "a-secret-that-nobody-may-see")
    monkeypatch.setenv("PINATA_AGAIN", "a-secret-that-nobody-may-see")
    monkeypatch.setenv("PINATA_OTHER", "of-another-account")


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NODE, NODE | {"url": "http://127.0.0.1:5001/"}),
        (NODE, NODE | {"url": "http://LOCALHOST:5001"}),
        (NODE, NODE | {"user": "ann", "password": "env:PINATA_JWT"}),  # a node has one set of pins
        (PINATA, PINATA | {"token": "env:PINATA_AGAIN"}),
        (PINATA, {"kind": "pinata_legacy", "token": "env:PINATA_JWT"}),
        (PINATA, PINS),
        (
            PINS | {"url": "https://API.pinata.cloud:443/psa/"},
            PINATA | {"token": "env:PINATA_AGAIN"},
        ),
        ({"kind": "pinata_legacy", "token": "env:PINATA_JWT"}, PINS),
        (PINS, PINS),
        (
            PINATA | {"url": "https://proxy.example.org/pinata"},
            PINS | {"url": "https://proxy.example.org/pinata/psa"},
        ),
        (
            {"kind": "pinning", "url": "https://pins.example.org", "token": "env:PINATA_JWT"},
            {"kind": "pinning", "url": "https://pins.example.org:443", "token": "env:PINATA_AGAIN"},
        ),
    ],
)
def test_two_stores_in_one_account_of_ipfs_are_refused_by_name(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=r"stores\.first and stores\.second") as raised:
        check_apart(two(one, other))
    assert "secret" not in str(raised.value)


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize(
    ("one", "other", "second"),
    [
        (NODE, NODE | {"url": "http://127.0.0.1:5002"}, {}),
        (PINATA, PINATA | {"token": "env:PINATA_OTHER"}, {}),
        (PINATA, PINS | {"token": "env:PINATA_OTHER"}, {}),
        (PINATA, PINS | {"url": "https://pins.example.org/psa"}, {}),
        (PINATA, PINS | {"token": "env:NOT_SET"}, {}),
        (PINS, PINATA | {"gateway": "https://ours.mypinata.cloud"}, PRIVATE),
        (PINATA | {"token": "env:NOT_SET"}, PINATA | {"token": "env:NOT_SET"}, {}),  # both are off
        (PINATA, PINATA | {"gateway": "https://ours.mypinata.cloud"}, PRIVATE),
    ],
)
def test_two_accounts_of_ipfs_or_two_networks_of_one_are_two_stores(
    one: dict[str, Any], other: dict[str, Any], second: dict[str, Any]
) -> None:
    check_apart(two(one, other, second=second))


async def test_nothing_starts_with_two_stores_in_one_account_of_ipfs(tmp_path: Path) -> None:
    given: Any = {name: table.model_dump() for name, table in two(NODE, NODE).items()}
    given["disk"] = {"kind": "local", "path": "audio"}
    policy: Any = {"keep": ["disk"]}
    with pytest.raises(SettingsError, match="what one lets go the other would lose"):
        async with opened(Settings(data=tmp_path, stores=given, policy=policy)):
            pass
