"""The small S3 server is as strict as the real ones, and each of its troubles is what it says.

botocore is the independent client; the signatures of the reference's own examples are the oracle.
"""

from __future__ import annotations

import base64
import hashlib
import random
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache, partial
from http.client import IncompleteRead
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session, get_session

from servers import sigv4
from servers.quirky_s3 import (
    ACCESS_KEY,
    BUCKET,
    HTML,
    MINIO,
    PROFILES,
    R2,
    SECRET_KEY,
    SUPABASE,
    TROUBLES,
    Generated,
    QuirkyS3,
    quirky_s3,
)

BODY = random.Random(2).randbytes(70_000)
KEY = "a key/with ümlauts+&=.mp3"
PART_BYTES = 5 * 1024 * 1024

# "Signature Calculations" of the Amazon S3 API reference: the examples and their secret.
REFERENCE_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = "20130524/us-east-1/s3/aws4_request"
NOTHING = hashlib.sha256(b"").hexdigest()
IN_HEADERS = sigv4.Request(
    "GET",
    "/test.txt",
    {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": NOTHING,
        "x-amz-date": "20130524T000000Z",
        "authorization": f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{SCOPE},"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    },
)
PRESIGNED = sigv4.Request(
    "GET",
    "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F"
    + SCOPE.replace("/", "%2F")
    + "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    {"host": "examplebucket.s3.amazonaws.com"},
)


@pytest.fixture(params=PROFILES.values(), ids=list(PROFILES))
def server(request: pytest.FixtureRequest) -> Iterator[QuirkyS3]:
    with quirky_s3(request.param) as started:
        yield started


@pytest.fixture
def plain() -> Iterator[QuirkyS3]:
    with quirky_s3(MINIO) as started:
        yield started


def client(
    server: QuirkyS3,
    access_key: str = ACCESS_KEY,
    secret: str = SECRET_KEY,
    region: str = "us-east-1",
) -> Any:
    """One that tries once and has no opinion of its own on checksums."""
    config = Config(
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session().create_client(
        "s3",
        region_name=region,
        endpoint_url=server.url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        config=config,
    )


@cache
def session() -> Session:
    """One for all: it reads what botocore knows of S3 for most of a second."""
    return get_session()


def get(s3: Any, key: str = KEY, **more: Any) -> bytes:
    answer = s3.get_object(Bucket=BUCKET, Key=key, **more)
    with answer["Body"] as body:
        data: bytes = body.read()
    return data


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ClientError) as raised:
        call()
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


# --- who may come in -----------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [IN_HEADERS, PRESIGNED], ids=["in headers", "presigned"])
def test_the_examples_of_the_reference_have_the_signatures_it_gives(
    request_: sigv4.Request,
) -> None:
    claim = sigv4.claim_of(request_)
    assert sigv4.sign(request_, claim, REFERENCE_SECRET) == claim.signature


def test_a_wrong_secret_is_refused(server: QuirkyS3) -> None:
    wrong = client(server, secret="wrong")
    code = refusal(lambda: wrong.put_object(Bucket=BUCKET, Key=KEY, Body=BODY))
    assert code[0] == 403
    assert server.objects == {}


def test_an_unknown_token_is_refused_as_each_service_does(server: QuirkyS3) -> None:
    unknown = client(server, access_key="nobody")
    status, _ = refusal(lambda: get(unknown))
    assert status == (404 if server.profile is SUPABASE else 403)


def test_a_request_without_a_signature_is_refused(plain: QuirkyS3) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{plain.url}/{BUCKET}/x", timeout=10)
    with raised.value as answer:
        assert (answer.code, b"<Code>AccessDenied</Code>" in answer.read()) == (403, True)


def test_a_signature_for_another_region_is_told_the_right_one(plain: QuirkyS3) -> None:
    elsewhere = client(plain, region="mars-1")
    url = elsewhere.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": KEY})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url, timeout=10)
    with raised.value as answer:
        told = answer.read()
    assert answer.code == 400
    assert b"<Code>AuthorizationHeaderMalformed</Code>" in told
    assert b"<Region>us-east-1</Region>" in told


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_far_off_is_refused(plain: QuirkyS3, minutes: int) -> None:
    plain.clock_ahead = timedelta(minutes=minutes)
    assert refusal(lambda: get(client(plain))) == (403, "RequestTimeTooSkewed")
    plain.clock_ahead = timedelta(minutes=minutes / 2)
    assert refusal(lambda: get(client(plain))) == (404, "NoSuchKey")


def test_a_presigned_url_opens_one_object_until_it_expires(server: QuirkyS3) -> None:
    s3 = client(server)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
    s3.put_object(Bucket=BUCKET, Key="other", Body=b"other")
    signed = {"Bucket": BUCKET, "Key": KEY}
    url = s3.generate_presigned_url("get_object", signed, ExpiresIn=60)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == BODY
    path = url.split("?")[0].removeprefix(server.url)
    assert status_of(url.replace(path, f"/{BUCKET}/other")) == 403
    server.clock_ahead = timedelta(seconds=62)
    assert status_of(url) == 403


def status_of(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url, timeout=10)
    with raised.value as answer:
        return answer.code


def test_bytes_that_are_not_those_that_were_signed_are_refused(plain: QuirkyS3) -> None:
    s3 = client(plain)

    def swap(request: Any, **_: object) -> None:
        request.body = b"x" * len(BODY)

    s3.meta.events.register("before-send.s3.PutObject", swap)
    put = {"Bucket": BUCKET, "Key": KEY, "Body": BODY}
    assert refusal(lambda: s3.put_object(**put)) == (400, "XAmzContentSHA256Mismatch")
    assert plain.objects == {}


# --- what it does --------------------------------------------------------------------------------


def test_objects_are_put_found_read_listed_and_deleted(server: QuirkyS3) -> None:
    s3 = client(server)
    headers = {"ContentType": "audio/mpeg", "CacheControl": "max-age=86400"}
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY, Metadata={"a": "b"}, **headers)
    found = s3.head_object(Bucket=BUCKET, Key=KEY)
    assert (found["ContentLength"], found["Metadata"]) == (len(BODY), {"a": "b"})
    assert {name: found[name] for name in headers} == headers
    assert get(s3) == BODY
    for wanted, expected in [
        ("bytes=0-0", BODY[:1]),
        ("bytes=10-99", BODY[10:100]),
        ("bytes=69999-", BODY[-1:]),
        ("bytes=-5", BODY[-5:]),
        ("bytes=69000-99999", BODY[69_000:]),
    ]:
        assert get(s3, Range=wanted) == expected
    assert refusal(lambda: get(s3, Range="bytes=70000-"))[0] == 416
    [listed] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert (listed["Key"], listed["Size"]) == (KEY, len(BODY))
    for _ in range(2):
        s3.delete_object(Bucket=BUCKET, Key=KEY)
    assert refusal(lambda: get(s3))[0] == 404
    assert refusal(lambda: s3.head_object(Bucket=BUCKET, Key=KEY))[0] == 404
    assert refusal(lambda: s3.head_bucket(Bucket="another"))[0] == 404


