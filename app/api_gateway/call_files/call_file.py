"""What files of calls of every format have in common: a place, ids of their own, a last call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from typing import BinaryIO, NamedTuple

from app.api_gateway.call_files.cells import Clock
from app.api_gateway.call_files.forms import FileForm, ImportFault
from app.api_gateway.call_files.lines import BOM, Lines, Place
from app.kit.errors import Fault

GENERATED_ID_PREFIX = "import:"


class CallLine(NamedTuple):
    """One call of a file: the line where it begins, and its item as JSON or why it is none."""

    line: int
    item: bytes
    faults: list[Fault]


class CallFile(ABC):
    """The calls of a file, in its order. `place` is right behind the call that came last."""

    def __init__(self, stream: BinaryIO, form: FileForm, *, shift: timedelta) -> None:
        self._form = form
        self._lines = Lines(stream)
        self._clock = Clock(form.zone, shift)
        self._lines.go_to_text()
        self._read_head()
        self._first = self.place
        self._identity = self._identified(stream)

    @property
    def place(self) -> Place:
        return self._lines.place

    def go_to(self, place: Place | None) -> None:
        """Go on from a place noted before; None is the first call."""
        self._lines.go_to(place or self._first)

    @abstractmethod
    def calls(self) -> Iterator[CallLine]:
        """Yield the calls from the place on."""

    def latest_start(self) -> datetime | None:
        """Return when the last call started, as naive UTC; None when no time can be read."""
        self.go_to(None)
        latest = None
        for text in self._start_texts():
            try:
                moment = self._clock.moment(text)
            except ValueError:
                continue
            if latest is None or moment > latest:
                latest = moment
        self.go_to(None)
        return latest

    def _read_head(self) -> None:  # noqa: B027 - a file without a header has nothing to read
        """Read what stands before the first call."""

    @abstractmethod
    def _start_texts(self) -> Iterator[str]:
        """Yield from the place on the text of each call's time."""

    @abstractmethod
    def _skip_one(self) -> bool:
        """Read one call; return whether there was one."""

    def _identified(self, stream: BinaryIO) -> str:
        # What names the calls of a file that has no ids: its beginning, not all of it. A log that has
        # grown, or a copy with other line ends, still has the same calls on the same lines.
        if not self._skip_one():
            raise ImportFault("FILE", "has no rows")
        end = self.place.offset
        stream.seek(0)
        head = stream.read(end).removeprefix(BOM).replace(b"\r\n", b"\n").strip()
        self.go_to(None)
        return sha256(head).hexdigest()[:16]

    def _generated_id(self, line: int) -> str:
        return f"{self._form.id_prefix or GENERATED_ID_PREFIX}{self._identity}:{line}"
