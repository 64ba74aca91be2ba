"""Rows of CSV as calls: which column says what was decided when the header was read."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from app.api_gateway.call_files.call_file import CallFile, CallLine
from app.api_gateway.call_files.cells import Reader, parts_of, quoted
from app.api_gateway.call_files.forms import ImportFault, did_you_mean, reader_of
from app.kit.errors import Fault

NAMED_COLUMNS = 20


class _Source(NamedTuple):
    """Where the value of one field comes from: a column, and the constant (JSON text) where it is empty."""

    pointer: str
    key: str
    column: int
    read: Reader
    constant: str | None


class _Group(NamedTuple):
    """A group of fields, the empty name for those of none: what every row says, and what its cells say."""

    name: str
    constants: list[str]
    sources: list[_Source]


class CsvCalls(CallFile):
    """A CSV file (RFC 4180, UTF-8) whose first row names the columns; blank rows do not count."""

    def calls(self) -> Iterator[CallLine]:
        for line, cells, fault in self._rows():
            if fault is None:
                yield self._call(line, cells)
            else:
                yield CallLine(line, b"", [fault])

    def _read_head(self) -> None:
        self._reader = csv.reader(self._lines, strict=True)
        header = self._header()
        columns = {name: header.index(name) for name in header}
        for name, column in self._form.columns.items():
            if column not in columns:
                raise ImportFault("--map", _unknown_column(name, column, header))
            if header.count(column) > 1:
                raise ImportFault("--map", f"{name}={column}: several columns have this name")
        self._width = len(header)
        self._groups = self._grouped(columns)
        self._id_column = columns.get(self._form.columns.get("id", ""))
        self._start_column = columns.get(self._form.columns.get("started_at", ""))

    def _header(self) -> list[str]:
        self._lines.begin_record()
        try:
            header = [cell.strip() for cell in next(self._reader, [])]
        except csv.Error as error:
            raise ImportFault("FILE", f"its first line {_in_words(error)}") from None
        if self._lines.fault is not None or any("\0" in cell for cell in header):
            raise ImportFault("FILE", "its first line is no UTF-8 text; convert it (iconv)")
        if not any(header):
            raise ImportFault("FILE", "has no rows; its first line must name the columns")
        return header

    def _rows(self) -> Iterator[tuple[int, list[str], Fault | None]]:
        """Yield the line, the cells and what is wrong with the row as such."""
        lines, reader, width = self._lines, self._reader, self._width
        while True:
            line = lines.begin_record()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # A quote that is never closed would take along all the rows below it.
                lines.give_back()
                yield line, [], Fault("", "csv_invalid", _in_words(error))
                continue
            if lines.fault is not None:
                yield line, cells, lines.fault
            elif len(cells) == width:
                yield line, cells, None
            elif cells:
                detail = f"has {len(cells)} columns, the header has {width}"
                yield line, cells, Fault("", "column_count", detail)

    def _start_texts(self) -> Iterator[str]:
        if self._start_column is None:
            yield self._form.constants["started_at"]
            return
        for _, cells, fault in self._rows():
            if fault is None:
                yield cells[self._start_column].strip()

    def _skip_one(self) -> bool:
        return next(self._rows(), None) is not None

    def _grouped(self, columns: Mapping[str, int]) -> list[_Group]:
        groups = {"": _Group("", [], [])}
        for name in sorted(self._form.columns.keys() | self._form.constants.keys()):
            group, member = parts_of(name)
            found = groups.setdefault(group, _Group(group, [], []))
            reader, key = self._reader_of(name), f"{quoted(member)}:"
            constant = self._form.constants.get(name)
            value = None if constant is None else reader(constant)
            column = self._form.columns.get(name)
            if column is not None:
                pointer = f"/{group}/{member}" if group else f"/{member}"
                found.sources.append(_Source(pointer, key, columns[column], reader, value))
            elif value is not None:
                found.constants.append(key + value)
        return list(groups.values())

    def _reader_of(self, name: str) -> Reader:
        prefix = self._form.id_prefix
        if name == "id" and prefix:
            return lambda text: quoted(prefix + text)
        return reader_of(name, self._clock)

    def _call(self, line: int, cells: list[str]) -> CallLine:
        parts: list[str] = []
        faults: list[Fault] = []
        for name, constants, sources in self._groups:
            texts = constants.copy()
            for source in sources:
                _add(texts, source, cells[source.column].strip(), faults)
            if not name:
                parts = texts
            elif texts:
                parts.append(f'"{name}":{{{",".join(texts)}}}')
        if self._id_column is None or not cells[self._id_column].strip():
            parts.append(f'"id":"{self._generated_id(line)}"')
        return CallLine(line, f"{{{','.join(parts)}}}".encode(), faults)


def _add(texts: list[str], source: _Source, cell: str, faults: list[Fault]) -> None:
    _, key, _, read, constant = source
    try:
        value = read(cell) if cell else constant
    except ValueError as error:
        faults.append(Fault(source.pointer, "invalid_cell", str(error)))
        return
    if value is not None:
        texts.append(key + value)


def _unknown_column(name: str, column: str, header: Sequence[str]) -> str:
    shown = ", ".join(header[:NAMED_COLUMNS]) + (", ..." if len(header) > NAMED_COLUMNS else "")
    hint = did_you_mean(column, header)
    return f"{name}={column}: the file has no such column{hint} (it has {shown})"


def _in_words(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return "has a carriage return inside; lines must end with LF or CRLF"
    return f"is no row of CSV: {error}"