def test_only_who_verifies_refuses_a_wrong_checksum(server: QuirkyS3) -> None:
    s3 = client(server)
    put = {"Bucket": BUCKET, "Key": KEY, "Body": BODY}
    s3.put_object(ChecksumSHA256=sha256(BODY), **put)
    again: dict[str, Any]
    for again in (
        {"ChecksumSHA256": sha256(b"other")},
        {"ContentMD5": base64.b64encode(bytes(16)).decode()},
        {"IfNoneMatch": "*"},
    ):
        if server.profile.verifies:
            assert refusal(partial(s3.put_object, **put, **again))[0] in (400, 412)
        else:
            s3.put_object(**put, **again)
    found = s3.head_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")
    assert found.get("ChecksumSHA256") == (sha256(BODY) if server.profile.verifies else None)


def upload(s3: Any, sizes: list[int]) -> dict[str, Any]:
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key=KEY, ContentType="audio/mpeg")
    named = {"Bucket": BUCKET, "Key": KEY, "UploadId": begun["UploadId"]}
    parts = []
    for number, size in enumerate(sizes, 1):
        data = bytes([number]) * size
        checksum = sha256(data)
        part = s3.upload_part(PartNumber=number, Body=data, ChecksumSHA256=checksum, **named)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    answer: dict[str, Any] = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **named)
    return answer


def test_parts_make_an_object_whose_checksum_is_that_of_the_parts(server: QuirkyS3) -> None:
    s3 = client(server)
    whole = b"\1" * PART_BYTES + b"\2" * PART_BYTES + b"\3" * 1000
    told = upload(s3, [PART_BYTES, PART_BYTES, 1000])
    assert told["ETag"].endswith('-3"')
    assert get(s3) == whole
    found = s3.head_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")
    assert found["ContentType"] == "audio/mpeg"
    if server.profile.verifies:
        assert found["ChecksumSHA256"].endswith("-3"), "it is not the SHA-256 of the object"
    assert server.uploads == {}


