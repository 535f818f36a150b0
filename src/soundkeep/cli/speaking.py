"""`say` and `voices`: text into sound, what it cost, and who can speak."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import complain, count_progress, duration, say_json, say_rows
from soundkeep.cli.output import say as say_line
from soundkeep.cli.plans import say_plan
from soundkeep.cli.playing import Player, find_player
from soundkeep.cli.service import Document, Service
from soundkeep.cli.showing import STANDARD_OUTPUT, pour, write_sound
from soundkeep.errors import BadText, SettingsError
from soundkeep.names import DEFAULT_OWNER

STANDARD_INPUT = "-"
SETTLE_SECONDS = 120.0  # for the copies of what was said, on this machine
UNPLAYED = "speech"  # the file, where nothing can play it
WAV_HEADER_BYTES = 44
CODING_OF_SUFFIX = {
    ".mp3": "mp3",
    ".opus": "opus",
    ".ogg": "opus",
    ".aac": "aac",
    ".flac": "flac",
    ".wav": "wav",
    ".pcm": "pcm",
}
VOICE_HEADERS = ("engine", "id", "name", "languages")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to become of the sound."""

    fields: Document
    out: Path | None
    timings: Path | None
    player: Player | None
    as_json: bool

    @property
    def head_bytes(self) -> int:
        """Raw samples are kept as WAV."""
        raw = str(self.fields.get("format") or "").partition("_")[0] == "pcm"
        return WAV_HEADER_BYTES if raw else 0


