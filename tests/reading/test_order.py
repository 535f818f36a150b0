"""Which copy is read first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from soundkeep.digest import Digest
from soundkeep.model import Copy, CopyState, Wish
from soundkeep.reading.order import UNWELL_SECONDS, Order
from soundkeep.stores.interface import Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.wrappers import Bounded, Limited

DIGEST = Digest.of(b"")


@pytest.fixture
def stores(tmp_path: Path) -> Mapping[str, Store]:
    return {
        "inbox@here": LocalStore("inbox@here", tmp_path / "inbox"),
        "far": MemoryStore("far"),
        "disk": Limited(Bounded(LocalStore("disk", tmp_path / "disk"), 30), 8),
        "near": MemoryStore("near"),
    }


@pytest.fixture
def order(stores: Mapping[str, Store]) -> Order:
    return Order(stores, ["near", "disk", "far"])


def copy(store: str, state: CopyState = CopyState.PRESENT) -> Copy:
    return Copy(hash(store), DIGEST, store, "some/key", "a/locator", state, Wish.KEEP, 0.0)


COPIES = [copy(name) for name in ("far", "near", "inbox@here", "disk")]


def names(copies: list[Copy]) -> list[str]:
    return [each.store for each in copies]


def test_files_come_before_what_must_be_asked_and_then_policy_decides(order: Order) -> None:
    assert names(order.sort(COPIES)) == ["disk", "inbox@here", "near", "far"]


def test_a_doubted_copy_comes_last_however_cheap(order: Order) -> None:
    doubted = [replace(each, state=CopyState.DOUBTED) for each in COPIES if each.store == "disk"]
    others = [each for each in COPIES if each.store != "disk"]
    assert names(order.sort([*doubted, *others])) == ["inbox@here", "near", "far", "disk"]


@pytest.mark.parametrize("state", [CopyState.WANTED, CopyState.UNWANTED])
def test_what_is_not_there_or_going_away_is_never_read(order: Order, state: CopyState) -> None:
    assert not order.sort([copy("disk", state)])


def test_copies_in_stores_that_this_process_does_not_have_are_passed_over(order: Order) -> None:
    assert not order.sort([copy("inbox@elsewhere"), copy("removed-from-settings")])


def test_a_store_that_failed_waits_behind_the_others_for_a_while(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    order.failed("disk")
    assert names(order.sort(COPIES)) == ["inbox@here", "near", "far", "disk"]
    clock[0] += UNWELL_SECONDS + 1
    assert names(order.sort(COPIES))[0] == "disk"


def test_a_good_chunk_makes_a_store_well_again_at_once(order: Order) -> None:
    order.failed("disk")
    order.answered("disk")
    assert names(order.sort(COPIES))[0] == "disk"


def test_the_file_of_a_copy_is_known_through_all_wrappers(order: Order, tmp_path: Path) -> None:
    assert order.path("disk", "a/locator") == tmp_path / "disk" / "a/locator"
    assert order.path("near", "a/locator") is None
    best = order.best_file(COPIES)
    assert best is not None
    assert best == (copy("disk"), str(tmp_path / "disk" / "a/locator"))
    assert order.best_file([copy("near")]) is None
    assert [order.cost(copy(name)) for name in ("disk", "inbox@here", "near")] == [0, 0, 1]
