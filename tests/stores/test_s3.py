"""What a bucket owes, on a real S3 that checks what it is sent and on a poorer one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from servers.s3_plain import Bucket
from servers.seaweed import SeaweedFS
from soundkeep.stores.interface import Store
from soundkeep.stores.s3 import S3Store
from soundkeep.testing.contract import StoreContract

MIB = 1024 * 1024


def store_in(bucket: Bucket, **settings: Any) -> S3Store:
    settings = {"region": bucket.region, "max_bytes": 500 * MIB, **settings}
    return S3Store("bucket", bucket.name, bucket.endpoint, bucket.credentials, **settings)


class TestSeaweedFS(StoreContract):
    prefix = f"contract-{uuid.uuid4().hex}/"

    @pytest.fixture
    async def store(self, seaweed: SeaweedFS) -> AsyncIterator[Store]:
        store = store_in(seaweed.bucket)
        await store.write_marker("id-1")
        yield store
        await store.close()


class TestInParts(TestSeaweedFS):
    """Every object that is not small goes in parts, and lies under a prefix."""

    prefix = f"contract-{uuid.uuid4().hex}/"

    @pytest.fixture
    async def store(self, seaweed: SeaweedFS) -> AsyncIterator[Store]:
        store = store_in(seaweed.bucket, single_put_bytes=300_000, part_bytes=5 * MIB)
        await store.write_marker("id-1")
        yield store
        await store.close()


class TestRclone(StoreContract):
    @pytest.fixture
    async def store(self, rclone_s3: Bucket) -> AsyncIterator[Store]:
        store = store_in(rclone_s3)
        await store.write_marker("id-1")
        yield store
        await store.close()
