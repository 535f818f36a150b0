"""Where a blob belongs: a pure function of its names, the policy and the stores.

A store in `keep` gets every blob it may hold; a public one outside `keep` gets every public
track. What a person asked for comes before both: a track withdrawn from a store is not placed
there, one pushed to a store is, and so is one that was adopted there, under the key it had.
Visibility wins over all: a public store never gets anything of a private track. What a store cannot
take (its `max_bytes`, its `types`) is not placed there, and nothing is placed in a store that is
being drained. What was said is a private name too, and lies at `blobs/{digest}` whatever the
layout.

Where a track's or a segment's audio is placed, its sidecar is placed too, if the store is to have
sidecars.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from soundkeep.audio.making import file_making
from soundkeep.catalog.copies import Place
from soundkeep.catalog.sidecars import SidecarPlace
from soundkeep.errors import BadPath, SettingsError, UnknownFormat
from soundkeep.model import Asked, Blob, Name, Track
from soundkeep.settings import Settings
from soundkeep.settings.stores import StoreSettings
from soundkeep.stores.interface import RESERVED_PREFIX, Caps, Key, is_among

WORDS = frozenset({"digest", "track_id", "owner", "path", "ext"})
IDENTIFYING = ({"digest"}, {"track_id"}, {"owner", "path"})
DEFAULT_LAYOUT = "blobs/{digest}"
DEFAULT_SIDECAR_LAYOUT = "tracks/{track_id}.json"
DEFAULT_SEGMENT_LAYOUT = "segments/{segment_key}.json"

_WORD = re.compile(r"\{([a-z_]*)\}")
_SEGMENT = "[^/]+"
_READ_AS = {"digest": "[0-9a-f]{64}", "ext": "[^./]+", "path": ".+"}  # other words: `_SEGMENT`
_SAMPLE = {
    "digest": "0" * 64,
    "track_id": "x",
    "owner": "x",
    "path": "x",
    "ext": "mp3",
    "segment_key": "0" * 64,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a store's keys are made, such as `audio/{track_id}.{ext}`. A name whose words make a
    key that no store takes, or one that is for others, lies where `otherwise` says."""

    text: str
    otherwise: str = DEFAULT_LAYOUT
    spared: str | None = None  # a pattern: keys of this form are for sidecars

    @classmethod
    def parse(cls, text: str, *, public: bool) -> Layout:
        """Raises `SettingsError` for a layout that cannot tell two blobs apart, or that tells the
        world an owner's name."""
        words = set(_WORD.findall(text))
        if unknown := sorted(words - WORDS):
            raise SettingsError(f"key layout {text!r}: there is no word {{{unknown[0]}}}")
        if not any(enough <= words for enough in IDENTIFYING):
            raise SettingsError(
                f"key layout {text!r} must hold {{digest}}, {{track_id}}, or {{owner}} and {{path}}"
            )
        if "digest" not in words and any(len(_free_words(part)) > 1 for part in text.split("/")):
            raise SettingsError(
                f"key layout {text!r}: two words in one segment run together, so that two tracks "
                "could get one key; put a / between them"
            )
        if public and "owner" in words:
            raise SettingsError(f"key layout {text!r}: a public store may not show {{owner}}")
        if text.startswith(RESERVED_PREFIX):
            raise SettingsError(f"key layout {text!r}: {RESERVED_PREFIX} is reserved")
        try:
            _fill(text, dict.fromkeys(WORDS, "x"))
        except BadPath as error:
            raise SettingsError(
                f"key layout {text!r} gives keys that no store takes: {error}"
            ) from None
        return cls(text)

    @classmethod
    def parse_sidecars(cls, text: str, *, public: bool) -> Layout:
        """How the keys of sidecars are made. Raises `SettingsError` as `parse` does, and for a
        layout in which two tracks could get one key."""
        cls.parse(text, public=public)
        if "track_id" not in _WORD.findall(text):
            raise SettingsError(f"sidecar_key {text!r} must hold {{track_id}}: each track has one")
        return cls(text, DEFAULT_SIDECAR_LAYOUT)

    @classmethod
    def parse_segment_sidecars(cls, text: str) -> Layout:
        """How the keys of segments' sidecars are made, by the one word that they have. Raises
        `SettingsError` as `parse` does."""
        if set(_WORD.findall(text)) != {"segment_key"}:
            raise SettingsError(
                f"segment_sidecar_key {text!r} must hold {{segment_key}}, and no other word"
            )
        cls.parse(text.replace("{segment_key}", "{digest}"), public=False)  # which are as long
        return cls(text, DEFAULT_SEGMENT_LAYOUT)

    def sparing(self, *sidecars: Layout) -> Layout:
        """The same for sounds, none of which gets a key that a sidecar could have.

        Raises `SettingsError` if every sound, or every one that lies elsewhere for it, would.
        """
        for beside in sidecars:
            for text in (self.text, self.otherwise):
                if beside.could_make(str(_fill(text, _SAMPLE))):
                    raise SettingsError(
                        f"sidecar_key {beside.text!r}: a sidecar could get the key of a sound, "
                        f"which are made by {text!r}; name another folder, or set sidecars = false"
                    )
        return replace(self, spared="|".join(beside._pattern for beside in sidecars))

    def could_make(self, key: str) -> bool:
        """Whether a key looks like one of these."""
        return re.fullmatch(self._pattern, key) is not None

    def words_of(self, key: str) -> dict[str, str]:
        """The words that a key of this layout was made of; none of a key that is no such one."""
        found = re.fullmatch(_reading_pattern(self.text), key)
        return found.groupdict() if found is not None else {}

    def filled(self, words: Mapping[str, str]) -> Key | None:
        """The key that these words make; None if some are missing, or make what no store takes."""
        try:
            return _fill(self.text, words)
        except (KeyError, BadPath):
            return None

    @property
    def _pattern(self) -> str:
        return "|".join(_pattern(text) for text in sorted({self.text, self.otherwise}))

    def folders(self) -> tuple[str, ...]:
        """What all keys begin with, in each of the two ways in which they are made."""
        return tuple(sorted({_WORD.split(text)[0] for text in (self.text, self.otherwise)}))

    def key(self, blob: Blob, name: Name) -> Key:
        """The key of the copy that has this name: by the other layout if its words make one that
        no store takes, such as one too long, or one that is reserved or spared, and for speech."""
        if not isinstance(name, Track):
            return _fill(self.otherwise, {"digest": blob.digest.hex})
        return self._key_of(blob, name)

    def _key_of(self, blob: Blob, track: Track) -> Key:
        words = {
            "digest": blob.digest.hex,
            "track_id": track.id,
            "owner": track.owner,
            "path": track.path,
            "ext": blob.sound.extension,
        }
        try:
            key = _fill(self.text, words)
        except BadPath:
            return _fill(self.otherwise, words)
        return _fill(self.otherwise, words) if self._is_for_others(str(key)) else key

    def _is_for_others(self, key: str) -> bool:
        if key.startswith(RESERVED_PREFIX):
            return True
        return self.spared is not None and re.fullmatch(self.spared, key) is not None


