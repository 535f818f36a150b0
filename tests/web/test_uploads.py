"""What the server refuses, in which words, and that nothing of it is half kept."""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from servers.soundkeep import KEY, Server, running
from sounds import wav

SOUND = wav(5_000, seed=11)
LIMIT = 200_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("uploads") / "data"
    with running(data, LIMITS__FILE_BYTES=str(LIMIT), HTTP__IDLE_SECONDS="1") as started:
        yield started


def kept(server: Server) -> tuple[int, list[Path]]:
    """The number of tracks, and every file of the inbox."""
    tracks = server.ask("GET", "/api/tracks?limit=1000").json["items"]
    files = [file for file in (server.data / "inbox").rglob("*") if file.is_file()]
    return len(tracks), sorted(files)


def post(server: Server, body: bytes, query: str = "", **headers: str) -> tuple[int, str]:
    answer = server.ask("POST", f"/api/tracks?{query}", body, **headers)
    return answer.status, answer.json["code"]


@pytest.mark.parametrize(
    ("body", "query", "status", "code"),
    [
        (b"just words", "", 415, "not_audio"),
        (b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(500), "", 415, "not_audio"),
        (b"FORM\x00\x00\x00\x00AIFF" + bytes(100), "", 415, "type_not_allowed"),
        (b"", "", 400, "empty_upload"),
        (wav(LIMIT + 2, seed=1), "", 413, "upload_too_large"),
        (SOUND, "path=" + quote("../up.wav"), 400, "bad_path"),
        (SOUND, "path=" + quote("a/../../b"), 400, "bad_path"),
        (SOUND, "path=" + quote("a\0b"), 400, "bad_path"),
        (SOUND, "path=" + "x" * 5_000, 400, "bad_path"),
        (SOUND, "path=" + quote("a\\b"), 400, "bad_path"),
        (SOUND, "path=" + quote("a\u202eb"), 400, "bad_path"),
        (SOUND, "path=/absolute.wav", 400, "bad_path"),
        (SOUND, "id=.hidden", 400, "bad_id"),
        (SOUND, "id=" + "x" * 129, 400, "bad_id"),
        (SOUND, "metadata=[]", 400, "bad_metadata"),
        (SOUND, "metadata=" + quote('{"soundkeep": 1}'), 400, "bad_metadata"),
        (SOUND, "metadata=" + quote("{"), 400, "bad_metadata"),
        (SOUND, "visibility=secret", 400, "bad_input"),
        (SOUND, "replace=maybe", 400, "bad_input"),
    ],
)
def test_a_bad_upload_is_refused_in_words_and_leaves_nothing(
    server: Server, body: bytes, query: str, status: int, code: str
) -> None:
    before = kept(server)
    assert post(server, body, query, Content_Type="audio/mpeg") == (status, code)
    assert kept(server) == before


def test_a_wrong_digest_is_refused_and_a_right_one_taken(server: Server) -> None:
    sound = wav(6_000, seed=12)

    def announced(digest: bytes) -> str:
        return f"sha-256=:{base64.b64encode(digest).decode()}:"

    before = kept(server)
    wrong = announced(hashlib.sha256(b"other").digest())
    assert post(server, sound, Repr_Digest=wrong) == (422, "digest_mismatch")
    assert post(server, sound, Repr_Digest="sha-256=:!:") == (400, "bad_digest")
    assert kept(server) == before
    right = announced(hashlib.sha256(sound).digest())
    assert server.ask("POST", "/api/tracks", sound, Repr_Digest=right).status == 201


@pytest.mark.parametrize("hang_up", [True, False])
def test_an_upload_that_is_cut_off_or_falls_silent_leaves_nothing(
    server: Server, hang_up: bool
) -> None:
    before = kept(server)
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"POST /api/tracks?path=cut.wav HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {len(SOUND)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall(head.encode() + SOUND[:3000])
        if hang_up:
            wire.shutdown(socket.SHUT_WR)
        answer = wire.recv(4096)
    assert answer == b"" or b"incomplete_upload" in answer or b" 400 " in answer
    assert kept(server) == before


def test_the_same_bytes_again_are_the_same_track(server: Server) -> None:
    first = server.upload("same/a.wav", SOUND)
    again = server.ask("POST", "/api/tracks?path=same/a.wav", SOUND)
    assert (again.status, again.json["id"]) == (200, first["id"])


