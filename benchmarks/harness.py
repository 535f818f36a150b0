"""What every benchmark shares: contestants run side by side and are judged by ratios.

A figure from one machine says little; a ratio to a well-known program, measured on the same
machine in the same minute, says much. So contestants run interleaved, every ratio is taken
within one round, the median of the rounds is judged, and the spread from lowest to highest is
printed beside it so that nobody reads more into the median than is there.

Servers are compared by the CPU seconds of their whole process tree, not by the clock: server
and client share the cores, and the clock would measure both.

A benchmark has a full form (seven rounds, gates, exit code 1 when one is missed) and a short
one (`--short`: one round at a twentieth of the size, prints only). `load.py` asks, `peers.py`
holds the programs we compare ourselves with.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

PEER_MISSING = 77  # the exit code by which test drivers have long known "skipped"
SAMPLE_SECONDS = 0.02
START_SECONDS = 30
STOP_SECONDS = 30


class PeerMissing(Exception):
    """A program we compare ourselves with is not on this machine."""


@dataclass(frozen=True)
class Form:
    """How long a benchmark is run, and whether its gates are judged."""

    rounds: int
    scale: float
    judged: bool

    def size(self, full: int) -> int:
        """A count or a number of bytes of the full form, in this form; at least one."""
        return max(1, round(full * self.scale))


FULL = Form(rounds=7, scale=1.0, judged=True)
SHORT = Form(rounds=1, scale=1 / 20, judged=False)


@dataclass(frozen=True)
class Reading:
    """What one contestant spent in one round. `units` are requests, rows or files."""

    cpu_seconds: float
    wall_seconds: float
    units: int = 1
    peak_bytes: int = 0

    @property
    def cpu_per_unit(self) -> float:
        return self.cpu_seconds / self.units

    @property
    def units_per_second(self) -> float:
        return self.units / self.wall_seconds

    def __add__(self, other: Reading) -> Reading:
        """The same units worked on by one program and then by another."""
        return Reading(
            self.cpu_seconds + other.cpu_seconds,
            self.wall_seconds + other.wall_seconds,
            self.units,
            max(self.peak_bytes, other.peak_bytes),
        )


Round = Mapping[str, Reading]
Figure = Callable[[Round], float]


@dataclass(frozen=True)
class Gate:
    """A figure of each round whose median must reach a bound."""

    says: str
    figure: Figure
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, median: float) -> bool:
        enough = self.at_least is None or median >= self.at_least
        return enough and (self.at_most is None or median <= self.at_most)

    @property
    def bound(self) -> str:
        least = [] if self.at_least is None else [f"at least {self.at_least:g}"]
        most = [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return ", ".join(least + most) or "no bound"


def run(description: str, benchmark: Callable[[Report], None]) -> int:
    """The `main` of a benchmark: choose the form, run it, say the exit code."""
    report = Report(chosen_form(description))
    try:
        benchmark(report)
    except PeerMissing as missing:
        print(f"skipped: {missing}", file=sys.stderr)
        return PEER_MISSING
    return report.exit_code()


def chosen_form(description: str) -> Form:
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="one small round, without gates")
    return SHORT if parser.parse_args().short else FULL


def interleave(form: Form, contestants: Mapping[str, Callable[[], Reading]]) -> list[Round]:
    """Run all contestants in each round; who goes first alternates."""
    names = list(contestants)
    rounds: list[Round] = []
    for number in range(form.rounds):
        order = names if number % 2 == 0 else names[::-1]
        readings = {name: contestants[name]() for name in order}
        rounds.append({name: readings[name] for name in names})
    return rounds


# --- figures a gate can judge ---------------------------------------------------------------


def cpu_reached(ours: str, of: str) -> Figure:
    """1.0 when a unit costs us as much CPU as it costs them; more when it costs us less."""
    return lambda readings: readings[of].cpu_per_unit / readings[ours].cpu_per_unit


def rate_reached(ours: str, of: str) -> Figure:
    """1.0 when we do as many units a second as they."""
    return lambda readings: readings[ours].units_per_second / readings[of].units_per_second


def wall_times(ours: str, of: str) -> Figure:
    """2.0 when we take twice as long as they."""
    return lambda readings: readings[ours].wall_seconds / readings[of].wall_seconds


def peak_megabytes(of: str) -> Figure:
    return lambda readings: readings[of].peak_bytes / 1e6


# --- readings -------------------------------------------------------------------------------


class Done(Protocol):
    """What was done for a reading: `load.Answers` is one."""

    @property
    def units(self) -> int: ...
    @property
    def seconds(self) -> float: ...


def watch(pid: int, work: Callable[[], Done]) -> Reading:
    """Do the work, and read what it cost the server whose first process is `pid`."""
    before = cpu_seconds(pid)
    with peak_of(pid) as peak:
        done = work()
    return Reading(cpu_seconds(pid) - before, done.seconds, done.units, peak())


def our_environment(data: Path, **settings: str) -> dict[str, str]:
    """What a server or command of ours is started with: these settings, and none from outside.

    Python may keep what it compiled, as it does for everybody: a start costs half a second less.
    """
    foreign = ("SOUNDKEEP_", "PYTHONDONTWRITEBYTECODE")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return (
        own
        | {f"SOUNDKEEP_{name}": value for name, value in settings.items()}
        | {"SOUNDKEEP_DATA": str(data)}
    )


def command(argv: Sequence[str], units: int = 1, env: Mapping[str, str] | None = None) -> Reading:
    """Run a program to its end and read what it cost, its children included.

    Raises CalledProcessError, with what the program said, unless it exits with 0.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        with peak_of(process.pid) as peak:
            assert process.stdout is not None
            said = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, said)
    wall_seconds = time.perf_counter() - started
    return Reading(usage.ru_utime + usage.ru_stime, wall_seconds, units, peak())


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its living descendants and the children they reaped.

    Linux counts in ticks of 10 ms: measure for a second or more.
    """
    return _sum_of_tree(pid, lambda process: sum(process.cpu_times()[:4]))


def resident_bytes(pid: int) -> int:
    return int(_sum_of_tree(pid, lambda process: process.memory_info().rss))


@contextmanager
def peak_of(pid: int) -> Iterator[Callable[[], int]]:
    """Sample the memory of a process tree for as long as the block runs.

    The kernel's own peak (`ru_maxrss`) is of no use here: a child inherits its parent's.
    """
    samples = [0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            samples.append(resident_bytes(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield lambda: max(samples)
    finally:
        ended.set()
        sampler.join()


def _sum_of_tree(pid: int, figure: Callable[[psutil.Process], float]) -> float:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return sum(_unless_gone(each, figure) for each in [root, *root.children(recursive=True)])
    return 0.0


def _unless_gone(process: psutil.Process, figure: Callable[[psutil.Process], float]) -> float:
    with suppress(psutil.NoSuchProcess):
        return figure(process)
    return 0.0


# --- servers --------------------------------------------------------------------------------


@contextmanager
def serving(
    argv: Sequence[str], port: int, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, wait until its port on loopback accepts, and end it by its pid."""
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for_port(process, port)
        yield process
    finally:
        end(process)


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} exited with {process.returncode} at its start")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(SAMPLE_SECONDS)
    raise TimeoutError(f"{process.args!r} did not listen on port {port} in {START_SECONDS} s")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- the report -----------------------------------------------------------------------------