def _pattern(text: str) -> str:
    """What keys of a layout look like; a word may be anything."""
    parts = _WORD.split(text)
    return ".+".join(re.escape(part) for part in parts[::2])


def _reading_pattern(text: str) -> str:
    """The same with a group for each word, as it can be told from its neighbours."""
    parts, seen = _WORD.split(text), set[str]()
    pattern = re.escape(parts[0])
    for word, after in zip(parts[1::2], parts[2::2], strict=True):
        group = f"(?P={word})" if word in seen else f"(?P<{word}>{_READ_AS.get(word, _SEGMENT)})"
        seen.add(word)
        pattern += group + re.escape(after)
    return pattern


def _free_words(segment: str) -> list[str]:
    """The words in it that a person chooses."""
    return [word for word in _WORD.findall(segment) if word not in ("digest", "ext")]


def _fill(text: str, words: Mapping[str, str]) -> Key:
    return Key(_WORD.sub(lambda match: words[match[1]], text))


@dataclass(frozen=True, slots=True)
class StoreRule:
    """What placement must know of a store."""

    name: str
    layout: Layout
    public: bool = False
    max_bytes: int | None = None
    types: frozenset[str] | None = field(default=None, repr=False)  # media types
    sidecars: Layout | None = None  # None: it has none
    segment_sidecars: Layout | None = None  # likewise
    renditions: frozenset[str] = field(default=frozenset(), repr=False)  # formats
    draining: bool = False  # nothing is placed there, and what lies there is to leave

    def key(self, blob: Blob, name: Name) -> Key:
        """Where the blob lies under this name, if the store has it: where it was adopted, else by
        the layout."""
        own_key = name.own_keys.get(self.name)
        return self.layout.key(blob, name) if own_key is None else Key(own_key)

    def sidecar_key(self, track: Track) -> Key | None:
        """Where this track's sidecar lies, if the store has its sound; None if it has none."""
        return self.sidecars.key(track.blob, track) if self.sidecars else None

    def segment_sidecar_key(self, segment_key: str) -> Key | None:
        """The same of a segment."""
        layout = self.segment_sidecars
        return _fill(layout.text, {"segment_key": segment_key}) if layout else None

    def takes(self, blob: Blob) -> bool:
        """Whether the store's own limits admit the blob."""
        small_enough = self.max_bytes is None or blob.size_bytes <= self.max_bytes
        return small_enough and is_among(blob.sound.media_type, self.types)

    def within(self, caps: Caps) -> StoreRule:
        """The same, kept to what the store itself can do and will take."""
        set_ = Caps(max_bytes=self.max_bytes, types=self.types)
        limits = set_.within(caps.max_bytes, caps.types)
        rule = replace(self, max_bytes=limits.max_bytes, types=limits.types)
        return rule if caps.sidecars else replace(rule, sidecars=None, segment_sidecars=None)


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy and the stores, as far as placement needs them."""

    keep: tuple[str, ...]
    stores: tuple[StoreRule, ...]
    min_copies: int = 1  # what the copy law asks for before it lets one go

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Raises `SettingsError`."""
        return cls(
            keep=settings.policy.keep,
            stores=tuple(_rule(name, table) for name, table in settings.stores.items()),
            min_copies=settings.policy.min_copies,
        )

    def within(self, caps: Mapping[str, Caps]) -> Rules:
        """The same, kept to what each store itself can do and will take."""
        stores = (store.within(caps[store.name]) for store in self.stores)
        return replace(self, stores=tuple(stores))

    @property
    def drained(self) -> frozenset[str]:
        """The names of the stores that are being drained."""
        return frozenset(store.name for store in self.stores if store.draining)

    def draining(self, names: Collection[str]) -> Rules:
        """The same while these stores are being drained."""
        if not names and not self.drained:
            return self
        stores = (replace(store, draining=store.name in names) for store in self.stores)
        return replace(self, stores=tuple(stores))

    def fingerprint(self) -> str:
        """Changes whenever placement might. (A frozen value's text shows all of it, but a set's is
        another in each process.)"""
        sets = [
            (store.types and sorted(store.types), sorted(store.renditions)) for store in self.stores
        ]
        return repr((self, sets))


