"""Settings of public stores: what cannot be meant is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundkeep.build import opened
from soundkeep.errors import SettingsError
from soundkeep.settings import Settings
from soundkeep.settings.sources import load

KEEP = '[stores.disk]\nkind = "local"\npath = "audio"\n[stores.backup]\nkind = "database"\n'


def loaded(folder: Path, *lines: str) -> Settings:
    """Settings with a store `cdn` that says so much more."""
    config = folder / "soundkeep.toml"
    table = "\n".join(('[stores.cdn]\nkind = "local"\npath = "cdn"', *lines))
    config.write_text(f'data = "{folder}/data"\n{KEEP}{table}\n')
    return load(config, environ={})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://cdn.example.org", "https://cdn.example.org"),
        ("https://cdn.example.org///", "https://cdn.example.org"),
        ("http://127.0.0.1:8080/a%20b/", "http://127.0.0.1:8080/a%20b"),
    ],
)
def test_a_public_address_loses_the_slash_at_its_end(
    tmp_path: Path, written: str, meant: str
) -> None:
    found = loaded(tmp_path, "public = true", f'public_url = "{written}"')
    assert found.stores["cdn"].public_url == meant


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (['public_url = "https://cdn.example.org"'], "public = true"),
        (["public = true", 'public_url = "ftp://cdn.example.org"'], "https://"),
        (["public = true", 'public_url = "cdn.example.org"'], "https://"),
        (["public = true", 'public_url = "https:///no-host"'], "names a host"),
        (["public = true", 'public_url = ""'], "https://"),
        (["public = true", 'public_url = "https://me:secret@cdn.example.org"'], "no password"),
        (["public = true", 'public_url = "https://cdn.example.org/?x=1"'], "plain ASCII"),
        (["public = true", 'public_url = "https://cdn.example.org/#x"'], "plain ASCII"),
        (["public = true", 'public_url = "https://cdn.example.org/a b"'], "plain ASCII"),
        (["public = true", 'public_url = "https://cdn.example.org/é"'], "plain ASCII"),
        (['delivery = "proxy"'], "delivery"),
        (["cache_seconds = -1"], "cache_seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    tmp_path: Path, lines: list[str], why: str
) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        loaded(tmp_path, *lines)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "cdn" in str(refused.value)


async def test_listeners_are_not_redirected_to_where_they_can_read_nothing(tmp_path: Path) -> None:
    settings = loaded(tmp_path, 'delivery = "redirect"')
    with pytest.raises(SettingsError, match=r"stores\.cdn\.delivery"):
        async with opened(settings):
            pass


async def test_listeners_are_redirected_to_a_public_address(tmp_path: Path) -> None:
    lines = ("public = true", 'public_url = "https://cdn.example.org"', 'delivery = "redirect"')
    async with opened(loaded(tmp_path, *lines)) as house:
        assert [front.name for front in house.keep.fronts.redirecting] == ["cdn"]