class Report:
    """Prints each case as it is measured, and remembers the gates that were missed."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._missed: list[str] = []

    def add(self, case: str, rounds: Sequence[Round], gates: Sequence[Gate] = ()) -> None:
        """A case with all its rounds: one line for each contestant and for each gate."""
        print(f"\n{case} ({len(rounds)} round{'s' * (len(rounds) > 1)})")
        print(f"  {'':24}{'cpu each':>12}{'rate':>14}{'wall':>12}{'peak':>10}")
        for name in rounds[0]:
            print(_line(name, [readings[name] for readings in rounds]))
        for gate in gates:
            self._judge(case, gate, [gate.figure(readings) for readings in rounds])
        sys.stdout.flush()

    def exit_code(self) -> int:
        for missed in self._missed:
            print(f"missed: {missed}", file=sys.stderr)
        return 1 if self._missed else 0

    def _judge(self, case: str, gate: Gate, figures: Sequence[float]) -> None:
        median = statistics.median(figures)
        line = f"{gate.says}: {median:.2f} ({spread(figures)}), {gate.bound}"
        if not self.form.judged:
            print(f"  {line}; not judged in the short form")
        elif gate.holds(median):
            print(f"  {line}: reached")
        else:
            print(f"  {line}: MISSED")
            self._missed.append(f"{case}: {line}")


def spread(figures: Sequence[float]) -> str:
    """From the lowest to the highest: with seven rounds nothing finer would be honest."""
    return f"{min(figures):.2f} to {max(figures):.2f}"


def _line(name: str, readings: Sequence[Reading]) -> str:
    cpu = statistics.median(reading.cpu_per_unit for reading in readings)
    rate = statistics.median(reading.units_per_second for reading in readings)
    wall = statistics.median(reading.wall_seconds for reading in readings)
    peak = max(reading.peak_bytes for reading in readings)
    return (
        f"  {name:24}{_seconds(cpu):>12}{f'{rate:,.0f}/s':>14}{_seconds(wall):>12}"
        f"{f'{peak / 1e6:,.0f} MB':>10}"
    )


def _seconds(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"
