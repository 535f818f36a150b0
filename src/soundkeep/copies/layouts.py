"""Whether two key layouts can ever give one key: pure, and never wrong when it says no.

A layout is read as a pattern of single characters: its own, and for each word those that the word
may be made of. Two patterns are walked side by side.
"""

from __future__ import annotations

import re
import string

from soundkeep.audio.formats import FORMATS

Chars = frozenset[str] | None  # None is any character at all
Atom = tuple[Chars, bool]  # and whether it may be repeated

_NAME = frozenset(string.ascii_letters + string.digits + "_-")
_DIGEST = frozenset("0123456789abcdef")
_WORDS: dict[str, tuple[Chars, Chars]] = {  # what begins a word, and what it goes on with
    "digest": (_DIGEST, _DIGEST),
    "track_id": (_NAME, _NAME | {"."}),
    "owner": (_NAME, _NAME | {".", "@"}),
    "path": (None, None),
}
_PARTS = re.compile(r"\{([a-z_]*)\}|(.)", re.DOTALL)


def may_meet(one: str, other: str) -> bool:
    """Whether some track's key by one layout could be some track's key by the other."""
    return any(
        _meet(_atoms(each), _atoms(against))
        for each in _with_extensions(one)
        for against in _with_extensions(other)
    )


def _with_extensions(layout: str) -> set[str]:
    """The layout for each kind of sound: an extension is one of a few."""
    return {layout.replace("{ext}", format_.extension) for format_ in FORMATS.values()}


def _atoms(layout: str) -> list[Atom]:
    atoms: list[Atom] = []
    for word, char in _PARTS.findall(layout):
        if char:
            atoms.append((frozenset(char), False))
        else:
            first, rest = _WORDS[word]
            atoms += [(first, False), (rest, True)]
    return atoms


def _meet(one: list[Atom], other: list[Atom]) -> bool:
    """Walks both patterns at once, through every pair of places that can be reached."""
    seen: set[tuple[int, int]] = set()
    waiting = [(0, 0)]
    while waiting:
        place = at, against = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        left = one[at] if at < len(one) else None
        right = other[against] if against < len(other) else None
        if left is None and right is None:
            return True
        if left and left[1]:
            waiting.append((at + 1, against))
        if right and right[1]:
            waiting.append((at, against + 1))
        if left and right and _share(left[0], right[0]):
            waiting.append((at + (not left[1]), against + (not right[1])))
    return False


def _share(one: Chars, other: Chars) -> bool:
    return one is None or other is None or not one.isdisjoint(other)
