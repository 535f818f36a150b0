"""A server whose public tracks go to IPFS, and whose private ones never do."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.afar import DISK
from servers.fake_pinata import TOKEN, FakePinata, Trouble, fake_pinata
from servers.s3_plain import sent
from servers.soundkeep import Json, Server, eventually, running
from soundkeep.stores.ipfs_cid import cid_of
from sounds import wav


@pytest.fixture
def pinata() -> Iterator[FakePinata]:
    with fake_pinata() as server:
        yield server


@pytest.fixture
def server(pinata: FakePinata, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "jwt").write_text(TOKEN)
    web3 = {
        "kind": "ipfs",
        "public_url": f"{pinata.url}/ipfs",
        "providers": [
            {
                "kind": "pinata",
                "token": f"file:{tmp_path / 'jwt'}",
                "url": pinata.url,
                "upload_url": pinata.url,
                "gateway": pinata.url,
            }
        ],
    }
    stores = {"STORES": json.dumps({"disk": DISK, "web3": web3}), "POLICY__KEEP": '["disk"]'}
    aliases = {"ALIASES__ENABLED": '["vocalize"]', "ALIASES__PUBLIC": "true"}
    with running(tmp_path / "data", **stores, **aliases) as server:
        yield server


def test_a_public_track_is_pinned_and_unpinned_and_a_private_one_never(
    server: Server, pinata: FakePinata
) -> None:
    private, public = wav(200_000, seed=72), wav(300_000, seed=71)
    server.upload("private.wav", private)
    track = server.upload("public.wav", public, visibility="public")
    cid = str(cid_of([public]))
    eventually(lambda: server.check()["passed"])
    assert cid in pinata.held()
    assert str(cid_of([private])) not in pinata.held()

    shown = server.ask("GET", f"/api/tracks/{track['id']}").json
    assert shown["storage_locations"]["web3"]["locator"] == cid
    assert shown["storage_locations"]["web3"]["verified"] == "cid"
    assert sent(urllib.request.Request(shown["cdn_url"])).body == public

    server.ask("DELETE", f"/api/tracks/{track['id']}")
    eventually(lambda: cid not in pinata.held())


def test_what_a_provider_refuses_for_a_while_arrives_in_the_end(
    server: Server, pinata: FakePinata
) -> None:
    """B3, B4: the track plays at once, and moves on by itself."""
    pinata.suffers(Trouble(503, {}), of="POST /v3/files", times=4)
    sound = wav(100_000, seed=73)
    track = server.upload("later.wav", sound, visibility="public")
    assert server.sound(track["id"]) == sound
    eventually(lambda: str(cid_of([sound])) in pinata.held(), 60)


def test_what_was_spoken_has_a_permanent_address_and_its_cid(
    server: Server, pinata: FakePinata
) -> None:
    """B1: the answer of a call that comes again, if not of the first, has both."""
    asked = json.dumps({"text": "To be kept for good.", "voiceId": "en-us"}).encode()

    def vocalized() -> Json:
        answer = server.ask("POST", "/api/agents/vocalize", asked)
        assert answer.status == 200
        return dict(answer.json["data"])

    eventually(lambda: "ipfsHash" in vocalized())
    data = vocalized()
    assert set(data) == {"audioUrl", "ipfsHash", "key"}
    assert data["audioUrl"] == f"{pinata.url}/ipfs/{data['ipfsHash']}"
    sound = sent(urllib.request.Request(data["audioUrl"])).body
    assert str(cid_of([sound])) == data["ipfsHash"]
    assert server.ask("GET", f"/api/speech/{data['key']}").json["cid"] == data["ipfsHash"]
