"""Answers in XML are read whatever their form, and nothing but a plain answer is."""

from __future__ import annotations

import pytest

from soundkeep.stores.s3_answers import Answered, NotAnAnswer, moment

LIST = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<ListBucketResult xmlns="http://s3"> <IsTruncated>false</IsTruncated>\n'
    " <Contents><Key>a &amp; é</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified>"
    "<Owner><Key>not this</Key></Owner></Contents>\n"
    " <CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"
    "<Contents><Key></Key><Size>2</Size><LastModified>2026-01-02T03:04:06Z</LastModified></Contents>"
    "</ListBucketResult>"
).encode()
BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<ListBucketResult><IsTruncated>&b;</IsTruncated></ListBucketResult>"
)


def read(body: bytes, piece_bytes: int | None = None) -> Answered:
    answered, size = Answered(), piece_bytes or len(body) or 1
    for at in range(0, len(body), size):
        answered.feed(body[at : at + size])
    return answered.finish()


@pytest.mark.parametrize("piece_bytes", [None, 1, 7])
def test_words_and_rows_are_read_in_pieces_of_any_size(piece_bytes: int | None) -> None:
    answered = read(LIST, piece_bytes)
    assert answered.root == "ListBucketResult"
    assert answered.words == {"IsTruncated": "false"}
    assert [row["Key"] for row in answered.rows["Contents"]] == ["a & é", ""]
    assert [row["Size"] for row in answered.rows["Contents"]] == ["1", "2"]
    assert answered.rows["CommonPrefixes"] == [{"Prefix": "b/"}]
    assert answered.rows["Upload"] == []


def test_a_prefix_of_a_name_does_not_matter() -> None:
    body = b'<s3:Error xmlns:s3="http://s3"><s3:Code>SlowDown</s3:Code></s3:Error>'
    answered = read(body)
    assert (answered.root, answered.words) == ("Error", {"Code": "SlowDown"})


@pytest.mark.parametrize(
    "body",
    [
        BOMB.encode(),
        BOMB.encode("utf-16"),
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x>&y;</x>',
        b"<!DOCTYPE html><html><body>log in</body></html>",
        b"<x>&undeclared;</x>",
    ],
    ids=["bomb", "bomb in UTF-16", "external", "page", "undeclared"],
)
def test_a_document_type_and_its_entities_are_refused(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        read(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"<html><br></html>", b"\xff\xfe", LIST[:-5], LIST + b"<more/>", b"<x>\xe9</x>"],
)
def test_what_is_no_xml_or_not_all_of_it_is_refused(body: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        read(body)


def test_a_row_that_lacks_what_it_must_tell_is_refused() -> None:
    with pytest.raises(NotAnAnswer, match="Size"):
        read(b"<L><Contents><Key>a</Key></Contents></L>")


def test_an_answer_that_does_not_say_what_was_asked_is_refused() -> None:
    with pytest.raises(NotAnAnswer, match="IsTruncated"):
        read(b"<html><body>welcome</body></html>").expect("IsTruncated")


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("Contents", "<Key>x</Key><Size>many</Size><LastModified>2026-01-02</LastModified>"),
        (
            "Contents",
            f"<Key>x</Key><Size>{'9' * 5000}</Size><LastModified>2026-01-02</LastModified>",
        ),
        ("Contents", "<Key>x</Key><Size>1</Size><LastModified>lately</LastModified>"),
        ("Upload", "<Key>x</Key><UploadId>1</UploadId><Initiated></Initiated>"),
    ],
)
def test_a_row_whose_numbers_or_times_are_none_is_no_answer(kind: str, row: str) -> None:
    with pytest.raises(NotAnAnswer):
        Answered().feed(f"<List><{kind}>{row}</{kind}></List>".encode())


def test_a_time_without_a_zone_is_that_of_greenwich() -> None:
    assert moment("2026-01-02T03:04:05") == moment("2026-01-02T03:04:05Z")
