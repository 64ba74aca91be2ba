"""How the body of a log call is read: one object, a batch, or NDJSON; bad items never hide good ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from app.api_gateway.schemas.requests import (
    BATCH,
    FRAME,
    ITEMS,
    MAXIMUM_BATCH,
    ONE_ITEM,
    ApiRequestItem,
)
from app.kit.errors import Fault, InvalidPayload
from app.kit.payload import MOST_NAMED_FAULTS, faults_of

Item = Mapping[str, Any]
STARTS_AS_BATCH = re.compile(rb'\s*\{\s*"requests"\s*:\s*\[')
BATCH_POINTER = "/requests/{index}"
# Where pydantic goes on after the key of a mapping, its own words follow: which validator, or `[key]`.
BELOW_A_KEY = re.compile(r"(?P<place>.*/(?P<field>usage|tags|pricing_context)/[^/]*)/[^/]+")


@dataclass(slots=True)
class ReadCalls:
    """The items of a body by index: those of valid types, and the faults of the others."""

    is_single: bool
    items: list[tuple[int, Item]]
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    ids: dict[int, str | None] = field(default_factory=dict)


def read_json(raw: bytes) -> ReadCalls:
    """Return the calls of a JSON body, one object or `{"requests": [...]}`.

    Raises InvalidPayload when it is neither, or when a batch is empty or has more than 5,000 items.
    """
    if STARTS_AS_BATCH.match(raw):
        return _read_batch(raw)
    parsed = _parsed(raw)
    if isinstance(parsed, dict) and "requests" in parsed:
        return _read_batch(raw)
    return _read_one(raw)


def read_ndjson(raw: bytes) -> ReadCalls:
    """Return the calls of a body with one JSON object per line; blank lines do not count.

    Raises InvalidPayload when there is no line or more than 5,000.
    """
    lines = [line for line in raw.split(b"\n") if line.strip()]
    if not 1 <= len(lines) <= MAXIMUM_BATCH:
        detail = f"an NDJSON body has 1 to {MAXIMUM_BATCH} lines, this one has {len(lines)}"
        raise InvalidPayload(detail, faults=[Fault("", "line_count", detail)])
    try:
        items = ITEMS.validate_json(b"[" + b",\n".join(lines) + b"]")
    except ValidationError:
        return _judged([_line_value(line) for line in lines])
    # A string has no line break, a key does not begin with a brace, a call holds no array: so each
    # line begins an item, and as many items as lines are one in each.
    if len(items) != len(lines) or not all(line.lstrip().startswith(b"{") for line in lines):
        return _judged([_line_value(line) for line in lines])
    return ReadCalls(is_single=False, items=list(enumerate(items)))


class _Unreadable:
    """A line that is no JSON at all."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


def _parsed(raw: bytes) -> Any:
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        fault = Fault("", "json_invalid", str(error))
        raise InvalidPayload("the body is no valid JSON", faults=[fault]) from None


def _line_value(line: bytes) -> Any:
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError as error:
        return _Unreadable(str(error))


def _read_one(raw: bytes) -> ReadCalls:
    try:
        item = ONE_ITEM.validate_json(raw)
    except ValidationError as error:
        raise InvalidPayload("the call breaks the rules", faults=_faults(error)) from None
    return ReadCalls(is_single=True, items=[(0, item)])


def _read_batch(raw: bytes) -> ReadCalls:
    try:
        return ReadCalls(
            is_single=False, items=list(enumerate(BATCH.validate_json(raw)["requests"]))
        )
    except ValidationError:
        _parsed(raw)
    try:
        frame = FRAME.validate_json(raw)
    except ValidationError as error:
        raise InvalidPayload("the batch breaks the rules", faults=faults_of(error)) from None
    return _judged(frame["requests"])


def _judged(values: Sequence[Any]) -> ReadCalls:
    """Judge each item alone: the slow way, taken only when some item is bad."""
    read = ReadCalls(is_single=False, items=[])
    named = 0
    for index, value in enumerate(values):
        pointer = BATCH_POINTER.format(index=index)
        try:
            if isinstance(value, _Unreadable):
                read.faults[index] = [Fault(pointer, "json_invalid", value.detail)]
                read.ids[index] = None
            else:
                read.items.append((index, _valid(ONE_ITEM, value)))
        except ValidationError as error:
            if named < MOST_NAMED_FAULTS:
                read.faults[index] = _faults(error, prefix=pointer)
            else:
                detail = f"{error.error_count()} rules are broken"
                read.faults[index] = [Fault(pointer, "too_many_faults", detail)]
            named += error.error_count()
            read.ids[index] = _id_of(value)
    return read


def _faults(error: ValidationError, *, prefix: str = "") -> list[Fault]:
    """Return the broken rules, each at its place in the JSON that was sent."""
    faults: dict[tuple[str, str], Fault] = {}
    for fault in faults_of(error, prefix=prefix):
        below = BELOW_A_KEY.fullmatch(fault.pointer)
        if below is None:
            faults[fault.pointer, fault.code] = fault
        elif below["field"] != "usage" or fault.code != "int_type":
            # A count is tried as an integer, then as a decimal; that it is no integer is no fault.
            place = below["place"]
            faults.setdefault((place, ""), Fault(place, fault.code, fault.detail))
    return list(faults.values())


def _valid(adapter: TypeAdapter[ApiRequestItem], value: Any) -> ApiRequestItem:
    # Validated from JSON text again: the strict rules for numbers differ for Python objects.
    return adapter.validate_json(to_json(value, inf_nan_mode="constants"))


def _id_of(value: Any) -> str | None:
    id_ = value.get("id") if isinstance(value, dict) else None
    return id_ if isinstance(id_, str) else None
