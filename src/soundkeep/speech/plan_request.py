"""A plan as it is asked for, parsed at the edge: texts, voices, and how fast, when and for
how much they may be spoken.

What its texts have in common is a request for speech without a text (`request.py`), so a plan
pays for exactly what a later request finds. Fields that are not given are None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from soundkeep.catalog.plans import MAX_VOICES, Ordering
from soundkeep.errors import BadSpeech, BadText
from soundkeep.names import title_text
from soundkeep.speech.request import FIELDS as OF_SPEECH
from soundkeep.speech.request import SpeechRequest, speech_request
from soundkeep.speech.text import normalise

OF_PLANS = ("texts", "voices", "name", "budget", "rate", "window", "order", "standing")
OF_ONE = ("metadata", "substitutes")  # a plan waits until its engine can
FIELDS = (*OF_PLANS, *(field for field in OF_SPEECH if field not in OF_ONE))
MAX_RATE = 100_000
MAX_BUDGET = 1_000_000_000
DAY_SECONDS = 86_400
HOUR_SECONDS = 3600

_NEVER_SPOKEN = "text"  # in place of one, where only the other fields are read
_WINDOW = re.compile(
    r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)(?:Z|([+-])(0\d|1[0-4]):([0-5]\d))?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Window:
    """The hours of a day in which a plan may call its engine: `22:00-06:00`, in UTC unless an
    offset stands behind it, as in `22:00-06:00+02:00`. It may go over midnight."""

    text: str
    start_second: int  # of the day, in UTC
    length_seconds: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """Raises `BadSpeech`."""
        found = _WINDOW.match(text)
        if found is None:
            raise BadSpeech("window is HH:MM-HH:MM, with an offset from UTC such as +02:00 if any")
        start, end = (
            int(found[hour]) * HOUR_SECONDS + int(found[hour + 1]) * 60 for hour in (1, 3)
        )
        if start == end:
            raise BadSpeech("window begins and ends at the same time: leave it away")
        ahead = 0
        if found[5]:
            ahead = int(found[6]) * HOUR_SECONDS + int(found[7]) * 60
            ahead = -ahead if found[5] == "-" else ahead
        return cls(text, (start - ahead) % DAY_SECONDS, (end - start) % DAY_SECONDS)

    def opens_in(self, clock: float) -> float:
        """Seconds until it opens; 0 while it is open. `clock` is in seconds since the epoch."""
        since = (clock - self.start_second) % DAY_SECONDS
        return 0.0 if since < self.length_seconds else DAY_SECONDS - since


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What shall be spoken before anybody asks for it."""

    form: SpeechRequest  # what all texts have in common; its own text and voice mean nothing
    texts: tuple[SpeechRequest, ...]
    voices: tuple[str, ...]
    name: str
    budget: Decimal | None
    rate_per_minute: float | None
    window: Window | None
    order: Ordering
    standing: bool


def plan_request(fields: Mapping[str, object]) -> PlanRequest:
    """The plan in a JSON object; a field of None is as good as none.

    Raises what `speech_request` raises, and `BadSpeech` for what plans have besides.
    """
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise BadSpeech(
            f"there is no field {ascii(unknown[0])[:40]}; there are {', '.join(FIELDS)}"
        )
    given = {name: value for name, value in fields.items() if value is not None}
    common = {name: given[name] for name in given if name not in (*OF_PLANS, "text", "voice")}
    form = speech_request({**common, "text": _NEVER_SPOKEN})
    standing = given.get("standing", False)
    if not isinstance(standing, bool):
        raise BadSpeech("standing is true or false")
    if standing and form.collection is None:
        raise BadSpeech("a standing plan names the collection whose texts it takes up")
    return PlanRequest(
        form=form,
        texts=_texts(given, form, may_be_none=standing),
        voices=_voices(given),
        name=_name(given.get("name", "")),
        budget=budget_of(given.get("budget")),
        rate_per_minute=_rate(given.get("rate")),
        window=_window(given.get("window")),
        order=_order(given.get("order", Ordering.TEXT.value)),
        standing=standing,
    )


def _texts(
    given: Mapping[str, object], form: SpeechRequest, *, may_be_none: bool
) -> tuple[SpeechRequest, ...]:
    texts = _one_or_many(given, "text", "texts")
    if not texts and not may_be_none:
        raise BadText("a plan has a text, or texts, that shall be spoken")
    found = []
    for number, text in enumerate(texts, 1):
        try:
            found.append(replace(form, shown=text, normalised=normalise(text)))
        except BadText as error:
            raise BadText(f"text {number}: {error}") from None
    return tuple(found)


def _voices(given: Mapping[str, object]) -> tuple[str, ...]:
    voices = tuple(dict.fromkeys(_one_or_many(given, "voice", "voices")))
    if not 0 < len(voices) < MAX_VOICES:
        raise BadSpeech(f"a plan has 1 to {MAX_VOICES - 1} voices")
    for voice in voices:
        speech_request({"text": _NEVER_SPOKEN, "voice": voice})
    return voices


def _one_or_many(given: Mapping[str, object], one: str, many: str) -> list[str]:
    if one in given and many in given:
        raise BadSpeech(f"give {one} or {many}, not both")
    values = given.get(many, [given[one]] if one in given else [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BadSpeech(f"{one} is a text, and {many} a list of texts")
    return values


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise BadSpeech("name is a text")
    return title_text(value)


def budget_of(value: object) -> Decimal | None:
    """A number, or a text that is one: `"0.1"` is a tenth, and `0.1` is nearly one."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadSpeech("budget is a number")
    try:
        budget = Decimal(str(value))
    except InvalidOperation:
        raise BadSpeech("budget is a number") from None
    if not budget.is_finite() or not 0 <= budget <= MAX_BUDGET:
        raise BadSpeech(f"budget is a number from 0 to {MAX_BUDGET}")
    return budget


def _rate(value: object) -> float | None:
    """Segments a minute."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_RATE:
        raise BadSpeech(f"rate is a number above 0 and at most {MAX_RATE}")
    return float(value)


def _window(value: object) -> Window | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadSpeech("window is a text")
    return Window.parse(value)


def _order(value: object) -> Ordering:
    if value not in list(Ordering):
        raise BadSpeech("order is 'text' or 'popular'")
    return Ordering(str(value))
