"""What comes in and goes out: strict JSON bodies, query arguments and answers, and their faults by name."""

from __future__ import annotations

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
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from app.kit.errors import Fault

# RFC 3339 section 5.6, with the date limited to years that PostgreSQL and Python share.
RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
MICROSECOND_DIGITS = 6


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
    return text.rstrip("0").rstrip(".") if "." in text else text


Text = Annotated[str, AfterValidator(refuse_nul)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(refuse_nul),
]
Moment = Annotated[
    AwareDatetime,
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


class View(BaseModel):
    """An answer: what the outside may see of a row."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


def faults_of(error: ValidationError, *, prefix: str = "") -> list[Fault]:
    """Return every broken rule as a fault with its JSON pointer (RFC 6901)."""
    return [
        Fault(
            pointer=prefix + "".join(f"/{_escaped(part)}" for part in detail["loc"]),
            code=detail["type"],
            detail=_plain(detail["msg"]),
        )
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
