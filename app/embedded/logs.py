"""What the parts print: kept in files of bounded size, shown with the name of the part in front."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 5_000_000
COLOURS = (36, 33, 32, 35, 34, 31)


class LogFile:
    """A file for the output of one part; past 5 MB it becomes `<name>.1` and a new one begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append the bytes. A full disk loses them, never the process that writes."""
        with contextlib.suppress(OSError):
            self._opened().write(data)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is not None and self._file.tell() > MOST_BYTES:
            self.close()
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        if self._file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
        return self._file


class Console:
    """Lines on the standard output, each with its time and the name of its part (as honcho and foreman print)."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._coloured = sys.stdout.isatty()
        self._colours: dict[str, int] = {}

    def show(self, text: str) -> None:
        """Print the text as it is."""
        with contextlib.suppress(OSError):
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    def say(self, name: str, line: str) -> None:
        """Print one line. A closed terminal or pipe loses it, never the process that writes."""
        prefix = f"{datetime.now().astimezone():%H:%M:%S} {name:<{self._width}} | "
        if self._coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\033[{colour}m{prefix}\033[0m"
        self.show(f"{prefix}{line}")


def last_lines(path: Path, count: int = 12) -> str:
    """Return the last lines of a file, "" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:])