def test_parts_of_unequal_sizes_are_refused_by_r2_alone(server: QuirkyS3) -> None:
    s3 = client(server)
    sizes = [PART_BYTES, PART_BYTES + 1, 1000]
    if server.profile is R2:
        assert refusal(lambda: upload(s3, sizes)) == (400, "InvalidPart")
    else:
        upload(s3, sizes)
        assert len(get(s3)) == sum(sizes)


def test_an_upload_that_is_not_completed_is_listed_until_it_is_aborted(server: QuirkyS3) -> None:
    s3 = client(server)
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key=KEY)
    [listed] = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert (listed["Key"], listed["UploadId"]) == (KEY, begun["UploadId"])
    s3.abort_multipart_upload(Bucket=BUCKET, Key=KEY, UploadId=begun["UploadId"])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert server.objects == {}


def test_a_hundred_thousand_keys_come_in_pages_each_once_and_in_order(plain: QuirkyS3) -> None:
    plain.generated = Generated("blobs/", 100_000)
    last = plain.generated[97_499]
    pages = (
        client(plain)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=BUCKET, Prefix="blobs/", StartAfter=last)
    )
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert keys == [plain.generated[at] for at in range(97_500, 100_000)]
    assert len(plain.requests) == 3
    [first] = client(plain).list_objects_v2(Bucket=BUCKET, Prefix="blobs/", MaxKeys=1)["Contents"]
    assert first["Key"] == "blobs/00000000"
    assert client(plain).list_objects_v2(Bucket=BUCKET, Prefix="c")["KeyCount"] == 0


def test_it_comes_back_on_its_port_with_what_it_kept(plain: QuirkyS3) -> None:
    client(plain).put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
    plain.stop()
    plain.start()
    assert get(client(plain)) == BODY


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, trouble in TROUBLES.items() if trouble.code])
def test_a_refusal_has_its_status_and_its_code(plain: QuirkyS3, name: str) -> None:
    plain.suffers(name)
    expected = TROUBLES[name].status, TROUBLES[name].code
    assert refusal(lambda: get(client(plain))) == expected
    plain.heals()
    assert refusal(lambda: get(client(plain))) == (404, "NoSuchKey")


def test_a_trouble_may_be_for_some_requests_and_a_few_times(plain: QuirkyS3) -> None:
    s3 = client(plain)
    plain.suffers("slow down", methods=("PUT",), of="other", times=1)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
    assert refusal(lambda: get(s3, "other"))[0] == 404
    put = {"Bucket": BUCKET, "Key": "other", "Body": BODY}
    assert refusal(lambda: s3.put_object(**put)) == (503, "SlowDown")
    s3.put_object(**put)
    assert get(s3, "other") == BODY


def test_a_put_may_be_applied_and_yet_answered_with_an_error(plain: QuirkyS3) -> None:
    s3 = client(plain)
    plain.suffers("applied but failed")
    assert refusal(lambda: s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY))[0] == 500
    plain.heals()
    assert get(s3) == BODY


def test_a_completion_may_say_200_and_mean_an_error(plain: QuirkyS3) -> None:
    plain.suffers("complete that fails")
    assert refusal(lambda: upload(client(plain), [1000]))[1] == "InternalError"


def test_spoilt_bodies_are_spoilt_as_ordered(plain: QuirkyS3) -> None:
    s3 = client(plain)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
    plain.suffers("200 to a range")
    assert get(s3, Range="bytes=5-9") == BODY
    plain.suffers("flipped byte")
    assert get(s3, Range="bytes=5-9") == bytes([BODY[5] ^ 0xFF]) + BODY[6:10]
    plain.suffers("long body")
    assert get(s3, Range="bytes=5-9") == BODY[5:10] + b"and more"
    plain.suffers("etag that is no md5")
    assert s3.head_object(Bucket=BUCKET, Key=KEY)["ETag"] == '"0xNotAnMD5"'
    plain.suffers("short body")
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": KEY})
    with urllib.request.urlopen(url, timeout=10) as answer, pytest.raises(IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial == BODY[: len(BODY) // 2]


@pytest.mark.parametrize("name", ["html", "html from a gateway"])
def test_html_is_html(plain: QuirkyS3, name: str) -> None:
    plain.suffers(name)
    if TROUBLES[name].status == 200:
        assert get(client(plain)) == HTML
    else:
        assert refusal(lambda: get(client(plain)))[0] == 502


def test_the_errors_of_supabase_have_a_namespace() -> None:
    """Later releases of botocore may see through it, so the bytes themselves are looked at."""
    with quirky_s3(SUPABASE) as server:
        url = client(server).generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": KEY})
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(url, timeout=10)
        with raised.value as answer:
            assert b"<Error xmlns=" in answer.read()
