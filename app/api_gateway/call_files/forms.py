"""How a file is to be read: what the person ordered, checked before the first line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from difflib import get_close_matches
from enum import StrEnum
from re import compile as pattern
from typing import Any

from app.api_gateway.call_files.cells import FIELDS, Clock, Reader, find_reader, parts_of, quoted
from app.kit.errors import InvalidPayload

ID_PREFIX = pattern(r"[A-Za-z0-9._:~-]{1,64}")


class FileFormat(StrEnum):
    csv = "csv"
    ndjson = "ndjson"


class ImportFault(InvalidPayload):
    """What is wrong with the order or with the file as a whole; `option` names what to change."""

    code = "import_refused"

    def __init__(self, option: str, rule: str) -> None:
        super().__init__(f"{option}: {rule}")
        self.option = option


@dataclass(frozen=True, slots=True)
class FileForm:
    """How a file is read: its columns by field of the wire form, and what holds where it says nothing."""

    format: FileFormat
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC
    id_prefix: str | None = None


def assignments(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return `field=value` texts by field. Raises ImportFault naming `option` and the text."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value:
            raise ImportFault(option, f"{text!r} must read field=value")
        if find_reader(name) is None:
            raise ImportFault(option, f"{name!r} is no field of a call{did_you_mean(name, FIELDS)}")
        if name in found:
            raise ImportFault(option, f"{name} is given twice")
        found[name] = value
    return found


def check_form(form: FileForm) -> None:
    """Raises ImportFault, naming the option, for a form that no file could be read with."""
    if form.format is FileFormat.ndjson and form.columns:
        raise ImportFault("--map", "an NDJSON file has no columns; its lines are calls as they are")
    if "id" in form.constants:
        raise ImportFault("--set", "id must differ from call to call; map a column or leave it out")
    if form.id_prefix is not None and not ID_PREFIX.fullmatch(form.id_prefix):
        raise ImportFault("--id-prefix", "must be 1 to 64 characters of A-Z a-z 0-9 . _ : ~ -")
    if form.format is FileFormat.csv:
        _check_required(form)
    constants_of(form)


def constants_of(form: FileForm) -> dict[str, Any]:
    """Return the constants of a form as part of an item. Raises ImportFault for one of a wrong type."""
    item: dict[str, Any] = {}
    for name, text in form.constants.items():
        try:
            value = json.loads(reader_of(name, Clock(form.zone))(text))
        except ValueError as error:
            raise ImportFault("--set", f"{name} {error}") from None
        group, member = parts_of(name)
        (item.setdefault(group, {}) if group else item)[member] = value
    return item


def reader_of(name: str, clock: Clock) -> Reader:
    """Return how the text of a field that is known to be one is read."""
    return clock.text if name == "started_at" else find_reader(name) or quoted


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that looks most like this one, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _check_required(form: FileForm) -> None:
    if "started_at" not in form.columns and "started_at" not in form.constants:
        raise ImportFault("--map", "nothing says when a call started; add --map started_at=COLUMN")
    if "provider" not in form.columns and "provider" not in form.constants:
        rule = "nothing says whose API was called; add --map provider=COLUMN or --set provider=NAME"
        raise ImportFault("--map", rule)