def say(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(help="The words; - is standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the text from this file.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write here; - is standard output.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Who speaks.")] = None,
    engine: Annotated[str | None, typer.Option(help="By which engine.")] = None,
    model: Annotated[str | None, typer.Option(help="With which of its models.")] = None,
    language: Annotated[str | None, typer.Option(help="A code such as en or pt-BR.")] = None,
    speed: Annotated[float | None, typer.Option(help="1 is the voice's own.")] = None,
    format: Annotated[
        str | None, typer.Option(help="mp3, opus, aac, flac, wav, pcm, or as mp3_44100_128.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Where its track belongs.")] = None,
    owner: Annotated[str, typer.Option(help="Whose it is, and who pays.")] = DEFAULT_OWNER,
    segment_by: Annotated[
        str | None, typer.Option(help="paragraph, sentence or limit: what is paid for as one.")
    ] = None,
    substitutes: Annotated[
        list[str] | None,
        typer.Option("--or", help="ENGINE or ENGINE/VOICE that may speak if the engine cannot."),
    ] = None,
    timings: Annotated[
        Path | None, typer.Option(help="Write when words are heard: a file .vtt or .json.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Have it spoken by and by; answer at once.")
    ] = False,
    budget: Annotated[str | None, typer.Option(help="Of the plan.")] = None,
    rate: Annotated[float | None, typer.Option(help="Of the plan: segments a minute.")] = None,
    window: Annotated[str | None, typer.Option(help="Of the plan: HH:MM-HH:MM, in UTC.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Say nothing; show figures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the speech as JSON.")] = False,
) -> None:
    """Say a text: into a file, or aloud."""
    options = options_of(context)
    if stats:
        _say_stats(run(options, _stats(options)), as_json)
        return
    if timings is not None and timings.suffix not in (".vtt", ".json"):
        raise SettingsError(f"--timings: {timings} ends neither in .vtt nor in .json")
    player = find_player() if out is None and not (as_json or plan) else None
    given = {
        "text": _text(text, file),
        "voice": voice,
        "engine": engine,
        "model": model,
        "language": language,
        "speed": speed,
        "format": format or _format_for(out, player),
        "collection": collection,
        "owner": owner,
        "segment_by": segment_by,
        "substitutes": substitutes or None,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    of_plan = {"budget": budget, "rate": rate, "window": window}
    if plan:
        made = run(
            options, _plan(options, {**fields, **of_plan, "name": file.stem if file else ""})
        )
        say_json(made) if as_json else say_plan(made)
    elif any(value is not None for value in of_plan.values()):
        raise SettingsError("--budget, --rate and --window are for a --plan")
    else:
        run(options, _say(options, _Wish(fields, out, timings, player, as_json)))


def _text(text: str | None, file: Path | None) -> str:
    """From the command, a file or standard input: one of them."""
    if text not in (None, STANDARD_INPUT) and file is not None:
        raise SettingsError("give a text or --file, not both")
    if file is not None and str(file) != STANDARD_INPUT:
        return _decoded(file.read_bytes())
    if text not in (None, STANDARD_INPUT):
        return str(text)
    if text is None and file is None and sys.stdin.isatty():
        raise SettingsError("there is no text: give one, --file, or - for standard input")
    return _decoded(sys.stdin.buffer.read())


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadText(f"the text is not UTF-8: byte {error.start} of it") from None


def _format_for(out: Path | None, player: Player | None) -> str | None:
    """What the name of the file says, or the player can play."""
    if player is not None and player.only_wav:
        return "wav"
    return CODING_OF_SUFFIX.get(out.suffix.lower()) if out else None


async def _say(options: Options, wish: _Wish) -> None:
    async with options.service() as service:
        with count_progress() as progress:
            task = progress.add_task("segments", total=None)
            speech = await service.say(
                wish.fields, lambda done, of: progress.update(task, completed=done, total=of)
            )
        track = await service.track(speech["track_id"])
        where = await _deliver(service, track, wish)
        if wish.timings is not None:
            as_webvtt = wish.timings.suffix == ".vtt"
            marks = await service.timing(speech["track_id"], as_webvtt=as_webvtt)
            wish.timings.write_text(marks, encoding="utf-8", newline="")
        await service.settle(SETTLE_SECONDS)
    if wish.as_json:
        say_json(speech)
    else:
        line = f"{where}: {_told(speech)}"
        complain(line) if wish.out == STANDARD_OUTPUT else say_line(line)


async def _deliver(service: Service, track: Document, wish: _Wish) -> str:
    """Writes or plays the sound; answers where it went."""
    if wish.out == STANDARD_OUTPUT:
        await pour(service, track, sys.stdout.buffer.write, wish.head_bytes)
        sys.stdout.buffer.flush()
        return "standard output"
    if wish.out is not None:
        await write_sound(service, track, wish.out, wish.head_bytes)
        return str(wish.out)
    if wish.as_json:
        return ""
    if wish.player is None:
        return await _leave(service, track, wish)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(track["path"]).name
        await write_sound(service, track, file)
        await wish.player.play(file)
    return wish.player.program


async def _leave(service: Service, track: Document, wish: _Wish) -> str:
    suffix = ".pcm" if wish.head_bytes else Path(track["path"]).suffix
    target = Path(UNPLAYED).with_suffix(suffix)
    complain(f"nothing on this machine can play sound, so it is written to {target}")
    await write_sound(service, track, target, wish.head_bytes)
    return str(target)


def _told(speech: Document) -> str:
    """Length, and what it cost."""
    length = f"{duration(speech['duration_seconds'])}, {speech['words']} words"
    if speech["substitute"]:
        length += f", by the substitute {speech['engine']}"
    if speech["cached"]:
        return f"{length}; it was there: nothing paid"
    generated, of = speech["segments_generated"], speech["segments"]
    cost = f"{speech['cost']:g} {speech['currency'] or ''}".strip()
    paid = f"{speech['characters_paid']} characters paid, {cost}"
    return f"{length}; {generated} of {of} segments spoken, {paid}"


async def _plan(options: Options, fields: Document) -> Document:
    given = {name: value for name, value in fields.items() if value is not None}
    async with options.service() as service:
        return await service.make_plan(given)


# --- figures and voices ---------------------------------------------------------------------


async def _stats(options: Options) -> Document:
    async with options.service() as service:
        return await service.speech_stats()


def _say_stats(stats: Document, as_json: bool) -> None:
    if as_json:
        say_json(stats)
        return
    rate = "" if stats["hit_rate"] is None else f", {stats['hit_rate']:.0%} hits"
    say_line(f"{stats['hits']} hits, {stats['misses']} misses{rate}")
    for money in stats["amounts"]:
        say_line(f"{money['spent']:g} {money['currency']} spent, {money['saved']:g} saved")
    if stats["unknown"]:
        say_line(f"{stats['unknown']} calls may have been charged for nothing")
    say_rows(("engine", "voice", "hits", "misses", "first byte"), map(_figures, stats["voices"]))


def _figures(voice: dict[str, Any]) -> tuple[str, ...]:
    seconds = voice["first_byte_seconds"]
    first = "" if seconds is None else f"{seconds:.2f} s"
    return voice["engine"], voice["voice"], str(voice["hits"]), str(voice["misses"]), first


def voices(
    context: typer.Context,
    engine: Annotated[str | None, typer.Option(help="Of this engine only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List who can speak."""
    options = options_of(context)
    listed = run(options, _voices(options, engine))
    if as_json:
        say_json({"items": listed, "next_cursor": None})
        return
    say_rows(
        VOICE_HEADERS,
        (
            (each["engine"], each["id"], each["name"], " ".join(each["languages"]))
            for each in listed
        ),
    )


async def _voices(options: Options, engine: str | None) -> list[Document]:
    async with options.service() as service:
        return await service.voices(engine)
