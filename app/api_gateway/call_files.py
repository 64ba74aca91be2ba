"""Files of calls: rows of CSV and lines of NDJSON become items of the wire form, each as JSON text. Pure.

The file is read once, line by line, from any place noted before. A line that cannot be an item says
why; what the rules of the wire say of an item is for `schemas/batches.py`, the same as over HTTP.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from enum import StrEnum
from hashlib import sha256
from typing import Any, BinaryIO, Final, NamedTuple

from pydantic_core import from_json, to_json

from app.kit.errors import Fault, InvalidPayload

LONGEST_LINE = 1_000_000
NAMED_COLUMNS = 20
GENERATED_ID_PREFIX = "import:"
ID_PREFIX: Final = re.compile(r"[A-Za-z0-9._:~-]{1,64}")

# RFC 3339, with what exports write instead: a space, a decimal comma, ` UTC`, +00, +0000, no zone.
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d+))?(?: ?([Zz]|UTC|[+-]\d\d(?::?\d\d)?))?",
    re.ASCII,
)
_WHOLE: Final = re.compile(r"(-?\d{1,30})(?:\.0{1,30})?", re.ASCII)
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,29})(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)
_WORDS: Final = dict.fromkeys(("true", "t", "yes", "y", "1"), "true") | dict.fromkeys(
    ("false", "f", "no", "n", "0"), "false"
)
_MICROSECOND_DIGITS = 6
_BOM = b"\xef\xbb\xbf"
_quoted = json.JSONEncoder(ensure_ascii=False).encode

Reader = Callable[[str], str]
"""Reads the text of a cell as JSON text. Raises ValueError saying what the cell must be."""


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


@dataclass(frozen=True, slots=True)
class Place:
    """How much of a file was read: bytes, and lines."""

    offset: int = 0
    line: int = 0


class CallLine(NamedTuple):
    """One call of a file: the line where it begins and its item as JSON, or why it is none."""

    line: int
    item: bytes
    faults: list[Fault]


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
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError("must be a time such as 2023-11-16 18:17:03.979 or ...T18:17:03Z")
        day, time, decimals, offset = match.groups()
        plain = f"{day}T{time}"
        if decimals:
            plain = f"{plain}.{decimals[:_MICROSECOND_DIGITS]:0<6}"
        try:
            return self._in_utc(datetime.fromisoformat(plain), offset) + self._shift
        except OverflowError:
            raise ValueError("must lie between the years 1 and 9999") from None

    def text(self, text: str) -> str:
        """Return the moment as a JSON text of the wire form. Raises ValueError."""
        return f'"{self.moment(text).isoformat()}Z"'

    def _in_utc(self, wall: datetime, offset: str | None) -> datetime:
        if offset is None and self._is_utc:
            return wall
        if offset is None:
            moment = wall.replace(tzinfo=self._zone).astimezone(UTC)
            if moment.astimezone(self._zone).replace(tzinfo=None) != wall:
                raise ValueError(f"never was in {self._zone}: the clocks were put forward")
            return moment.replace(tzinfo=None)
        zone = "Z" if offset in {"z", "UTC"} else offset
        return (
            datetime.fromisoformat(f"{wall.isoformat()}{zone}").astimezone(UTC).replace(tzinfo=None)
        )


def _whole(text: str) -> str:
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise ValueError("must be a whole number")
    return str(int(match[1]))


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a number")
    return text


def _decimal(text: str) -> str:
    # In quotes: a number of JSON goes through a float, and money must stay digit by digit.
    return f'"{_number(text)}"'


def _count(text: str) -> str:
    return str(int(match[1])) if (match := _WHOLE.fullmatch(text)) else _decimal(text)


def _boolean(text: str) -> str:
    word = _WORDS.get(text.lower())
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
    _quoted,
) | {
    "status_code": _whole,
    "attempt": _whole,
    "duration_ms": _number,
    "time_to_first_chunk_ms": _number,
    "stream": _boolean,
    "cache_hit": _boolean,
    "cost.amount": _decimal,
}  # fmt: skip
"""The fields of the wire form that a column or a constant may give, with how their text is read."""
OPEN_GROUPS: Final[Mapping[str, Reader]] = {
    "usage": _count,
    "pricing_context": _quoted,
    "tags": _quoted,
}
"""Groups whose members have any name: `usage.input_tokens`, `tags.release`."""


def assignments(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return `field=value` texts by field. Raises ImportFault naming `option` and the text."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ImportFault(option, f"{text!r} must read field=value")
        if _reader_of(name) is None:
            raise ImportFault(
                option, f"{name!r} is no field of a call{_did_you_mean(name, FIELDS)}"
            )
        if name in found:
            raise ImportFault(option, f"{name} is given twice")
        found[name] = value
    return found


def check_form(form: FileForm) -> None:
    """Raises ImportFault, naming the option, for a form that no file could be read with."""
    if form.format is FileFormat.ndjson and form.columns:
        raise ImportFault("--map", "an NDJSON file has no columns; its lines are calls as they are")
    if "id" in form.constants:
        raise ImportFault(
            "--set", "id must differ from call to call; map a column, or leave it out"
        )
    if form.id_prefix is not None and not ID_PREFIX.fullmatch(form.id_prefix):
        raise ImportFault("--id-prefix", "must be 1 to 64 characters of A-Z a-z 0-9 . _ : ~ -")
    if form.format is FileFormat.csv:
        for name in ("started_at", "provider"):
            if name not in form.columns and name not in form.constants:
                rule = f"nothing gives {name}; add --map {name}=COLUMN"
                raise ImportFault(
                    "--map", rule + (" or --set provider=NAME" * (name == "provider"))
                )
    constants_of(form)


def constants_of(form: FileForm) -> dict[str, Any]:
    """Return the constants of a form as (part of) an item. Raises ImportFault for one of a wrong type."""
    item: dict[str, Any] = {}
    for name, text in form.constants.items():
        reader = Clock(form.zone).text if name == "started_at" else _reader_of(name) or _quoted
        try:
            value = json.loads(reader(text))
        except ValueError as error:
            raise ImportFault("--set", f"{name} {error}") from None
        group, _, member = name.rpartition(".") if name in FIELDS else name.partition(".")
        (item.setdefault(group, {}) if group else item)[member] = value
    return item


class CallFile:
    """The calls of a file, in its order. `place` is right behind the call that came last."""

    def __init__(self, stream: BinaryIO, form: FileForm, *, shift: timedelta = timedelta()) -> None:
        self.form = form
        self._lines = _Lines(stream)
        self._clock = Clock(form.zone, shift)
        self._read_head()
        self._first = self.place
        self._identity = self._identified(stream)

    @property
    def place(self) -> Place:
        return self._lines.place

    def go_to(self, place: Place) -> None:
        """Go on from a place noted before."""
        self._lines.go_to(place)

    def calls(self) -> Iterator[CallLine]:
        """Yield the calls from the place on."""
        raise NotImplementedError

    def latest_start(self) -> datetime | None:
        """Return when the last call of the whole file started, as naive UTC; None when no time is readable."""
        self.go_to(self._first)
        latest = None
        for text in self._start_texts():
            try:
                moment = self._clock.moment(text)
            except ValueError:
                continue
            if latest is None or moment > latest:
                latest = moment
        self.go_to(self._first)
        return latest

    def _read_head(self) -> None:
        self._lines.skip_bom()

    def _start_texts(self) -> Iterator[str]:
        raise NotImplementedError

    def _skip_record(self) -> bool:
        """Read one call that is not blank; return whether there was one."""
        raise NotImplementedError

    def _identified(self, stream: BinaryIO) -> str:
        # What names the calls of a file without ids. Not the whole content: a log that has grown, or
        # a copy with other line ends, still has the same calls on the same lines.
        if not self._skip_record():
            raise ImportFault("FILE", "has no rows")
        end = self.place.offset
        stream.seek(0)
        head = stream.read(end).replace(b"\r\n", b"\n").strip()
        self.go_to(self._first)
        return sha256(head).hexdigest()[:16]

    def _generated_id(self, line: int) -> str:
        return f"{self.form.id_prefix or GENERATED_ID_PREFIX}{self._identity}:{line}"


def open_calls(stream: BinaryIO, form: FileForm, *, shift: timedelta = timedelta()) -> CallFile:
    """Return the calls of a file that can seek. Raises ImportFault when it cannot be such a file."""
    kind = CsvCalls if form.format is FileFormat.csv else NdjsonCalls
    return kind(stream, form, shift=shift)


class CsvCalls(CallFile):
    """The rows of a CSV file (RFC 4180, UTF-8) whose first row names the columns; blank rows do not count."""

    def calls(self) -> Iterator[CallLine]:
        for line, cells, fault in self._rows():
            if fault is None:
                yield self._call(line, cells)
            else:
                yield CallLine(line, b"", [fault])

    def _read_head(self) -> None:
        super()._read_head()
        self._rows_of_lines = csv.reader(self._lines, strict=True)
        header = self._header()
        indexes = {name: header.index(name) for name in header}
        for name, column in self.form.columns.items():
            if column not in indexes:
                raise ImportFault("--map", _unknown_column(name, column, header))
            if header.count(column) > 1:
                raise ImportFault("--map", f"{name}={column}: {column!r} names several columns")
        self._width = len(header)
        self._groups = self._grouped(indexes)
        self._start_index = indexes.get(self.form.columns.get("started_at", ""))

    def _header(self) -> list[str]:
        try:
            header = [cell.strip() for cell in next(self._rows_of_lines, [])]
        except csv.Error as error:
            raise ImportFault("FILE", f"its first line is no row of CSV: {error}") from None
        if self._lines.fault is not None or any("\0" in cell for cell in header):
            raise ImportFault(
                "FILE", "its first line is no UTF-8 text; convert it (iconv -t UTF-8)"
            )
        if not any(header):
            raise ImportFault("FILE", "has no rows: its first line must name the columns")
        return header

    def _rows(self) -> Iterator[tuple[int, list[str], Fault | None]]:
        """Yield the line, the cells and what is wrong with the row as such."""
        lines, rows = self._lines, self._rows_of_lines
        while True:
            lines.fault, line = None, lines.line + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, [], lines.fault or Fault("", "csv_invalid", _plain_csv_error(error))
                continue
            if lines.fault is not None:
                yield line, cells, lines.fault
            elif len(cells) == self._width:
                yield line, cells, None
            elif cells:
                detail = f"has {len(cells)} columns, the header has {self._width}"
                yield line, cells, Fault("", "column_count", detail)

    def _start_texts(self) -> Iterator[str]:
        if self._start_index is None:
            yield self.form.constants["started_at"]
            return
        for _, cells, fault in self._rows():
            if fault is None:
                yield cells[self._start_index].strip()

    def _skip_record(self) -> bool:
        return next(self._rows(), None) is not None

    def _grouped(self, indexes: Mapping[str, int]) -> list[tuple[str, list[_Source]]]:
        """Return where the value of each field comes from, by group; the fields of no group first."""
        groups: dict[str, list[_Source]] = {"": []}
        for name in sorted(self.form.columns.keys() | self.form.constants.keys()):
            reader = self._reader(name)
            constant = self.form.constants.get(name)
            group, member = _split(name)
            source = _Source(
                pointer=f"/{group}/{member}" if group else f"/{member}",
                key=f"{_quoted(member)}:",
                index=indexes.get(self.form.columns.get(name, "")),
                read=reader,
                constant=None if constant is None else reader(constant),
            )
            groups.setdefault(group, []).append(source)
        return list(groups.items())

    def _reader(self, name: str) -> Reader:
        if name == "started_at":
            return self._clock.text
        if name == "id" and self.form.id_prefix:
            prefix = self.form.id_prefix
            return lambda text: _quoted(prefix + text)
        return _reader_of(name) or _quoted

    def _call(self, line: int, cells: list[str]) -> CallLine:
        parts: list[str] = []
        faults: list[Fault] = []
        for group, sources in self._groups:
            texts = []
            for pointer, key, index, read, constant in sources:
                text = "" if index is None else cells[index].strip()
                try:
                    value = read(text) if text else constant
                except ValueError as error:
                    faults.append(Fault(pointer, "invalid_cell", str(error)))
                    continue
                if value is not None:
                    texts.append(key + value)
            if not group:
                parts = texts
            elif texts:
                parts.append(f'"{group}":{{{",".join(texts)}}}')
        if not any(part.startswith('"id":') for part in parts):
            parts.append(f'"id":"{self._generated_id(line)}"')
        return CallLine(line, f"{{{','.join(parts)}}}".encode(), faults)


class _Source(NamedTuple):
    """Where the value of one field comes from: a column, else the constant (JSON text)."""

    pointer: str
    key: str
    index: int | None
    read: Reader
    constant: str | None


class NdjsonCalls(CallFile):
    """The lines of an NDJSON file, each an item of the wire form; blank lines do not count."""

    def calls(self) -> Iterator[CallLine]:
        constants = constants_of(self.form)
        for line, raw, fault in self._lines.raw_lines():
            item, fault = (None, fault) if fault else _object(raw)
            if item is None or fault is not None:
                yield CallLine(line, b"", [fault] if fault else [])
                continue
            try:
                is_changed = self._complete(item, line, constants)
            except ValueError as error:
                yield CallLine(line, b"", [Fault("/started_at", "invalid_time", str(error))])
                continue
            yield CallLine(line, to_json(item) if is_changed else raw, [])

    def _start_texts(self) -> Iterator[str]:
        for _, raw, fault in self._lines.raw_lines():
            item = None if fault else _object(raw)[0]
            if item is not None:
                started_at = item.get("started_at") or self.form.constants.get("started_at")
                if isinstance(started_at, str):
                    yield started_at

    def _skip_record(self) -> bool:
        return next(self._lines.raw_lines(), None) is not None

    def _complete(self, item: dict[str, Any], line: int, constants: Mapping[str, Any]) -> bool:
        """Fill in what the line leaves out and bring its time to the wire form; return whether it changed."""
        is_changed = _fill_in(item, constants)
        id_, started_at = item.get("id"), item.get("started_at")
        if id_ is None:
            item["id"] = self._generated_id(line)
        elif self.form.id_prefix and isinstance(id_, str):
            item["id"] = self.form.id_prefix + id_
        if isinstance(started_at, str):
            item["started_at"] = self._clock.text(started_at)[1:-1]
        return is_changed or item.get("id") != id_ or item.get("started_at") != started_at


def _fill_in(item: dict[str, Any], constants: Mapping[str, Any]) -> bool:
    is_changed = False
    for name, value in constants.items():
        present = item.get(name)
        if present is None:
            item[name] = dict(value) if isinstance(value, dict) else value
            is_changed = True
        elif isinstance(value, dict) and isinstance(present, dict):
            is_changed = _fill_in(present, value) or is_changed
    return is_changed


def _object(raw: bytes) -> tuple[dict[str, Any] | None, Fault | None]:
    try:
        item = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return None, Fault("", "json_invalid", str(error))
    if not isinstance(item, dict):
        return None, Fault("", "not_an_object", "must be a JSON object")
    return item, None


class _Lines:
    """The lines of a file, with the place reached; `fault` says what is wrong with the last one as text."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._offset = 0
        self.line = 0
        self.fault: Fault | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._next_raw()
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            detail = f"is no UTF-8 text (byte {error.start + 1} of line {self.line})"
            self.fault = Fault("", "not_utf8", detail)
            return raw.decode(errors="replace")

    @property
    def place(self) -> Place:
        return Place(self._offset, self.line)

    def go_to(self, place: Place) -> None:
        self._stream.seek(place.offset)
        self._offset, self.line = place.offset, place.line

    def skip_bom(self) -> None:
        """Go to the start of the text. Raises ImportFault when the file is UTF-16."""
        self._stream.seek(0)
        start = self._stream.read(3)
        if start[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            raise ImportFault("FILE", "is UTF-16; convert it (iconv -f UTF-16 -t UTF-8)")
        self.go_to(Place(len(_BOM) if start == _BOM else 0, 0))

    def raw_lines(self) -> Iterator[tuple[int, bytes, Fault | None]]:
        """Yield the lines that are not blank, with their number, and what is wrong with them."""
        while True:
            self.fault = None
            try:
                raw = self._next_raw().strip()
            except StopIteration:
                return
            if raw or self.fault:
                yield self.line, raw, self.fault

    def _next_raw(self) -> bytes:
        raw = self._stream.readline(LONGEST_LINE)
        if not raw:
            raise StopIteration
        self._offset += len(raw)
        self.line += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            self.fault = Fault("", "line_too_long", f"has more than {LONGEST_LINE:,} bytes")
            while raw and not raw.endswith(b"\n"):
                raw = self._stream.readline(LONGEST_LINE)
                self._offset += len(raw)
            return b"\n"
        return raw


def _reader_of(name: str) -> Reader | None:
    group, _, member = name.partition(".")
    return FIELDS.get(name) or (OPEN_GROUPS.get(group) if member else None)


def _split(name: str) -> tuple[str, str]:
    """Return the group ('' for none) and the member that a field names."""
    group, dot, member = name.partition(".")
    return (group, member) if dot else ("", group)


def _did_you_mean(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    (*near,) = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _unknown_column(name: str, column: str, header: Sequence[str]) -> str:
    shown = ", ".join(header[:NAMED_COLUMNS]) + (", ..." * (len(header) > NAMED_COLUMNS))
    return (
        f"{name}={column}: the file has no column {column!r}{_did_you_mean(column, header)} "
        f"It has: {shown}"
    )


def _plain_csv_error(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "has a carriage return inside; lines must end with LF or CRLF"
    return f"is no row of CSV: {error}"
