"""Where a track plays: a list that any player can go down, and stores that serve listeners."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from functools import partial
from pathlib import Path

import pytest

from servers.soundkeep import KEY, Json, Server, eventually, running
from sounds import wav

ORIGIN = "https://player.example.org"
SEEDS = itertools.count(8000)
SIZE = 300_000


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server over a directory, as a bucket's public address is one."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def web_over(folder: Path) -> Iterator[str]:
    """Files of a directory over HTTP; gives the address."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            web.shutdown()
            thread.join()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """`cdn` serves listeners itself, `mirror` is there for when we are not."""
    data, config = folder / "data", folder / "soundkeep.toml"
    with web_over(data / "cdn") as cdn, web_over(data / "mirror") as mirror:
        config.write_text(f"""
[http]
cors_origins = ["{ORIGIN}"]
[worker]
probe_seconds = 0.2
poll_seconds = 0.1
[stores.disk]
kind = "local"
path = "audio"
[stores.backup]
kind = "database"
[stores.mirror]
kind = "local"
path = "mirror"
public = true
public_url = "{mirror}"
[stores.cdn]
kind = "local"
path = "cdn"
public = true
public_url = "{cdn}/"
key = "{{path}}/{{track_id}}"
delivery = "redirect"
""")
        with running(data, CONFIG=str(config)) as server:
            yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sources")) as server:
        yield server


def published(server: Server, path: str | None = None) -> tuple[Json, bytes]:
    """A public track that every store has."""
    seed = next(SEEDS)
    sound = wav(SIZE, seed)
    track = server.upload(path or f"{seed}.wav", sound, visibility="public")
    order = json.dumps({"wait_seconds": 20}).encode()
    answer = server.ask("POST", f"/api/tracks/{track['id']}/sync", order)
    assert answer.json["summary"]["done"] == 2, answer.body
    return track, sound


def sources(server: Server, track: Json, *, admin: bool = False) -> list[Json]:
    key = KEY if admin else None
    answer = server.ask("GET", f"/api/tracks/{track['id']}/sources", key=key)
    assert answer.status == 200, answer.body
    assert answer.json["next_cursor"] is None
    found: list[Json] = answer.json["items"]
    return found


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
        return body


class Staying(urllib.request.HTTPRedirectHandler):
    """Shows a redirect instead of following it."""

    def redirect_request(self, *_: object) -> None:
        return None


def unfollowed(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer that is not followed; nobody has a key here."""
    request = urllib.request.Request(server.url + path, headers=headers, method=method)
    try:
        with urllib.request.build_opener(Staying).open(request, timeout=20) as answer:
            return answer.status, _lower(answer.headers)
    except urllib.error.HTTPError as redirect:
        with redirect:
            return redirect.code, _lower(redirect.headers)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_a_player_gets_the_primary_first_then_our_stream_then_the_backups_each_once(
    server: Server,
) -> None:
    track, sound = published(server, path="caf%C3%A9%20%26%20co/no%23%3F.wav")
    found = sources(server, track)
    assert [(one["kind"], one["store"]) for one in found] == [
        ("public", "cdn"),
        ("stream", None),
        ("public", "mirror"),
    ]
    assert found[0]["url"].endswith(f"/caf%C3%A9%20%26%20co/no%23%3F.wav/{track['id']}")
    assert found[1]["url"] == f"{server.url}/audio/{track['id']}.wav?delivery=stream"
    assert {one["media_type"] for one in found} == {track["media_type"]}
    assert {one["expires_at"] for one in found} == {None}
    for one in found:
        assert read(one["url"]) == sound


def test_a_private_track_has_sources_for_those_who_may_hear_it_only(server: Server) -> None:
    track = server.upload("private.wav", wav(SIZE, next(SEEDS)))
    path = f"/api/tracks/{track['id']}/sources"
    hidden, absent = (
        server.ask("GET", each, key=None) for each in (path, "/api/tracks/no-such/sources")
    )
    assert (hidden.status, hidden.body) == (absent.status, absent.body)
    assert hidden.json["code"] == "no_such_track"
    assert [one["kind"] for one in sources(server, track, admin=True)] == ["stream"]


def test_pages_elsewhere_may_ask_for_sources_if_they_may_read_sounds(server: Server) -> None:
    track, _ = published(server)
    path = f"/api/tracks/{track['id']}/sources"
    allowed = server.ask("GET", path, key=None, Origin=ORIGIN)
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert allowed.headers["Cache-Control"] == "no-store"
    other = server.ask("GET", path, key=None, Origin="https://elsewhere.example.org")
    assert "Access-Control-Allow-Origin" not in other.headers
    preflight = server.ask("OPTIONS", path, key=None, Origin=ORIGIN)
    assert preflight.status == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_listeners_are_sent_to_a_store_that_serves_them_and_may_insist_on_us(
    server: Server,
) -> None:
    track, sound = published(server)
    place = sources(server, track)[0]["url"]
    for name in (track["id"], f"{track['id']}.wav"):
        for method in ("GET", "HEAD"):
            status, headers = unfollowed(
                server, f"/audio/{name}", method, Origin=ORIGIN, Range="bytes=5-"
            )
            assert (status, headers["location"]) == (307, place)
            assert headers["cache-control"] == "no-store"
            assert headers["content-length"] == "0"
            assert headers["access-control-allow-origin"] == ORIGIN
    assert read(f"{server.url}/audio/{track['id']}") == sound
    status, headers = unfollowed(server, f"/audio/{track['id']}?delivery=stream")
    assert (status, headers["etag"]) == (200, f'"{track["digest"]}"')
    etag = {"If-None-Match": f'"{track["digest"]}"'}
    assert unfollowed(server, f"/audio/{track['id']}", **etag)[0] == 304


def test_what_is_withdrawn_or_private_is_forgotten_at_once(server: Server) -> None:
    track, sound = published(server)
    order = json.dumps({"operation": "delete", "store": "cdn"}).encode()
    server.ask("POST", f"/api/tracks/{track['id']}/sync", order)
    assert [one["store"] for one in sources(server, track)] == [None, "mirror"]
    status, _ = unfollowed(server, f"/audio/{track['id']}")
    assert status == 200
    server.ask("PATCH", f"/api/tracks/{track['id']}", b'{"visibility": "private"}')
    assert [one["kind"] for one in sources(server, track, admin=True)] == ["stream"]
    assert unfollowed(server, f"/audio/{track['id']}")[0] == 404
    assert server.sound(track["id"]) == sound


def test_a_store_that_is_down_gets_no_listener_until_it_is_back(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        track, sound = published(server)
        place, away = server.data / "cdn", tmp_path / "unmounted"
        place.rename(away)
        other = server.upload("notices.wav", wav(SIZE, next(SEEDS)), visibility="public")
        eventually(lambda: unfollowed(server, f"/audio/{track['id']}")[0] == 200)
        assert read(f"{server.url}/audio/{track['id']}") == sound
        assert [one["store"] for one in sources(server, track)] == [None, "mirror"]
        away.rename(place)
        eventually(lambda: unfollowed(server, f"/audio/{track['id']}")[0] == 307)
        eventually(lambda: len(sources(server, other)) == 3)
        assert read(f"{server.url}/audio/{other['id']}") == server.sound(other["id"])
