"""The aliases that move audio between stores: every stated shape, from a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from servers.fake_pinata import TOKEN, FakePinata, Trouble, fake_pinata
from servers.soundkeep import Answer, Server, eventually, running
from soundkeep.settings import Settings
from soundkeep.stores.ipfs_cid import cid_of
from sounds import wav

SYNC, RETRY = "/functions/v1/sync-to-cdn", "/api/admin/retry-ipfs"
DISK = {"kind": "local", "path": "audio"}
CDN = {
    "kind": "local",
    "path": "cdn",
    "public": True,
    "public_url": "https://cdn.test",
    "key": "audio/{track_id}.{ext}",
    "sidecar_key": "metadata/{track_id}.json",
}


@pytest.fixture(scope="module")
def pinata() -> Iterator[FakePinata]:
    with fake_pinata() as server:
        yield server


@pytest.fixture(scope="module")
def server(pinata: FakePinata, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("aliases")
    (folder / "jwt").write_text(TOKEN)
    provider = {"kind": "pinata", "token": f"file:{folder / 'jwt'}", "url": pinata.url}
    provider |= {"upload_url": pinata.url, "gateway": pinata.url}
    web3 = {"kind": "ipfs", "public_url": f"{pinata.url}/ipfs", "providers": [provider]}
    stores = {"disk": DISK, "cdn": CDN, "web3": web3}
    settings = {
        "STORES": json.dumps(stores),
        "POLICY__KEEP": '["disk"]',
        "ALIASES__ENABLED": '["sync-to-cdn", "retry-ipfs"]',
    }
    with running(folder / "data", **settings) as server:
        yield server


def sync(server: Server, key: str | None = "", /, **body: Any) -> Answer:
    given = {} if key == "" else {"key": key}
    return server.ask("POST", SYNC, json.dumps(body).encode(), Content_Type="text/plain", **given)


def settled(server: Server) -> None:
    eventually(lambda: server.check()["passed"])


def test_upload_answers_when_it_is_done_with_both_addresses(server: Server) -> None:
    server.upload("x/up.wav", wav(50_000, seed=1), id="up", visibility="public")
    answer = sync(server, trackId="up", operation="upload", filePath="audio/up.wav")
    assert answer.status == 200
    document = answer.json
    moment = datetime.fromisoformat(document.pop("timestamp"))
    assert moment.tzinfo is not None
    assert document == {
        "success": True,
        "message": "the track is on the CDN",
        "cdn_url": "https://cdn.test/audio/up.wav",
        "sidecar_cdn_url": "https://cdn.test/metadata/up.json",
    }
    assert (server.data / "cdn/audio/up.wav").read_bytes() == wav(50_000, seed=1)


def test_delete_answers_without_addresses_and_what_is_absent_is_deleted(server: Server) -> None:
    server.upload("x/gone.wav", wav(50_000, seed=2), id="gone", visibility="public")
    settled(server)
    for track_id in ("gone", "gone", "never-there"):
        answer = sync(server, trackId=track_id, operation="delete")
        assert (answer.status, set(answer.json)) == (200, {"success", "message", "timestamp"})
    assert not (server.data / "cdn/audio/gone.wav").exists()
    assert server.sound("gone") == wav(50_000, seed=2), "it left the CDN and nothing else"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"trackId": "bad", "operation": "rename"}, 400),
        ({"trackId": "bad"}, 400),
        ({"operation": "upload"}, 400),
        ({"trackId": 7, "operation": "upload"}, 400),
        ({"trackId": "bad", "operation": "upload", "filePath": "etc/passwd"}, 400),
        ({"trackId": "bad", "operation": "upload", "sidecarPath": "audio/bad.wav"}, 400),
        ({"trackId": "nobody", "operation": "upload"}, 404),
        ({"trackId": "bad", "operation": "upload"}, 409),
    ],
)
def test_what_cannot_be_has_the_shape_of_their_errors(
    server: Server, body: dict[str, Any], status: int
) -> None:
    server.upload("x/bad.wav", wav(50_000, seed=3), id="bad")
    answer = sync(server, **body)
    assert (answer.status, set(answer.json)) == (status, {"success", "error"})
    assert answer.json["success"] is False


@pytest.mark.parametrize("path", [SYNC, RETRY])
def test_without_the_key_nothing_is_done_and_pages_elsewhere_may_ask(
    server: Server, path: str
) -> None:
    for key in (None, "wrong"):
        answer = server.ask("POST", path, b"{}", key=key)
        assert (answer.status, answer.json["success"]) == (401, False)
    assert server.ask("OPTIONS", path, key=None).status == 204


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_to_retry_is_zeros(server: Server, method: str) -> None:
    settled(server)
    assert server.ask(method, RETRY).json == {
        "success": True,
        "processed": 0,
        "successCount": 0,
        "failureCount": 0,
        "results": [],
    }


def test_each_retry_says_how_it_ended_and_the_counts_add_up(
    server: Server, pinata: FakePinata
) -> None:
    sound = wav(60_000, seed=4)
    pinata.suffers(Trouble(503, {}), of="POST /v3/files")
    server.upload("x/late.wav", sound, id="late", visibility="public")
    failed = server.ask("POST", RETRY).json
    assert (failed["processed"], failed["successCount"], failed["failureCount"]) == (1, 0, 1)
    [item] = failed["results"]
    assert (item["id"], item["success"]) == ("late", False)
    assert item["error"]

    pinata.heals()
    cid = str(cid_of([sound]))

    def succeeded() -> bool:
        """The worker may be at it just now; then it says so, or there is nothing left to do."""
        results = server.ask("GET", RETRY).json["results"]
        return results in ([{"id": "late", "success": True, "ipfsHash": cid}], [])

    eventually(succeeded)
    eventually(lambda: cid in pinata.held())


def test_they_are_off_by_default_and_retrying_is_never_for_everybody(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        assert {server.ask("POST", path, b"{}").status for path in (SYNC, RETRY)} == {404}
    with pytest.raises(ValidationError, match="admin key"):
        Settings(aliases={"enabled": ["retry-ipfs"], "anonymous": ["retry-ipfs"]})  # type: ignore[arg-type]
