"""What a cell of a file says, as JSON text of the wire form: exact, or refused in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from app.kit.payload import RFC3339

# RFC 3339, with what exports write instead: a space, a decimal comma, ` UTC`, +00, +0000, no zone.
TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d+))?(?: ?([Zz]|UTC|[+-]\d\d(?::?\d\d)?))?",
    re.ASCII,
)
PLAIN: Final = re.compile(r"0|[1-9]\d{0,29}", re.ASCII)
WHOLE: Final = re.compile(r"(-?\d{1,30})(?:\.0{1,30})?", re.ASCII)
NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,29})(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)
WORDS: Final = dict.fromkeys(("true", "t", "yes", "y", "1"), "true") | dict.fromkeys(
    ("false", "f", "no", "n", "0"), "false"
)
MICROSECOND_DIGITS = 6

Reader = Callable[[str], str]
"""Reads the text of a cell as JSON text. Raises ValueError saying what the cell must be."""


class Clock:
    """Reads the times of a file: those without zone are of `zone`; all are moved by `shift`."""

    def __init__(self, zone: tzinfo = UTC, shift: timedelta = timedelta()) -> None:
        self._zone = zone
        self._is_utc = str(zone) == "UTC"
        self._shift = shift

    def moment(self, text: str) -> datetime:
        """Return the moment, moved, as naive UTC; decimals past the sixth are cut.

        Of a wall time that comes twice (clocks put back) the first is meant. Raises ValueError.
        """
        match = TIME.fullmatch(text)
        if match is None:
            raise ValueError("must be a time such as 2023-11-16 18:17:03.979 or ...T18:17:03Z")
        day, time, decimals, offset = match.groups()
        plain = f"{day}T{time}"
        if decimals:
            plain = f"{plain}.{decimals[:MICROSECOND_DIGITS]:0<6}"
        try:
            return self._in_utc(datetime.fromisoformat(plain), offset) + self._shift
        except OverflowError:
            raise ValueError("must lie between the years 1 and 9999") from None

    def text(self, text: str) -> str:
        """Return the moment as a JSON text of the wire form. Raises ValueError."""
        return f'"{self.moment(text).isoformat()}Z"'

    def leaves(self, text: str) -> bool:
        """Return whether the text is of the wire form already and stays as it is."""
        return not self._shift and RFC3339.fullmatch(text) is not None

    def _in_utc(self, wall: datetime, offset: str | None) -> datetime:
        if offset is not None:
            zone = "Z" if offset in {"z", "UTC"} else offset
            moment = datetime.fromisoformat(f"{wall.isoformat()}{zone}")
            return moment.astimezone(UTC).replace(tzinfo=None)
        if self._is_utc:
            return wall
        moment = wall.replace(tzinfo=self._zone).astimezone(UTC)
        if moment.astimezone(self._zone).replace(tzinfo=None) != wall:
            raise ValueError(f"never was in {self._zone}: the clocks were put forward")
        return moment.replace(tzinfo=None)


quoted: Final[Reader] = json.JSONEncoder(ensure_ascii=False).encode


def whole(text: str) -> str:
    """Return a whole number; `4808.0`, as programs write columns with gaps, is one."""
    if PLAIN.fullmatch(text):
        return text
    match = WHOLE.fullmatch(text)
    if match is None:
        raise ValueError("must be a whole number")
    return str(int(match[1]))


def number(text: str) -> str:
    """Return a number as it stands."""
    if not NUMBER.fullmatch(text):
        raise ValueError("must be a number")
    return text


def decimal(text: str) -> str:
    """Return a number in quotes: a number of JSON goes through a float, and money stays digit by digit."""
    return f'"{number(text)}"'


def count(text: str) -> str:
    """Return a whole number, or a decimal in quotes."""
    if PLAIN.fullmatch(text):
        return text
    return whole(text) if WHOLE.fullmatch(text) else decimal(text)


def boolean(text: str) -> str:
    """Return true or false for the words that files have for them."""
    word = WORDS.get(text.lower())
    if word is None:
        raise ValueError("must be true or false")
    return word


FIELDS: Final[Mapping[str, Reader]] = dict.fromkeys(
    (
        "id", "started_at", "provider", "source", "operation", "request_model", "response_model",
        "response_id", "endpoint", "outcome", "error_type", "operation_id", "trace_id", "span_id",
        "reservation_id", "usage_source", "cost.currency", "cost.source", "attribution.team",
        "attribution.user_id", "attribution.customer_id", "attribution.api_key_id",
        "attribution.environment",
    ),
    quoted,
) | {
    "status_code": whole,
    "attempt": whole,
    "duration_ms": number,
    "time_to_first_chunk_ms": number,
    "stream": boolean,
    "cache_hit": boolean,
    "cost.amount": decimal,
}  # fmt: skip
"""The fields of the wire form that a column or a constant may give, with how their text is read."""
OPEN_GROUPS: Final[Mapping[str, Reader]] = {
    "usage": count,
    "pricing_context": quoted,
    "tags": quoted,
}
"""Groups whose members have any name: `usage.input_tokens`, `tags.release`."""


def find_reader(name: str) -> Reader | None:
    """Return how the text of a field is read; None when a call has no such field."""
    group, member = parts_of(name)
    return FIELDS.get(name) or (OPEN_GROUPS.get(group) if member else None)


def parts_of(name: str) -> tuple[str, str]:
    """Return the group (empty for none) and the member that a field names."""
    group, dot, member = name.partition(".")
    return (group, member) if dot else ("", group)
