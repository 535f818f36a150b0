"""The difference between what is and what should be, as the pure function it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers import make_blob
from soundkeep.catalog.copies import Place
from soundkeep.copies.planning import Difference, difference
from soundkeep.model import Copy, CopyState, Wish

DIGEST = make_blob(b"a sound").digest
INBOX = "inbox@host"
HERE = Place("disk", "k")
NOWHERE: frozenset[Place] = frozenset()
STATES = tuple(CopyState)


def copy_at(place: Place, state: CopyState, wish: Wish, copy_id: int = 1) -> Copy:
    return Copy(copy_id, DIGEST, place.store, place.key, place.key, state, wish, since=0.0)


# --- one copy, and where the blob belonged before and after --------------------------------------

HELD = (CopyState.WANTED, CopyState.PRESENT, CopyState.DOUBTED)
BEFORE, AFTER = frozenset({HERE}), frozenset({HERE})

TABLE: list[tuple[str, Sequence[CopyState], Wish, frozenset[Place], frozenset[Place], str]] = [
    ("what stays where it is", HELD, Wish.KEEP, BEFORE, AFTER, "nothing"),
    ("what belongs there again and rested", HELD, Wish.REST, NOWHERE, AFTER, "keep"),
    ("what belongs there again and was leaving", HELD, Wish.LEAVE, NOWHERE, AFTER, "keep"),
    ("what lost its name", HELD, Wish.KEEP, BEFORE, NOWHERE, "leave"),
    ("what rested and lost its name", HELD, Wish.REST, BEFORE, NOWHERE, "leave"),
    ("what is leaving already", HELD, Wish.LEAVE, BEFORE, NOWHERE, "nothing"),
    ("what settings unplaced", HELD, Wish.KEEP, NOWHERE, NOWHERE, "rest"),
    ("what rests already", HELD, Wish.REST, NOWHERE, NOWHERE, "nothing"),
    ("what leaves whatever settings say", HELD, Wish.LEAVE, NOWHERE, NOWHERE, "nothing"),
    ("what must go before it may be wanted again", (CopyState.UNWANTED,), Wish.LEAVE,
     NOWHERE, AFTER, "nothing"),
    ("what the law let go", (CopyState.UNWANTED,), Wish.LEAVE, BEFORE, NOWHERE, "nothing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("states", "wish", "before", "after", "expected"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_what_becomes_of_one_copy(
    states: Sequence[CopyState],
    wish: Wish,
    before: frozenset[Place],
    after: frozenset[Place],
    expected: str,
) -> None:
    for state in states:
        copy = copy_at(HERE, state, wish)
        change = difference([copy], after, before)
        assert change.want == NOWHERE
        found = {"keep": change.keep, "leave": change.leave, "rest": change.rest}
        assert {name: which for name, which in found.items() if which} == (
            {} if expected == "nothing" else {expected: (copy,)}
        )


def test_a_place_without_a_copy_is_wanted_whether_it_is_new_or_not() -> None:
    for before in (NOWHERE, BEFORE):
        assert difference([], AFTER, before).want == AFTER


def test_a_copy_in_an_inbox_is_no_copy_of_the_place_it_is_on_its_way_to() -> None:
    landed = copy_at(Place(INBOX, "k"), CopyState.PRESENT, Wish.LEAVE)
    assert difference([landed], AFTER, NOWHERE) == Difference(AFTER, (), (), ())


# --- any copies, any places ----------------------------------------------------------------------

places = st.builds(Place, st.sampled_from(("disk", "backup", "cdn", INBOX)), st.sampled_from("ab"))
placed = st.frozensets(places.filter(lambda place: place.store != INBOX))
ledgers_of_one_blob = st.lists(
    st.builds(copy_at, places, st.sampled_from(STATES), st.sampled_from(Wish)),
    unique_by=lambda copy: (copy.store, copy.key),
    max_size=6,
).map(lambda found: [replace(copy, id=number) for number, copy in enumerate(found)])


def changed(change: Difference) -> list[Place]:
    held = (*change.keep, *change.leave, *change.rest)
    return [*change.want, *(Place(copy.store, copy.key) for copy in held)]


def applied(current: list[Copy], change: Difference) -> list[Copy]:
    """The ledger as `replan` makes it: new rows are wanted, old ones have a new wish."""
    wishes = {
        **{copy.id: Wish.KEEP for copy in change.keep},
        **{copy.id: Wish.LEAVE for copy in change.leave},
        **{copy.id: Wish.REST for copy in change.rest},
    }
    kept = [replace(copy, wish=wishes.get(copy.id, copy.wish)) for copy in current]
    first = len(current)
    wanted = [
        copy_at(place, CopyState.WANTED, Wish.KEEP, number)
        for number, place in enumerate(sorted(change.want, key=repr), first)
    ]
    return kept + wanted


@given(ledgers_of_one_blob, placed, placed)
def test_done_twice_it_changes_nothing_more(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> None:
    settled = applied(current, difference(current, after, before))
    assert changed(difference(settled, after, before)) == []
    assert changed(difference(settled, after, after)) == []


@given(ledgers_of_one_blob, placed, placed)
def test_nothing_is_asked_of_one_place_twice(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> None:
    found = changed(difference(current, after, before))
    assert len(found) == len(set(found))


@given(ledgers_of_one_blob, placed, placed)
def test_an_inbox_is_never_touched(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> None:
    assert INBOX not in {place.store for place in changed(difference(current, after, before))}


@given(ledgers_of_one_blob, placed, placed)
def test_what_is_being_removed_is_left_to_whoever_removes_it(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> None:
    """A new wish would take the lease from under the delete."""
    change = difference(current, after, before)
    touched = {copy.state for copy in (*change.keep, *change.leave, *change.rest)}
    assert CopyState.UNWANTED not in touched


@given(ledgers_of_one_blob, placed, placed)
def test_a_placed_copy_is_never_sent_away_and_an_unplaced_one_never_kept(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> None:
    change = difference(current, after, before)
    assert {Place(copy.store, copy.key) for copy in change.keep} <= after
    for copy in (*change.leave, *change.rest):
        assert Place(copy.store, copy.key) not in after


@given(ledgers_of_one_blob, placed)
def test_a_change_of_settings_sends_nothing_away(
    current: list[Copy], after: frozenset[Place]
) -> None:
    """Nothing of what a name did not just lose is asked to leave."""
    assert difference(current, after, after).leave == ()
    assert difference(current, NOWHERE, NOWHERE).leave == ()


@given(ledgers_of_one_blob, placed, placed)
def test_afterwards_every_place_has_a_copy_that_is_kept_or_going(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> None:
    for copy in applied(current, difference(current, after, before)):
        if Place(copy.store, copy.key) in after:
            assert copy.wish is Wish.KEEP or copy.state is CopyState.UNWANTED
        elif copy.store != INBOX and copy.state is not CopyState.UNWANTED:
            assert copy.wish is not Wish.KEEP
