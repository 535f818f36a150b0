"""A provider of speech for tests: a real HTTP server that speaks with espeak-ng and counts charges.

It runs as a process of its own (`running`), which prints its port. What it does wrong is switched
over HTTP, so that every process of a test can do it; `Fake` is the hand on those switches.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import random
import socket
import struct
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import msgspec
from aiohttp import web

from servers.processes import dying_with_us
from soundkeep.speech.engines.espeak_worker import Espeak, Line, Said, installed

API_KEY = "sk-of-the-tests-0123456789"
TESTS = Path(__file__).resolve().parents[1]
STARTS_WITHIN_SECONDS = 60
HTML = b"<!DOCTYPE html><html><body>a proxy speaks</body></html>"
STALLS_FOR_SECONDS = 120

CODECS = {
    "mp3": ("libmp3lame", "mp3"),
    "opus": ("libopus", "ogg"),
    "flac": ("flac", "flac"),
    "wav": ("pcm_s16le", "wav"),
    "pcm": ("pcm_s16le", "s16le"),
    "aac": ("aac", "adts"),
    "ulaw": ("pcm_mulaw", "mulaw"),
    "alaw": ("pcm_alaw", "alaw"),
}


# --- the hand on the switches ---------------------------------------------------------------


@dataclass(frozen=True)
class Fake:
    """A running provider, as a test sees it."""

    url: str
    pid: int

    def behave(self, **how: Any) -> None:
        """Sets switches of `Behaviour`; the others stay as they are."""
        self._ask("/behave", how)

    def reset(self) -> None:
        """Behaves well again, and has charged nobody."""
        self._ask("/reset", {})

    def charges(self) -> dict[str, Any]:
        """`calls` to speak, `charges`, `characters`, charges by `texts`; calls at once: `running`
        now, `peak`; who `hung_up`; what was `asked`, call by call; `lists` that were asked for."""
        return self._ask("/charges", None)

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.url + path, data=data, timeout=20) as answer:
            return json.load(answer)


@contextlib.contextmanager
def running(module: str, *options: str) -> Iterator[Fake]:
    """The module as a process, until the block ends."""
    process = subprocess.Popen(
        dying_with_us([sys.executable, "-m", module, *options]),
        stdout=subprocess.PIPE,
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            port = int(process.stdout.readline())
            yield Fake(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.kill()
        process.wait(STARTS_WITHIN_SECONDS)


# --- the server -----------------------------------------------------------------------------


class Behaviour(msgspec.Struct):
    """What it does with calls to speak."""

    fault: str = ""  # a name of the server's own table, or of `FAULTS`
    times: int | None = None  # so many calls, then well again
    retry_after: str = ""
    delay_seconds: float = 0.0  # before the first byte
    piece_seconds: float = 0.0  # between pieces
    piece_bytes: int = 4096
    maximum: int = 0  # calls at once; more are refused; 0 says nothing about it
    others: int = 0  # calls at once by somebody else
    lists_fault: int = 0  # the status of lists


# What a client can see, and what only somebody who listens can hear.
FAULTS = {"html", "empty", "cut_off", "wrong_type", "stall", "reset", "reset_later", "garbage"}
BAD_TAKES = {"silent", "noise", "too_short", "too_long", "truncated", "other_codec"}


@dataclass
class Counts:
    calls: int = 0
    charges: int = 0
    running: int = 0
    characters: int = 0
    peak: int = 0
    lists: int = 0
    hung_up: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    asked: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Order:
    """One call to speak, understood."""

    text: str
    speed: float
    format: str
    coding: str
    media_type: str
    sample_rate_hz: int
    bit_rate: int | None = None
    model: str = ""


class Provider:
    """What the providers of the tests have in common. A subclass knows its own protocol."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.counts = Counts()
        self._espeak = Espeak(*installed())

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/charges", self._charges)
        app.router.add_post("/behave", self._behave)
        app.router.add_post("/reset", self._reset)
        self.add_routes(app.router)
        return app

    def add_routes(self, router: web.UrlDispatcher) -> None:
        raise NotImplementedError

    def refusal(self, fault: str) -> tuple[int, Any] | None:
        """Status and body of a refusal by that name, as the provider words it."""
        raise NotImplementedError

    def cost_headers(self, order: Order) -> dict[str, str]:
        return {}

    # --- speaking ---------------------------------------------------------------------------

    async def answer(
        self, request: web.Request, order: Order, *, lines: str = ""
    ) -> web.StreamResponse:
        """What was ordered, or what is wrong just now; in JSON with times as `lines` or `whole`."""
        self.counts.calls += 1
        self.counts.asked.append({"path": request.path_qs, "body": await request.json()})
        fault = self._fault()
        refused = self.refusal(fault) if fault else None
        if self._is_full():
            refused = self.refusal("too_many_concurrent_requests")
        if refused is not None:
            return web.json_response(refused[1], status=refused[0], headers=self._waits())
        if fault == "reset":
            return _reset(request)
        counts = self.counts  # those of this test, also when the next one has begun
        counts.running += 1
        counts.peak = max(counts.peak, counts.running)
        try:
            return await self._spoken(request, order, fault, lines)
        except ConnectionError:
            counts.hung_up += 1
            return web.Response()  # to nobody
        finally:
            counts.running -= 1

    async def _spoken(
        self, request: web.Request, order: Order, fault: str, lines: str
    ) -> web.StreamResponse:
        self._charge(order)
        said = self._espeak.say(Line("gmw/en-US", order.text, round(175 * order.speed)))
        audio = badly_taken(said, order, fault)
        await asyncio.sleep(self.behaviour.delay_seconds)
        media_type = "application/json" if lines else order.media_type
        if fault == "html":
            return web.Response(body=HTML, content_type="text/html")
        if fault == "wrong_type":
            media_type = "video/mp4" if not lines else "audio/mpeg"
        headers = {"Content-Type": media_type, **self.cost_headers(order), **self._concurrency()}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if fault == "empty":
            audio = b""
        pieces = self._lines(lines, audio, said, order) if lines else self._bytes(audio)
        number = 0
        async for piece in pieces:
            number += 1
            if number > 1:
                await asyncio.sleep(self.behaviour.piece_seconds)
                if fault == "stall":
                    await asyncio.sleep(STALLS_FOR_SECONDS)
                if fault == "reset_later":
                    return _reset(request)
                if fault == "cut_off":
                    assert request.transport is not None
                    request.transport.close()
                    return response
            await response.write(b"\x00garbage\n" if fault == "garbage" else piece)
        await response.write_eof()
        return response

    async def _bytes(self, audio: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(audio), self.behaviour.piece_bytes):
            yield audio[at : at + self.behaviour.piece_bytes]

    async def _lines(
        self, form: str, audio: bytes, said: Said, order: Order
    ) -> AsyncIterator[bytes]:
        """Pieces of audio with the share of the times that falls to each."""
        spelled = spelled_out(said, order.text)
        pieces = [audio] if form == "whole" else [piece async for piece in self._bytes(audio)]
        for number, piece in enumerate(pieces):
            share = [len(spelled) * edge // len(pieces) for edge in (number, number + 1)]
            line = self.line(piece, spelled[slice(*share)])
            yield json.dumps(line).encode() + b"\n"

    def line(self, audio: bytes, spelled: list[tuple[str, float, float]]) -> Any:
        """A piece of audio with its times, as the provider puts them into JSON."""
        raise NotImplementedError

    def _charge(self, order: Order) -> None:
        self.counts.charges += 1
        self.counts.characters += len(order.text)
        self.counts.texts[order.text] += 1

    def _fault(self) -> str:
        if not self.behaviour.fault or self.behaviour.times == 0:
            return ""
        if self.behaviour.times is not None:
            self.behaviour.times -= 1
        return self.behaviour.fault

    def _is_full(self) -> bool:
        most = self.behaviour.maximum
        return bool(most) and self.counts.running + self.behaviour.others >= most

    def _concurrency(self) -> dict[str, str]:
        if not self.behaviour.maximum:
            return {}
        return {
            "maximum-concurrent-requests": str(self.behaviour.maximum),
            "current-concurrent-requests": str(self.counts.running + self.behaviour.others),
        }

    def _waits(self) -> dict[str, str]:
        given = self.behaviour.retry_after
        return self._concurrency() | ({"Retry-After": given} if given else {})

    # --- lists and switches -----------------------------------------------------------------

    def listed(self, body: Any) -> web.Response:
        """A list, or the status that lists answer with just now."""
        self.counts.lists += 1
        if self.behaviour.lists_fault:
            return web.Response(status=self.behaviour.lists_fault, text="no list")
        return web.json_response(body)

    async def _charges(self, request: web.Request) -> web.Response:
        return web.json_response(vars(self.counts))

    async def _behave(self, request: web.Request) -> web.Response:
        given = msgspec.to_builtins(self.behaviour) | await request.json()
        self.behaviour = msgspec.convert(given, Behaviour)
        known = self.behaviour.fault in FAULTS | BAD_TAKES | {""} or self.refusal(
            self.behaviour.fault
        )
        return web.json_response({}, status=200 if known else 400)

    async def _reset(self, request: web.Request) -> web.Response:
        self.behaviour, self.counts = Behaviour(), Counts()
        return web.json_response({})


def _reset(request: web.Request) -> web.StreamResponse:
    """Closes the connection with a reset: nothing lingers, not even what was written."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


# --- sound ----------------------------------------------------------------------------------


def badly_taken(said: Said, order: Order, fault: str) -> bytes:
    """The sound as `fault` has it, one of `BAD_TAKES`; as it should be for any other."""
    size = len(said.samples)
    if fault == "other_codec":
        coding = "wav" if order.coding != "wav" else "mp3"
        return encoded(said, replace(order, coding=coding))
    if fault == "truncated":
        whole = encoded(said, order)
        return whole[: len(whole) // 2]
    samples = {
        "silent": lambda: bytes(size),
        "noise": lambda: random.Random(order.text).randbytes(size),
        "too_short": lambda: said.samples[: size // 20 * 2],
        "too_long": lambda: said.samples * 8,
    }
    changed = samples[fault]() if fault in samples else said.samples
    return encoded(msgspec.structs.replace(said, samples=changed), order)


def encoded(said: Said, order: Order) -> bytes:
    """The samples in the format that was ordered."""
    codec, container = CODECS[order.coding]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=order.sample_rate_hz)
        stream.layout = "mono"
        if order.bit_rate:
            stream.bit_rate = order.bit_rate
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=order.sample_rate_hz
        )
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(said.samples) // 2)
        frame.planes[0].update(
            said.samples + bytes(frame.planes[0].buffer_size - len(said.samples))
        )
        frame.sample_rate = said.sample_rate_hz
        frame.pts = 0
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 4096
        while (part := fifo.read(size, partial=True)) is not None:
            part.pts = None
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return out.getvalue()


def spelled_out(said: Said, text: str) -> list[tuple[str, float, float]]:
    """Every character with its time: spread evenly between the words that espeak heard begin."""
    seconds = len(said.samples) / 2 / said.sample_rate_hz
    known = {0: 0.0} | {index: sample / said.sample_rate_hz for index, sample in said.onsets}
    known[len(text)] = seconds
    edges = sorted(known)
    times: list[float] = []
    for start, end in itertools.pairwise(edges):
        step = (known[end] - known[start]) / (end - start)
        times += [known[start] + step * number for number in range(end - start)]
    times.append(seconds)
    return [
        (character, round(times[at], 3), round(times[at + 1], 3))
        for at, character in enumerate(text)
    ]


def serve(provider: Provider) -> None:
    """Serves on a port of loopback, which it prints, until it is killed."""
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--delay", type=float, default=0.0)
    options.add_argument("--piece-seconds", type=float, default=0.0)
    given = options.parse_args()
    provider.behaviour.delay_seconds = given.delay
    provider.behaviour.piece_seconds = given.piece_seconds
    listener = socket.create_server(("127.0.0.1", given.port), backlog=512)
    print(listener.getsockname()[1], flush=True)
    web.run_app(provider.app(), sock=listener, print=lambda *_: None, access_log=None)
