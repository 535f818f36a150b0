"""The means of the benchmarks measure what they say: a gate that cannot fail proves nothing."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import peers
from harness import (
    FULL,
    PEER_MISSING,
    SHORT,
    Form,
    Gate,
    PeerMissing,
    Reading,
    Report,
    Round,
    command,
    cpu_reached,
    cpu_seconds,
    interleave,
    peak_megabytes,
    rate_reached,
    run,
    wall_times,
    watch,
)
from load import Answers, Ask, ask

SOUND = bytes(range(256)) * 4096  # 1 MiB
BUSY = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.5: pass\n"


def a_round(ours: Reading, theirs: Reading) -> Round:
    return {"ours": ours, "theirs": theirs}


def test_contestants_take_turns_and_the_first_place_alternates() -> None:
    order: list[str] = []

    def contestant(name: str) -> Reading:
        order.append(name)
        return Reading(1, 1)

    form = Form(rounds=3, scale=1, judged=True)
    rounds = interleave(form, {name: partial(contestant, name) for name in "ab"})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [list(readings) for readings in rounds] == [["a", "b"]] * 3


def test_ratios_above_one_say_that_we_are_better_but_times_say_how_much_longer() -> None:
    ours = Reading(cpu_seconds=2, wall_seconds=6, units=10, peak_bytes=150_000_000)
    theirs = Reading(cpu_seconds=1, wall_seconds=3, units=10)
    readings = a_round(ours, theirs)
    assert cpu_reached("ours", of="theirs")(readings) == 0.5
    assert rate_reached("ours", of="theirs")(readings) == 0.5
    assert wall_times("ours", of="theirs")(readings) == 2.0
    assert peak_megabytes(of="ours")(readings) == 150


def test_the_cpu_of_a_unit_does_not_depend_on_how_many_were_asked() -> None:
    assert Reading(2, 1, units=10).cpu_per_unit == Reading(20, 1, units=100).cpu_per_unit


def test_two_programs_on_the_same_units_add_up_to_one_reading() -> None:
    assert Reading(1, 2, 5, 70) + Reading(3, 4, 5, 60) == Reading(4, 6, 5, 70)


@pytest.mark.parametrize(("ours_cpu", "code"), [(2.0, 0), (2.1, 1)])
def test_a_missed_gate_makes_the_exit_code_one(
    ours_cpu: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(FULL)
    rounds = [a_round(Reading(ours_cpu, 1), Reading(1, 1))] * 7
    report.add("a case", rounds, [Gate("cpu", cpu_reached("ours", of="theirs"), at_least=0.5)])
    assert report.exit_code() == code
    assert ("MISSED" in capsys.readouterr().out) == bool(code)


def test_the_median_is_judged_and_the_spread_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(FULL)
    rounds = [a_round(Reading(1, wall), Reading(1, 1)) for wall in (9, 1, 1)]
    report.add("a case", rounds, [Gate("wall", wall_times("ours", of="theirs"), at_most=1.5)])
    assert report.exit_code() == 0
    assert "wall: 1.00 (1.00 to 9.00), at most 1.5: reached" in capsys.readouterr().out


def test_the_short_form_prints_a_missed_gate_and_does_not_judge(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(SHORT)
    rounds = [a_round(Reading(9, 1), Reading(1, 1))]
    report.add("a case", rounds, [Gate("cpu", cpu_reached("ours", of="theirs"), at_least=0.5)])
    assert report.exit_code() == 0
    assert "cpu: 0.11" in capsys.readouterr().out


def test_the_short_form_is_a_twentieth_of_the_size_and_never_nothing() -> None:
    assert [SHORT.size(full) for full in (1000, 20, 1)] == [50, 1, 1]
    assert (SHORT.rounds, FULL.rounds, FULL.size(1000)) == (1, 7, 1000)


def test_a_missing_peer_is_said_and_is_no_failure_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def benchmark(report: Report) -> None:
        raise PeerMissing("nginx is not here")

    monkeypatch.setattr(sys, "argv", ["benchmark", "--short"])
    assert run("What it measures.", benchmark) == PEER_MISSING
    assert "skipped: nginx is not here" in capsys.readouterr().err


def test_a_command_is_charged_for_its_children_too() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    reading = command([sys.executable, "-c", child])
    assert reading.cpu_seconds >= 0.5


def test_a_running_process_tree_is_charged_for_children_alive_and_reaped() -> None:
    lines = f"""
