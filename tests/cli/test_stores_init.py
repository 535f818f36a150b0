"""`soundkeep stores init`: what a store needs is made, and what is left for a person is said."""

from __future__ import annotations

from pathlib import Path

from cli.commands import Program, program, wav
from servers.fake_supabase import ANON_KEY, SERVICE_KEY, FakeSupabase, fake_supabase
from servers.sqld import Sqld
from soundkeep.stores.interface import MARKER_KEY

PROJECT = """
[stores.disk]
kind = "local"
path = "audio"

[stores.project]
kind = "supabase"
url = "{url}"
bucket = "{bucket}"
service_key = "env:PROJECT_KEY"
key = "{{owner}}/{{path}}"

[policy]
keep = ["disk", "project"]
ack_copies = 2
"""


EDGE = """
[stores.edge]
kind = "turso"
url = "{url}"

[policy]
keep = ["edge"]
"""


def with_settings(tmp_path: Path, text: str, **environ: str) -> Program:
    file = tmp_path / "soundkeep.toml"
    file.write_text(text)
    return Program(("--config", str(file), "--data", str(tmp_path / "data")), environ)


def with_project(
    tmp_path: Path, server: FakeSupabase, bucket: str = "audio", key: str = SERVICE_KEY
) -> Program:
    text = PROJECT.format(url=server.url, bucket=bucket)
    return with_settings(tmp_path, text, PROJECT_KEY=key)


def test_a_bucket_at_supabase_is_made_and_its_policies_are_printed(tmp_path: Path) -> None:
    with fake_supabase() as server:
        run = with_project(tmp_path, server)
        printed = run("stores", "init", "project").stdout.decode()
        assert printed.startswith("-- project is ready\n")
        assert "bucket_id = 'audio'" in printed
        assert "auth.uid()" in printed
        assert SERVICE_KEY not in printed
        assert server.names("audio") == [MARKER_KEY]
        assert not server.buckets["audio"].public


def test_what_the_bucket_does_not_take_is_not_placed_there(tmp_path: Path) -> None:
    with fake_supabase() as server:
        server.new_bucket("audio", types=["audio/*"], max_bytes=8_000)
        run = with_project(tmp_path, server)
        for name, size in (("small.wav", 5_000), ("large.wav", 20_000)):
            (tmp_path / name).write_bytes(wav(size, 1))
        run("add", tmp_path / "small.wav", tmp_path / "large.wav")
        stored = [name for name in server.names("audio") if name != MARKER_KEY]
        assert len(stored) == 1
        assert stored[0].endswith("/small.wav")


def test_a_key_that_may_not_make_the_bucket_is_said_in_one_line(tmp_path: Path) -> None:
    with fake_supabase() as server:
        failed = with_project(tmp_path, server, key=ANON_KEY)("stores", "init", "project", fails=3)
        (line,) = failed.stderr.decode().splitlines()
        assert "does not allow this" in line


def test_the_tables_of_a_libsql_database_are_made(tmp_path: Path, sqld: Sqld) -> None:
    url = sqld.new_database()
    run = with_settings(tmp_path, EDGE.format(url=url))
    assert run("stores", "init", "edge").stdout == b"edge is ready\n"
    assert len(sqld.run(url, "SELECT id FROM marker")) == 1
    run("add", "-", "--path", "a.wav", given=wav(5_000, 1))
    assert len(sqld.run(url, "SELECT key FROM manifests")) == 2  # the sound and its JSON


def test_a_store_that_cannot_be_reached_is_out(tmp_path: Path) -> None:
    run = with_settings(tmp_path, EDGE.format(url="http://127.0.0.1:1"))
    assert b"edge is out" in run("stores", "init", "edge", fails=1).stderr


def test_a_store_that_is_not_set_is_named(tmp_path: Path) -> None:
    failed = program(tmp_path / "data")("stores", "init", "nope", fails=2)
    assert b"there is no store 'nope'" in failed.stderr


def test_the_store_of_another_catalog_is_taken_over_only_by_name(tmp_path: Path) -> None:
    shared = f'[stores.shelf]\nkind = "local"\npath = "{tmp_path / "shelf"}"\n'
    policy = '[policy]\nkeep = ["shelf"]\n'
    first = with_settings(tmp_path, shared + policy)
    first("add", "-", "--id", "one", given=wav(5_000))
    (tmp_path / "second").mkdir()
    second = with_settings(tmp_path / "second", shared + policy)
    refused = second("stores", "init", "shelf", fails=1).stderr
    assert b"--take-over" in refused
    assert not first.json("status")["stores"][0]["error"], "nothing was touched"

    second("stores", "init", "shelf", "--take-over")
    second("add", "-", "--id", "two", given=wav(6_000))
    assert second.json("check")["passed"]
    assert first.json("status")["stores"][0]["state"] == "out"

    first("stores", "init", "shelf", "--take-over")
    first("add", "-", "--id", "three", given=wav(7_000))
    assert first.json("check")["passed"], "what it believed was looked at again"
    assert first("get", "one", "--out", "-").stdout == wav(5_000)
