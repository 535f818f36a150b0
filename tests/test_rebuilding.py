"""What a rebuild and a drill refuse before anything is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soundkeep.build import opened
from soundkeep.errors import CatalogUnavailable, Misconfigured, NoSuchStore, SettingsError
from soundkeep.rebuilding import drilling, rebuilding
from soundkeep.settings import Settings

NODE = {"kind": "kubo", "url": "http://127.0.0.1:9"}
IPFS = {"kind": "ipfs", "network": "private", "providers": (NODE,)}


def settings(data: Path, **saved: Any) -> Settings:
    stores = {
        "saved": saved if "kind" in saved else {"kind": "local", "path": "saved", **saved},
        "other": {"kind": "local", "path": "other"},
    }
    return Settings(data=data, stores=stores, policy={"keep": ("other",)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "saved", "error", "why"),
    [
        ("nowhere", {}, NoSuchStore, "there are saved, other"),
        ("saved", {"public": True}, SettingsError, "its sidecars name no owners"),
        ("saved", {"sidecars": False}, SettingsError, "has no sidecars"),
        ("saved", IPFS, SettingsError, "of a kind that holds no sidecars"),
    ],
)
async def test_a_store_that_nothing_can_be_made_of_is_refused_and_no_catalog_made(
    tmp_path: Path, name: str, saved: dict[str, Any], error: type[Exception], why: str
) -> None:
    for door in (rebuilding, drilling):
        with pytest.raises(error, match=why):
            async with door(settings(tmp_path, **saved), name):
                pass
    assert list(tmp_path.iterdir()) == []


async def test_a_store_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        async with rebuilding(settings(tmp_path), "saved"):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_a_drill_needs_a_catalog_to_compare_with_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    with pytest.raises(CatalogUnavailable, match="no catalog in use"):
        async with drilling(settings(tmp_path), "saved"):
            pass
    assert not (tmp_path / "catalog.db").exists()


async def test_what_lay_in_the_inbox_of_a_lost_catalog_is_set_aside_and_not_swept(
    tmp_path: Path,
) -> None:
    given = settings(tmp_path)
    async with opened(given):
        (tmp_path / "inbox" / "uploads" / "precious").write_bytes(b"sound")
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    with pytest.raises(Misconfigured, match="inbox of another catalog"):
        async with opened(given):
            pass
    for _ in range(2):
        async with rebuilding(given, "saved") as rebuild:
            await rebuild.run(lambda: None)
    [aside] = tmp_path.glob("inbox-before-rebuild-*")
    assert (aside / "uploads" / "precious").read_bytes() == b"sound"
    async with opened(given) as house:
        assert await house.outages.admit("saved"), "it is this catalog's own now"
        assert not await house.outages.admit("other"), "and this is not, as nobody said so"
