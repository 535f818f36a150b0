"""What lies in IPFS is scrubbed through gateways, which may lie: it is mended, never unpinned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers.fake_pinata import TOKEN, FakePinata, Trouble, fake_pinata
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import copies
from soundkeep.copies.scrubbing import Scrubbed
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Copy, CopyState, Track, Visibility
from soundkeep.settings import Settings
from soundkeep.stores.ipfs_cid import cid_of
from soundkeep.worker import settled
from sounds import wav

SMALL, LARGE = wav(300_000, seed=1), wav(1_500_000, seed=2)  # one leaf, and a tree
CIDS = {str(cid_of([sound])) for sound in (SMALL, LARGE)}


@pytest.fixture
def pinata() -> Iterator[FakePinata]:
    with fake_pinata() as server:
        yield server


@dataclass
class Scene:
    """Two public sounds, on disk and pinned."""

    house: House
    pinata: FakePinata
    tracks: list[Track]

    async def scrubbed(self) -> Scrubbed:
        self.pinata.asked.clear()
        [done] = await self.house.scrubber.now(["web3"])
        return done

    async def pins(self) -> list[Copy]:
        """What the catalog knows of the copies in IPFS."""
        held = [
            copy
            for track in self.tracks
            for copy in await self.house.keep.catalog.read(copies.of_blob, track.blob.digest)
        ]
        return [copy for copy in held if copy.store == "web3"]

    async def states(self) -> set[CopyState]:
        return {copy.state for copy in await self.pins()}

    async def heard(self, track: Track) -> bytes:
        return b"".join([piece async for piece in self.house.keep.open(track.blob)])

    async def check_all_is_well(self) -> None:
        """Every sound is pinned where the catalog says, plays, and nothing was ever unpinned."""
        self.pinata.heals()
        await self.house.keep.retry()
        assert await settled(self.house, 60)
        assert await self.states() == {CopyState.PRESENT}
        assert {copy.locator for copy in await self.pins()} == CIDS == self.pinata.held()
        assert not [line for line in self.pinata.asked if line.startswith("DELETE")]
        assert [await self.heard(track) for track in self.tracks] == [SMALL, LARGE]


@asynccontextmanager
async def opened(data: Path, pinata: FakePinata, scrub: str) -> AsyncIterator[Scene]:
    token = data / "jwt"
    data.mkdir()
    token.write_text(TOKEN)
    provider = {"kind": "pinata", "token": f"file:{token}", "url": pinata.url}
    provider |= {"upload_url": pinata.url, "gateway": pinata.url}
    stores: Any = {
        "disk": {"kind": "local", "path": "disk"},
        "web3": {"kind": "ipfs", "scrub": scrub, "providers": [provider]},
    }
    given: dict[str, Any] = {"policy": {"keep": ("disk",)}, "inbox": {"linger_seconds": 0}}
    async with build.opened(Settings(data=data, stores=stores, **given)) as house:
        new = NewTrack(visibility=Visibility.PUBLIC)
        tracks = [(await house.keep.add(_body(sound), new)).track for sound in (SMALL, LARGE)]
        assert await settled(house, 60)
        scene = Scene(house, pinata, tracks)
        assert await scene.states() == {CopyState.PRESENT}
        yield scene


async def _body(sound: bytes) -> AsyncIterator[bytes]:
    yield sound


async def test_each_is_read_whole_through_the_gateway(tmp_path: Path, pinata: FakePinata) -> None:
    async with opened(tmp_path / "data", pinata, "read") as scene:
        done = await scene.scrubbed()
        assert (done.copies, done.bytes) == (2, len(SMALL) + len(LARGE))
        assert (done.found, done.unread) == (0, 0)
        await scene.check_all_is_well()


@pytest.mark.parametrize("stays_rotten", [False, True])
async def test_a_rotten_answer_of_a_gateway_is_found_and_mended_without_unpinning(
    stays_rotten: bool, tmp_path: Path, pinata: FakePinata
) -> None:
    async with opened(tmp_path / "data", pinata, "read") as scene:
        pinata.gateway = "flipped"
        done = await scene.scrubbed()
        assert (done.copies, done.found, done.unread) == (2, 2, 0)
        assert await scene.states() == {CopyState.DOUBTED}
        assert [await scene.heard(track) for track in scene.tracks] == [SMALL, LARGE]
        if stays_rotten:
            assert await settled(scene.house, 60)
        await scene.check_all_is_well()
        sent_again = "POST /v3/files" in pinata.asked
        assert sent_again == stays_rotten, "a right answer is proof enough"


@pytest.mark.parametrize("gateway", ["html", "elsewhere", "wrong size"])
async def test_a_gateway_that_answers_something_else_says_nothing_about_the_copies(
    gateway: str, tmp_path: Path, pinata: FakePinata
) -> None:
    async with opened(tmp_path / "data", pinata, "read") as scene:
        pinata.gateway = gateway
        done = await scene.scrubbed()
        assert (done.copies, done.found) == (0, 0)
        assert done.unread == 2 or done.out
        assert await scene.states() == {CopyState.PRESENT}
        await scene.check_all_is_well()


async def test_a_look_at_the_pins_reads_nothing_and_finds_what_is_unpinned(
    tmp_path: Path, pinata: FakePinata
) -> None:
    async with opened(tmp_path / "data", pinata, "presence") as scene:
        pinata.gateway = "flipped"  # which nobody asks
        done = await scene.scrubbed()
        assert (done.copies, done.bytes, done.found) == (2, 0, 0)
        assert not [line for line in pinata.asked if "/ipfs/" in line]

        lost = next(file for file in pinata.files["public"].values() if file.data == LARGE)
        del pinata.files["public"][lost.id]
        assert (await scene.scrubbed()).found == 1
        await scene.check_all_is_well()


async def test_a_provider_that_does_not_answer_has_lost_nothing(
    tmp_path: Path, pinata: FakePinata
) -> None:
    async with opened(tmp_path / "data", pinata, "presence") as scene:
        pinata.suffers(Trouble(403, {"error": "no"}), of="/v3/files")
        done = await scene.scrubbed()
        assert (done.copies, done.found) == (0, 0)
        assert await scene.states() == {CopyState.PRESENT}
        await scene.check_all_is_well()