import subprocess, sys
reaped = subprocess.run([sys.executable, "-c", {BUSY!r}])
alive = subprocess.Popen([sys.executable, "-c", {BUSY!r} + "print('busy no more'); input()"],
                         stdin=subprocess.PIPE)
input()
alive.communicate(b"end")
"""
    argv = [sys.executable, "-uc", lines]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"busy no more\n"
        spent = cpu_seconds(parent.pid)
        parent.communicate(b"end\n")
    assert spent >= 0.98  # two times half a second, in ticks of 10 ms


def test_a_command_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        command([sys.executable, "-c", "print('no such voice'); raise SystemExit(3)"])
    assert (caught.value.returncode, caught.value.output) == (3, b"no such voice\n")


def test_the_peak_is_the_programs_own_and_not_its_parents() -> None:
    held = bytearray(200_000_000)
    held[::4096] = b"\1" * len(held[::4096])
    lines = "import time; block = b'x' * 50_000_000; time.sleep(0.3)"
    reading = command([sys.executable, "-c", lines])
    del held
    assert 50_000_000 < reading.peak_bytes < 150_000_000


# --- against a real nginx -------------------------------------------------------------------


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[peers.Nginx]:
    files = tmp_path / "files"
    files.mkdir()
    (files / "sound.mp3").write_bytes(SOUND)
    try:
        peers.nginx_program()
    except PeerMissing as missing:
        pytest.skip(str(missing))
    with peers.nginx(files) as running:
        yield running


def fetch(port: int, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/sound.mp3", headers=headers)
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, body


def test_nginx_serves_the_bytes_and_their_ranges(nginx: peers.Nginx) -> None:
    assert fetch(nginx.port, {}) == (200, SOUND)
    assert fetch(nginx.port, {"Range": "bytes=1-70000"}) == (206, SOUND[1:70001])


def test_the_client_counts_every_byte_of_every_answer(nginx: peers.Nginx) -> None:
    ranged = Ask("/sound.mp3", 40, headers={"Range": "bytes=0-65535"}, status=206, length=65536)
    whole = Ask("/sound.mp3", 10, length=len(SOUND))
    answers = ask(nginx.port, [ranged, whole], connections=4)
    assert (answers.units, answers.body_bytes) == (50, 40 * 65536 + 10 * len(SOUND))


def test_one_wrong_answer_ends_the_run(nginx: peers.Nginx) -> None:
    right = Ask("/sound.mp3", 5, length=len(SOUND))
    for wrong in (
        replace(right, target="/no.mp3"),
        replace(right, length=len(SOUND) - 1),
        replace(right, status=206),
    ):
        with pytest.raises(RuntimeError, match="the client failed"):
            ask(nginx.port, [right, wrong], connections=2)


def test_a_watched_server_is_charged_for_what_it_was_asked(nginx: peers.Nginx) -> None:
    def few() -> Answers:
        return ask(nginx.port, [Ask("/sound.mp3", 20)])

    def many() -> Answers:
        return ask(nginx.port, [Ask("/sound.mp3", 2000)])

    assert watch(nginx.pid, few).cpu_seconds < watch(nginx.pid, many).cpu_seconds


def test_each_upload_to_nginx_becomes_a_file_with_its_own_stamp(
    nginx: peers.Nginx, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(SOUND)
    upload = Ask(
        "/uploads/{n}",
        3,
        "POST",
        body_file=str(tmp_path / "body"),
        stamp_at=100,
        first=7,
        status=204,
    )
    assert ask(nginx.port, [upload], connections=2).units == 3
    stamped = [SOUND[:100] + n.to_bytes(8, "big") + SOUND[108:] for n in (7, 8, 9)]
    assert {path.read_bytes() for path in nginx.uploads()} == set(stamped)


# --- rclone and SHA-256 ---------------------------------------------------------------------


def test_rclone_copies_a_folder_and_knows_no_remotes(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "sound.mp3").write_bytes(SOUND)
    command(peers.rclone("copy", str(tmp_path / "from"), str(tmp_path / "to")))
    assert (tmp_path / "to" / "sound.mp3").read_bytes() == SOUND
    listed = subprocess.run(peers.rclone("listremotes"), capture_output=True, check=True)
    assert listed.stdout == b""


@pytest.mark.parametrize("hashed", [peers.sha256sum, peers.fast_sha256])
def test_hashing_is_charged_by_the_file(
    hashed: Callable[[list[Path]], Reading], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(SOUND * 20)
    reading = hashed(files)
    assert reading.units == 2
    assert reading.cpu_per_unit == reading.cpu_seconds / 2 > 0
