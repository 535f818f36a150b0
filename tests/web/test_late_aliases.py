"""The aliases that move audio, when the store is slow or lets nobody in: what is due still happens.

`test_store_aliases.py` has their shapes. Here the alias waits a second instead of thirty.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.afar import in_bucket
from servers.fake_pinata import TOKEN, FakePinata, fake_pinata
from servers.fault_proxy import FaultProxy, fault_proxy, silence
from servers.s3_plain import Bucket
from servers.soundkeep import Answer, Json, Server, eventually
from soundkeep.stores.ipfs_cid import cid_of
from sounds import wav

SYNC, RETRY = "/functions/v1/sync-to-cdn", "/api/admin/retry-ipfs"
IMPATIENT = """
from soundkeep.web.aliases import sync_to_cdn
sync_to_cdn.WAIT_SECONDS = 1.0
from soundkeep.__main__ import main
main()
"""
DISK = {"kind": "local", "path": "audio"}
WRONG = "a-secret-that-opens-nothing"


@dataclass
class Scene:
    """A server that keeps on its disk, and whose CDN is a bucket behind a proxy."""

    server: Server
    bucket: Bucket
    proxy: FaultProxy
    prefix: str

    def sync(self, operation: str, track_id: str) -> Answer:
        body = json.dumps({"trackId": track_id, "operation": operation}).encode()
        return self.server.ask("POST", SYNC, body)

    def holds(self, track_id: str) -> bytes | None:
        """What really lies in the bucket."""
        answer = self.bucket.ask("GET", f"{self.prefix}/audio/{track_id}.wav")
        return answer.body if answer.status == 200 else None


def started(data: Path, stores: Json, *aliases: str) -> Server:
    server = Server(
        data,
        STORES=json.dumps({"disk": DISK, **stores}),
        POLICY__KEEP='["disk"]',
        ALIASES__ENABLED=json.dumps(aliases),
        WORKER__PROBE_SECONDS="0.2",
        WORKER__POLL_SECONDS="0.2",
    )
    server.program = ["-c", IMPATIENT]
    server.start()
    return server


@pytest.fixture
def scene(rclone_s3: Bucket, tmp_path: Path) -> Iterator[Scene]:
    prefix = f"cdn-{uuid.uuid4().hex}"
    with fault_proxy(int(rclone_s3.endpoint.rpartition(":")[2])) as proxy:
        public = {"public": True, "public_url": "https://cdn.test", "timeout_seconds": 2}
        layout = {"prefix": prefix, "key": "audio/{track_id}.{ext}"}
        cdn = in_bucket(rclone_s3, tmp_path / "keys", endpoint=proxy.url, **public, **layout)
        server = started(tmp_path / "data", {"cdn": cdn}, "sync-to-cdn")
        try:
            yield Scene(server, rclone_s3, proxy, prefix)
        finally:
            server.kill()


def assert_late(answer: Answer) -> None:
    assert (answer.status, set(answer.json)) == (504, {"success", "error"})
    assert answer.json["success"] is False
    assert answer.json["error"].startswith("it is not done yet, and goes on by itself")


def test_a_cdn_that_says_nothing_is_504_and_what_is_due_happens_by_itself(scene: Scene) -> None:
    sound = wav(60_000, seed=1)
    scene.proxy.suffers(silence(of="PUT "))
    scene.server.upload("x/slow.wav", sound, id="slow", visibility="public")
    assert_late(scene.sync("upload", "slow"))
    assert scene.holds("slow") is None
    scene.proxy.heals()
    eventually(lambda: scene.holds("slow") == sound)

    done = scene.sync("upload", "slow")
    assert (done.status, done.json["cdn_url"]) == (200, "https://cdn.test/audio/slow.wav")
    scene.proxy.suffers(silence(of="DELETE "))
    assert_late(scene.sync("delete", "slow"))
    assert scene.holds("slow") == sound
    scene.proxy.heals()
    eventually(lambda: scene.holds("slow") is None)
    assert scene.sync("delete", "slow").status == 200
    assert scene.server.sound("slow") == sound, "it left the CDN and nothing else"


def test_a_cdn_that_lets_us_in_no_more_is_504_with_the_reason_and_no_secret(
    rclone_s3: Bucket, tmp_path: Path
) -> None:
    public = {"public": True, "public_url": "https://cdn.test"}
    cdn = in_bucket(rclone_s3, tmp_path / "keys", prefix=uuid.uuid4().hex, **public)
    (tmp_path / "keys" / "secret_key").write_text(WRONG)
    server = started(tmp_path / "data", {"cdn": cdn}, "sync-to-cdn")
    try:
        server.upload("x/a.wav", wav(60_000, seed=2), id="a", visibility="public")
        answer = Scene(server, rclone_s3, None, "").sync("upload", "a")  # type: ignore[arg-type]
        assert_late(answer)
        assert "the access key or the secret key is wrong" in answer.json["error"]
        assert WRONG not in answer.body.decode() + "".join(server.said)
    finally:
        server.kill()


@pytest.fixture
def pinata() -> Iterator[FakePinata]:
    with fake_pinata() as server:
        yield server


def test_pins_that_wait_for_a_credential_are_told_and_made_once_it_is_right(
    pinata: FakePinata, tmp_path: Path
) -> None:
    token = tmp_path / "jwt"
    token.write_text(WRONG)
    provider = {"kind": "pinata", "token": f"file:{token}", "url": pinata.url}
    provider |= {"upload_url": pinata.url, "gateway": pinata.url}
    server = started(
        tmp_path / "data", {"web3": {"kind": "ipfs", "providers": [provider]}}, "retry-ipfs"
    )
    try:
        sound = wav(60_000, seed=3)
        server.upload("x/a.wav", sound, id="a", visibility="public")
        eventually(lambda: "credential" in error_of(server, "a"))
        assert pinata.held() == set()
        assert WRONG not in "".join(server.said)
        token.write_text(TOKEN)
        server.stop()
        server.start()
        eventually(lambda: str(cid_of([sound])) in pinata.held())
        eventually(lambda: server.ask("GET", RETRY).json["results"] == [])
    finally:
        server.kill()


def error_of(server: Server, track_id: str) -> str:
    """Why it is not pinned, by a retry of all that is due; empty if it is."""
    answer = server.ask("GET", RETRY)
    assert (answer.status, answer.json["success"]) == (200, True)
    assert WRONG not in answer.body.decode()
    errors = {item["id"]: item.get("error", "") for item in answer.json["results"]}
    return str(errors.get(track_id, ""))
