"""The admin key: one for all processes, readable by its owner, compared whole."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from soundkeep.access.keys import KeyRing, load_or_make_admin_key
from soundkeep.errors import SettingsError

KEY = "a-key-of-twenty-signs"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "data" / "admin.key"
    key, made = load_or_make_admin_key(path, None)
    assert made
    assert len(key) >= 40
    assert mode_of(path) == 0o600
    assert load_or_make_admin_key(path, None) == (key, False)
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_start_together_get_one_key(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    with ThreadPoolExecutor(8) as starting:
        answers = list(starting.map(lambda _: load_or_make_admin_key(path, None), range(32)))
    assert len({key for key, _ in answers}) == 1
    assert sum(made for _, made in answers) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text(KEY + "\n")
    path.chmod(0o644)
    assert load_or_make_admin_key(path, None) == (KEY, False)
    assert mode_of(path) == 0o600


def test_a_configured_key_wins_and_touches_no_file(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    assert load_or_make_admin_key(path, KEY) == (KEY, False)
    assert not path.exists()


@pytest.mark.parametrize("key", ["", "short", "with a space in it....", "ünïcödé-of-enough-signs"])
def test_a_poor_key_is_refused_without_being_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_or_make_admin_key(tmp_path / "admin.key", key)
    assert not key or key not in str(refused.value)


def test_a_place_that_cannot_hold_a_key_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"admin\.key"):
        load_or_make_admin_key(tmp_path / "file" / "admin.key", None)


@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        (f"Bearer {KEY}", True),
        (f"bearer {KEY}", True),
        (f"BEARER   {KEY} ", True),
        (None, False),
        ("", False),
        (KEY, False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Basic {KEY}", False),
        (f"Bearer {KEY}x", False),
        (f"Bearer {KEY[:-1]}", False),
        ("Bearer \xff", False),
    ],
)
def test_only_the_whole_key_opens(authorization: str | None, allowed: bool) -> None:
    field = None if authorization is None else authorization.encode("latin-1")
    assert KeyRing(KEY).allows(field) is allowed