def test_other_bytes_under_a_path_need_replace_and_an_id_means_one_sound_for_ever(
    server: Server,
) -> None:
    old, new = wav(7_000, seed=13), wav(7_000, seed=14)
    track = server.upload("path/b.wav", old, id="fixed")
    assert post(server, new, "path=path/b.wav") == (409, "path_taken")
    assert post(server, new, "id=fixed") == (409, "id_taken")
    assert post(server, old, "path=path/b.wav&id=another") == (409, "id_taken")
    replaced = server.upload("path/b.wav", new, replace="true")
    assert replaced["id"] != track["id"]
    assert server.sound(replaced["id"]) == new
    assert server.ask("GET", "/audio/fixed").status == 404
    assert post(server, new, "id=fixed") == (409, "id_taken")


def test_a_form_is_as_good_as_a_raw_body(server: Server) -> None:
    sound = wav(8_000, seed=15)
    boundary = "edge"
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="path"\r\n\r\nform/ü.wav\r\n'
        f"--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n"
    ).encode() + sound + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    kind = f"multipart/form-data; boundary={boundary}"
    answer = server.ask("POST", "/api/tracks", form, Content_Type=kind)
    assert answer.status == 201, answer.body
    assert answer.json["path"] == "form/ü.wav"
    assert server.sound(answer.json["id"]) == sound
    cut = server.ask("POST", "/api/tracks", form[:-4000], Content_Type=kind)
    assert cut.json["code"] == "incomplete_upload"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/tracks"),
        ("POST", "/api/tracks"),
        ("GET", "/api/status"),
        ("GET", "/api/stores"),
        ("GET", "/metrics"),
    ],
)
def test_the_key_guards_everything_but_what_is_public(
    server: Server, method: str, path: str
) -> None:
    for key in (None, "wrong-key-wrong-key"):
        answer = server.ask(method, path, b"" if method == "POST" else None, key=key)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")


def test_a_private_sound_and_an_unknown_one_look_alike_without_a_key(server: Server) -> None:
    track = server.upload("private/c.wav", wav(9_000, seed=16))
    private = server.ask("GET", f"/audio/{track['id']}", key=None)
    unknown = server.ask("GET", "/audio/nobody", key=None)
    assert (private.status, private.body) == (unknown.status, unknown.body)
    assert private.status == 404


def test_a_sound_is_served_with_ranges_conditions_and_a_safe_name(server: Server) -> None:
    sound = wav(300_000 // 2, seed=17)
    name = 'odd/"quo;te" ünï\u2028.wav'.replace("\u2028", "")
    track = server.upload(quote(name), sound, visibility="public")
    path = f"/audio/{track['id']}.wav"

    def ask(**headers: str) -> tuple[int, bytes]:
        answer = server.ask("GET", path, key=None, **headers)
        return answer.status, answer.body

    whole = server.ask("GET", path, key=None)
    etag = whole.headers["ETag"]
    assert whole.body == sound
    assert etag == f'"{track["digest"]}"'
    assert whole.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Content-Security-Policy"] == "sandbox"
    assert "filename*=UTF-8''%22quo%3Bte%22" in whole.headers["Content-Disposition"]
    assert ask(Range="bytes=5-9") == (206, sound[5:10])
    assert ask(Range="bytes=-1") == (206, sound[-1:])
    assert ask(Range="bytes=0-1,5-6") == (200, sound)
    assert ask(Range=f"bytes={len(sound)}-")[0] == 416
    assert ask(If_None_Match=etag) == (304, b"")
    assert ask(Range="bytes=0-0", If_Range=etag) == (206, sound[:1])
    assert ask(Range="bytes=0-0", If_Range='"other"') == (200, sound)
    head = server.ask("HEAD", path, key=None)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(sound)))
    assert server.ask("DELETE", path).status == 405


@pytest.mark.parametrize(("method", "path"), [("POST", "copies/retry"), ("PATCH", "tracks/x")])
def test_without_a_key_no_body_is_taken_in(server: Server, method: str, path: str) -> None:
    head = f"{method} /api/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    address = server.url.rpartition("/")[2].split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=20) as client:
        client.sendall(head.encode() + b"Content-Length: 1000000000\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_body_of_json_is_bounded_and_must_be_an_object(server: Server) -> None:
    def retry(body: bytes) -> tuple[int, str]:
        answer = server.ask("POST", "/api/copies/retry", body, Content_Type="application/json")
        return answer.status, answer.json.get("code", "")

    assert retry(b"{}") == retry(b"") == (200, "")
    assert retry(b"[]") == retry(b"{") == retry(b"[" * 100_000) == (400, "bad_input")
    assert retry(b'{"store": "' + b"x" * 1_100_000 + b'"}') == (400, "bad_input")
