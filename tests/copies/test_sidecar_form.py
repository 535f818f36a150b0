"""The bytes of a sidecar: the application's own fields as they were, and one field of ours."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers import make_blob, make_track
from soundkeep.catalog.subjects import SegmentRecord, TrackRecord
from soundkeep.copies.sidecar_form import parse, sidecar_bytes
from soundkeep.digest import Digest
from soundkeep.errors import BadInput
from soundkeep.model import Asked, Blob, Money, Segment, Sound, Track, Visibility
from soundkeep.shown import when
from soundkeep.speech.keys import asked_of, segment_key

CREATED_AT = 1767225600.0
PAGE = Path(__file__).parents[2] / "docs" / "sidecars.md"
TRACK = make_track("chapter", make_blob(b"a sound"), owner="someone")

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
metadata = st.dictionaries(st.text().filter(lambda name: name != "soundkeep"), values)


def read(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)
    return found


@given(metadata)
def test_the_applications_own_fields_stand_first_in_their_order_and_untouched(
    own: dict[str, Any],
) -> None:
    found = read(sidecar_bytes(TrackRecord(replace(TRACK, metadata=own)), "k", public=False))
    assert list(found) == [*own, "soundkeep"]
    assert json.dumps({**found, "soundkeep": 0}) == json.dumps({**own, "soundkeep": 0})


def test_what_stands_before_our_field_does_not_change_when_the_title_does() -> None:
    track = replace(TRACK, metadata={"z": 1, "a": ["ä", 2.5], "m": {"y": None, "b": "</x>"}})
    changed = replace(track, title="Another", revision=7)
    before, after = (
        sidecar_bytes(TrackRecord(each), "k", public=False) for each in (track, changed)
    )
    assert before != after
    own = before.index(b'"soundkeep"')
    assert before[:own] == after[:own]
    assert '"ä"'.encode() in before[:own]


def test_the_same_track_gives_the_same_bytes_whatever_order_its_tags_came_in() -> None:
    def with_tags(*names: str) -> Track:
        sound = replace(TRACK.blob.sound, tags={name: name for name in names})
        asked = dict.fromkeys(names, Asked.PUSHED)
        return replace(TRACK, blob=replace(TRACK.blob, sound=sound), asked=asked)

    one = sidecar_bytes(TrackRecord(with_tags("a", "b", "c")), "k", public=False)
    assert one == sidecar_bytes(TrackRecord(with_tags("c", "a", "b")), "k", public=False)
    assert one.endswith(b"}\n")
    assert list(read(one)["soundkeep"]) == sorted(read(one)["soundkeep"])


def test_in_a_public_store_nothing_names_the_owner() -> None:
    private, public = (
        sidecar_bytes(TrackRecord(TRACK), "k", public=public) for public in (False, True)
    )
    assert b"someone" in private
    assert b"someone" not in public
    hidden = {"owner": "someone", "speeches": []}
    assert {**read(public)["soundkeep"], **hidden} == read(private)["soundkeep"]


def test_everything_that_is_known_of_a_track_is_in_it_but_the_chunk_hashes() -> None:
    """A field that is added to a track or a sound one day must be here too."""
    adopted = replace(TRACK, own_keys={"cdn": "old/x.mp3"})
    ours = read(sidecar_bytes(TrackRecord(adopted), "blobs/x", public=False))["soundkeep"]
    known = {field.name for kind in (Track, Blob, Sound) for field in fields(kind)}
    beside = {"version", "key", "speeches", "rendition_of"}
    assert set(ours) == (known - {"metadata", "blob", "sound", "chunk_hashes"}) | beside
    assert ours["key"] == "blobs/x"
    assert ours["digest"] == TRACK.blob.digest.hex


def test_the_example_in_the_docs_is_what_is_written() -> None:
    example, _ = examples()
    written = sidecar_bytes(
        TrackRecord(rebuilt(json.loads(example))), "blobs/" + "5b" * 32, public=False
    )
    assert written.decode() == example


def test_the_example_of_a_segment_in_the_docs_is_what_is_written() -> None:
    _, example = examples()
    ours = read(example.encode())["soundkeep"]
    digest = Digest.parse(ours["digest"])
    sound = Sound(**{field.name: ours[field.name] for field in fields(Sound)})
    blob = replace(TRACK.blob, digest=digest, size_bytes=ours["size_bytes"], sound=sound)
    said = Segment(
        key=ours["segment_key"],
        engine=ours["engine"],
        model=ours["model"],
        voice=ours["voice"],
        owner=ours["owner"],
        text=json.loads(ours["request"])["text"],
        digest=digest,
        timing=ours["timing"],
        characters=ours["characters"],
        cost=Money.of(Decimal(str(ours["cost"])), ours["currency"]),
    )
    record = SegmentRecord(said, blob, ours["request"], (), ours["hits"], CREATED_AT, 2)
    written = sidecar_bytes(record, ours["key"], public=False)
    assert read(written) == read(example.encode())
    assert written.count(b"\n") == 1
    assert said.key == segment_key(asked_of(ours["request"]))


def test_a_sidecar_that_is_read_says_what_was_written() -> None:
    """And whoever rewrites it writes the same bytes."""
    for example in examples():
        parsed = parse(example.encode())
        assert read(example.encode()) == {
            **parsed.metadata,
            "soundkeep": msgspec.to_builtins(parsed.form),
        }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "newer Soundkeep"),
        ({"digest": 7}, "digest"),
        ({"revision": "x"}, "revision"),
        ({"visibility": "hidden"}, "visibility"),
    ],
)
def test_what_is_no_sidecar_is_refused_in_words(change: dict[str, Any], why: str) -> None:
    example = read(examples()[0].encode())
    example["soundkeep"] |= change
    with pytest.raises(BadInput, match=why):
        parse(json.dumps(example).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"soundkeep": 1}', b"7", b"[1"])
def test_other_json_is_no_sidecar(data: bytes) -> None:
    with pytest.raises(BadInput, match="no JSON object"):
        parse(data)


def examples() -> tuple[str, str]:
    """A track's and a segment's."""
    track, segment = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return track, segment


def rebuilt(sidecar: dict[str, Any]) -> Track:
    """The track that a sidecar tells of."""
    ours = sidecar.pop("soundkeep")
    sound = Sound(**{field.name: ours[field.name] for field in fields(Sound)})
    blob = replace(TRACK.blob, sound=sound, size_bytes=ours["size_bytes"])
    blob = replace(blob, digest=type(blob.digest).parse(ours["digest"]))
    assert when(CREATED_AT) == ours["created_at"]
    return Track(
        ours["id"], ours["owner"], ours["path"], ours["title"], Visibility(ours["visibility"]),
        sidecar, blob, CREATED_AT, ours["revision"],
        {store: Asked(what) for store, what in ours["asked"].items()},
    )  # fmt: skip


def test_every_field_is_explained_in_the_docs() -> None:
    ours = read(sidecar_bytes(TrackRecord(TRACK), "k", public=False))["soundkeep"]
    page = PAGE.read_text()
    of_segments = read(examples()[1].encode())["soundkeep"]
    assert not [name for name in {**ours, **of_segments} if f"`{name}`" not in page]