def _rule(name: str, table: StoreSettings) -> StoreRule:
    layout = Layout.parse(table.key, public=table.public)
    sidecars = of_segments = None
    if table.sidecars:
        sidecars = Layout.parse_sidecars(table.sidecar_key, public=table.public)
        of_segments = Layout.parse_segment_sidecars(table.segment_sidecar_key)
        _check_apart(name, sidecars, of_segments)
        layout = layout.sparing(sidecars, of_segments)
    return StoreRule(
        name=name,
        layout=layout,
        public=table.public,
        max_bytes=table.max_bytes,
        types=frozenset(table.types) if table.types is not None else None,
        sidecars=sidecars,
        segment_sidecars=None if table.public else of_segments,
        renditions=frozenset(_checked(name, table.renditions)),
    )


def _check_apart(name: str, sidecars: Layout, of_segments: Layout) -> None:
    """Raises `SettingsError` if a track's sidecar could get the key of a segment's."""
    for text in (sidecars.text, sidecars.otherwise):
        key = str(_fill(text, {**_SAMPLE, "track_id": _SAMPLE["segment_key"]}))
        if of_segments.could_make(key):
            raise SettingsError(
                f"stores.{name}: segment_sidecar_key {of_segments.text!r} could give the key of a "
                f"track's sidecar, which are made by {text!r}; name another folder"
            )


