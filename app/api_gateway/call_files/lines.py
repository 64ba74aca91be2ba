"""The lines of a file, each with where it stands; none is longer than memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from app.api_gateway.call_files.forms import ImportFault
from app.kit.errors import Fault

LONGEST_LINE = 1_000_000
BOM = b"\xef\xbb\xbf"
UTF16_BOMS = frozenset({b"\xff\xfe", b"\xfe\xff"})


@dataclass(frozen=True, slots=True)
class Place:
    """How much of a file was read: bytes, and lines."""

    offset: int = 0
    line: int = 0


class Lines:
    """Iterates over the lines as text; `fault` says what is wrong with the record being read as text."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._offset = 0
        self._line = 0
        self._first_end = (0, 0)
        self._is_first = True
        self.fault: Fault | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        raw = self.next_raw()
        if not raw:
            raise StopIteration
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            detail = f"is no UTF-8 text (byte {error.start + 1} of line {self._line})"
            self.fault = Fault("", "not_utf8", detail)
            return raw.decode(errors="replace")

    @property
    def place(self) -> Place:
        return Place(self._offset, self._line)

    def go_to(self, place: Place) -> None:
        self._stream.seek(place.offset)
        self._offset, self._line = place.offset, place.line

    def go_to_text(self) -> None:
        """Go to the first line. Raises ImportFault when the file is UTF-16."""
        self._stream.seek(0)
        start = self._stream.read(len(BOM))
        if start[:2] in UTF16_BOMS:
            raise ImportFault("FILE", "is UTF-16; convert it (iconv -f UTF-16 -t UTF-8)")
        self.go_to(Place(len(BOM) if start == BOM else 0, 0))

    def begin_record(self) -> int:
        """Forget the faults of the record before; return the line where the next one begins."""
        self.fault, self._is_first = None, True
        return self._line + 1

    def give_back(self) -> None:
        """Go back to right behind the first line of this record: the rest were others."""
        self.go_to(Place(*self._first_end))

    def raw_records(self) -> Iterator[tuple[int, bytes, Fault | None]]:
        """Yield each line that is not blank with its number and what is wrong with it."""
        while True:
            line = self.begin_record()
            raw = self.next_raw()
            if not raw:
                return
            if self.fault is not None or (raw := raw.strip()):
                yield line, raw, self.fault

    def next_raw(self) -> bytes:
        """Return the next line; one that is too long is blank and a fault. Empty at the end of the file."""
        raw = self._stream.readline(LONGEST_LINE)
        self._offset += (length := len(raw))
        self._line += 1 if raw else 0
        if length == LONGEST_LINE and not raw.endswith(b"\n"):
            self._skip_rest()
            self.fault = Fault("", "line_too_long", f"has more than {LONGEST_LINE:,} bytes")
            raw = b"\n"
        if self._is_first:
            self._first_end, self._is_first = (self._offset, self._line), False
        return raw

    def _skip_rest(self) -> None:
        raw = b"-"
        while raw and not raw.endswith(b"\n"):
            raw = self._stream.readline(LONGEST_LINE)
            self._offset += len(raw)
