"""Refusals are understood whatever their body is, and what a provider wrote is not repeated."""

from __future__ import annotations

import json
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.errors import EngineError, EngineThrottled
from soundkeep.speech.engines.refusals import Refusal

SENTENCE = "Incorrect API key provided: sk-secret"
ANYTHING = st.recursive(
    st.none() | st.integers() | st.just(SENTENCE) | st.sampled_from(["quota_exceeded", "loc", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["detail", "error", "status", "code", "type", "loc", "param"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.integers(201, 599), ANYTHING)
def test_any_json_is_understood_and_no_sentence_of_it_is_repeated(status: int, body: Any) -> None:
    error = Refusal.read(status, {}, json.dumps(body).encode()).error("engine")
    assert isinstance(error, EngineError)
    assert "secret" not in str(error)
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[", b"null", b'"detail"'])
def test_a_body_that_is_no_json_leaves_the_status(body: bytes) -> None:
    assert str(Refusal.read(500, {}, body).error("engine")) == "engine: it failed (HTTP 500)"


@pytest.mark.parametrize(("header", "seconds"), [("0", 0), ("7", 7), ("9" * 400, 3600)])
def test_a_pause_in_seconds_is_obeyed_but_never_for_ever(header: str, seconds: float) -> None:
    assert pause(header) == seconds


def test_a_pause_may_be_told_as_a_date() -> None:
    now = time()
    assert 500 <= pause(formatdate(now + 600, usegmt=True)) <= 600
    assert pause(formatdate(now - 600, usegmt=True)) == 0


def pause(header: str) -> float:
    error = Refusal.read(429, {"retry-after": header}, b"").error("engine")
    assert isinstance(error, EngineThrottled)
    assert error.retry_after is not None
    return error.retry_after


@pytest.mark.parametrize("header", ["", "soon", "-1", "1.5", "Wed, 99 Foo 2026"])
def test_a_pause_that_cannot_be_read_is_none(header: str) -> None:
    error = Refusal.read(429, {"retry-after": header}, b"").error("engine")
    assert isinstance(error, EngineThrottled)
    assert error.retry_after is None
