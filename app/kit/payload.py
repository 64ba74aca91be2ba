"""What comes in and goes out: strict JSON bodies, query arguments and answers, and their faults by name."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    Strict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from app.kit.errors import Fault

# RFC 3339 section 5.6, with the date limited to years that PostgreSQL and Python share.
RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
MICROSECOND_DIGITS = 6
# A body of a megabyte can break 100,000 rules; nobody reads more than some of them.
MOST_FAULTS = 100
MOST_NAMED_FAULTS = 10_000
LONGEST_POINTER = 300


def refuse_nul(value: str) -> str:
    """Return the text. Raises ValueError when it holds NUL, which PostgreSQL cannot store."""
    if "\x00" in value:
        raise ValueError("must not contain the NUL character")
    return value


def _rfc3339(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not RFC3339.fullmatch(value):
        raise ValueError("must be an RFC 3339 time with offset, as 2026-11-20T10:00:00Z")
    return _cut_to_microseconds(value)


def _cut_to_microseconds(value: str) -> str:
    head, dot, tail = value.partition(".")
    if not dot:
        return value
    digits = re.match(r"\d+", tail)
    length = digits.end() if digits else 0
    return f"{head}.{tail[: min(length, MICROSECOND_DIGITS)]}{tail[length:]}"


def to_utc(value: datetime) -> datetime:
    """Return the moment in UTC. Raises ValueError outside the years 1 to 9999."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None


def rfc3339_text(value: datetime) -> str:
    """Return the moment as RFC 3339 UTC with six decimals and `Z`."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)


def decimal_text(value: Decimal) -> str:
    """Return the number as plain decimal text: no exponent, no trailing zeros behind the point."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


Text = Annotated[str, AfterValidator(refuse_nul)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(refuse_nul),
]
Moment = Annotated[
    AwareDatetime,
    # What a validator in front hands on counts as a Python value, and strict means: no text for those.
    Strict(strict=False),
    BeforeValidator(_rfc3339),
    AfterValidator(to_utc),
    PlainSerializer(rfc3339_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
# Money leaves as decimal text, exact to the last digit; its currency stands beside it.
MoneyText = Annotated[
    Decimal,
    PlainSerializer(decimal_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "examples": ["12.40"]}),
]


class Payload(BaseModel):
    """A JSON body: strict types, no unknown fields, no NaN; errors never echo the input."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class QueryArguments(BaseModel):
    """The query string of a route: every argument is text there, so numbers are read from text."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, populate_by_name=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def refuse_nul_anywhere(cls, value: Any) -> Any:
        """Refuse NUL in every argument, because PostgreSQL takes it in none."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                refuse_nul(text)
        return value


class View(BaseModel):
    """An answer: what the outside may see of a row."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class _Members(dict[str, Any]):
    """A JSON object that remembers which names it was given twice."""

    repeated: frozenset[str] = frozenset()


def json_faults(raw: bytes) -> list[Fault]:
    """Return what a strict model lets pass: names given twice, NUL, and numbers beyond every float.

    Of two equal names the last would win here and perhaps the first elsewhere (RFC 8259 section 4).
    The text must be valid JSON.
    """
    suspects: list[str] = ["NUL"] if b"\\u0000" in raw else []

    def members(pairs: list[tuple[str, Any]]) -> _Members:
        found = _Members(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            found.repeated = frozenset(name for name in names if names.count(name) > 1)
            suspects.append("repeated")
        return found

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            suspects.append("infinite")
        return value

    parsed = json.loads(raw, object_pairs_hook=members, parse_float=number, parse_constant=number)
    # The whole tree is only walked when something is there to be found.
    return _faults_in(parsed, "") if suspects else []


def _faults_in(value: Any, pointer: str) -> list[Fault]:
    if isinstance(value, str):
        nul = Fault(pointer, "nul_character", "must not contain the NUL character")
        return [nul] if "\x00" in value else []
    if isinstance(value, float):
        infinite = Fault(pointer, "finite_number", "must be a finite number")
        return [] if math.isfinite(value) else [infinite]
    if isinstance(value, list):
        return [
            fault
            for index, part in enumerate(value)
            for fault in _faults_in(part, f"{pointer}/{index}")
        ]
    if not isinstance(value, _Members):
        return []
    faults = [
        Fault(f"{pointer}/{_escaped(name)}", "repeated_name", "is given more than once")
        for name in sorted(value.repeated)
    ]
    for name, part in value.items():
        if "\x00" in name:
            faults.append(Fault(pointer, "nul_character", "must not contain the NUL character"))
        faults += _faults_in(part, f"{pointer}/{_escaped(name)}")
    return faults


def faults_of(error: ValidationError, *, prefix: str = "") -> list[Fault]:
    """Return the broken rules, up to 100, as faults with their JSON pointers (RFC 6901)."""
    count = error.error_count()
    if count > MOST_NAMED_FAULTS:
        # pydantic makes an object of each before we could choose a hundred: a gigabyte for 10 MB of body.
        return [Fault(prefix, "too_many_faults", f"{count} rules are broken, too many to name")]
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        Fault(
            pointer=_pointer(detail["loc"], prefix=prefix),
            code=detail["type"],
            detail=_plain(detail["msg"]),
        )
        for detail in details[:MOST_FAULTS]
    ]


def _pointer(location: tuple[int | str, ...], *, prefix: str) -> str:
    # The names of unknown fields are the caller's: never answer more of them than helps.
    return (prefix + "".join(f"/{_escaped(part)}" for part in location))[:LONGEST_POINTER]


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