def _checked(name: str, formats: Collection[str]) -> Collection[str]:
    for each in formats:
        try:
            file_making(each)
        except UnknownFormat as error:
            raise SettingsError(f"stores.{name}.renditions: {error}") from None
    return formats


def place(blob: Blob, names: Collection[Name], rules: Rules) -> frozenset[Place]:
    """Every (store, key) where a blob with these names belongs."""
    return frozenset(
        Place(store.name, str(store.key(blob, name)))
        for store in rules.stores
        if store.takes(blob)
        for name in names
        if _belongs(name, store, rules.keep)
    )


def place_sidecars(blob: Blob, names: Collection[Name], rules: Rules) -> frozenset[SidecarPlace]:
    """Every sidecar that the names of a blob should have: one beside each placed sound."""
    return frozenset(
        SidecarPlace(
            store=store.name,
            key=str(key),
            subject=subject,
            audio_key=str(store.key(blob, name)),
            public=store.public,
            revision=name.revision,
        )
        for store in rules.stores
        if store.takes(blob)
        for name in names
        if _belongs(name, store, rules.keep)
        if (subject := name.subject) is not None
        if (key := _sidecar_key(name, store)) is not None
    )


def _sidecar_key(name: Name, store: StoreRule) -> Key | None:
    if isinstance(name, Track):
        return store.sidecar_key(name)
    return store.segment_sidecar_key(name.key) if name.key is not None else None


def renditions_of(track: Track, rules: Rules) -> frozenset[str]:
    """The formats in which a track is to be had besides its own, for the stores it is placed in."""
    return frozenset(
        each
        for store in rules.stores
        if _belongs(track, store, rules.keep)
        for each in store.renditions
    )


def allowed(blob: Blob, names: Collection[Name], rules: Rules) -> frozenset[Place]:
    """Every (store, key) where a blob with these names may lie, placed there or not."""
    return frozenset(
        Place(store.name, str(store.key(blob, name)))
        for store in rules.stores
        for name in names
        if may_lie(name, store)
    )


def may_lie(name: Name, store: StoreRule) -> bool:
    """Whether the store may hold a blob under this name, whatever settings place."""
    if store.public and not name.public:
        return False
    return name.asked.get(store.name) is not Asked.WITHDRAWN


def refused(blob: Blob, rules: Rules) -> tuple[str, ...]:
    """The stores of `keep` whose own limits refuse the blob."""
    return tuple(
        store.name for store in rules.stores if store.name in rules.keep and not store.takes(blob)
    )


def _belongs(name: Name, store: StoreRule, keep: Collection[str]) -> bool:
    """Whether settings or a person place this name in the store."""
    is_asked = name.asked.get(store.name) is Asked.PUSHED or store.name in name.own_keys
    return (
        (store.public or store.name in keep or is_asked)
        and not store.draining
        and may_lie(name, store)
    )
