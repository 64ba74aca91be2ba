"""One running part: its process, its output line by line, when it may start again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import psutil

from app.embedded import processes
from app.embedded.logs import Console, LogFile
from app.embedded.parts import Part

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# Who ran this long was well: the next fault counts as its first.
WELL_AFTER_S = 60.0
LONGEST_LINE_BYTES = 65_536
LAST_LINES = 12


class Child:
    """A part that the supervisor starts, reads from, starts again and stops. All times are of time.monotonic()."""

    def __init__(self, part: Part, *, console: Console, log_folder: Path) -> None:
        self.part = part
        self.faults = 0
        self.restart_at = 0.0
        self._console = console
        self._log = LogFile(log_folder / f"{part.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = -1
        self._unfinished = b""
        self._started_at = 0.0
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def reader(self) -> int:
        """Return the descriptor from which the output comes, -1 when there is none."""
        return self._reader

    @property
    def last_words(self) -> str:
        """Return the last lines of the part, for the person who must see why it does not start."""
        return "\n".join(self._last_lines)

    def start(self) -> None:
        """Start the process. Raises OSError when the system has no room for it."""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        try:
            self._process = processes.spawn(
                self.part.command,
                output=writer,
                account=self.part.account,
                death_signal=self.part.death_signal,
                environment=self.part.environment,
                folder=self.part.folder,
                descriptors=self.part.descriptors,
            )
        except OSError:
            self._close_reader()
            raise
        finally:
            os.close(writer)
        self._started_at = time.monotonic()

    def read(self) -> None:
        """Show and keep the lines that have come, 1 MB at most: others want to be heard, too."""
        for _ in range(16):
            if self._reader < 0:
                return
            try:
                data = os.read(self._reader, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._close_reader()
                return
            self._log.write(data)
            self._show(data)

    def ended_with(self) -> int | None:
        """Return the code of the process when it has just ended (negative: the signal), None while it runs.

        Whatever it left in its session has ended then, too.
        """
        if self._process is None or (code := self._process.poll()) is None:
            return None
        helpers = processes.in_session(self._process.pid)
        processes.end_all(helpers, self.part.leftover_steps)
        self.read()
        self._close_reader()
        self._process = None
        return code

    def postpone(self) -> float:
        """Note a fault; return after how many seconds to start again: each time twice as long, at most 30."""
        now = time.monotonic()
        self.faults = 1 if now - self._started_at > WELL_AFTER_S else self.faults + 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.faults - 1, 10))
        self.restart_at = now + pause_s
        return pause_s

    def stopping(self) -> Iterator[float]:
        """Send the next signal each time; yield the seconds to wait for the end of the process."""
        for step, wait_s in self.part.stop_steps:
            self._signal(step)
            if self.part.is_told_again:
                yield from self._telling_again(step, wait_s)
            else:
                yield wait_s
        self._signal(signal.SIGKILL)
        yield 5.0

    def _telling_again(self, step: signal.Signals, wait_s: float) -> Iterator[float]:
        for _ in range(int(wait_s)):
            yield 1.0
            if self._process is not None:
                for process in processes.in_session(self._process.pid):
                    with contextlib.suppress(psutil.Error):
                        process.send_signal(step)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _show(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > LONGEST_LINE_BYTES:
            lines.append(self._unfinished)
            self._unfinished = b""
        for line in lines:
            text = line.decode(errors="replace")
            self._last_lines.append(text)
            self._console.say(self.part.name, text)

    def _close_reader(self) -> None:
        if self._unfinished:
            self._show(b"\n")
        if self._reader >= 0:
            with contextlib.suppress(OSError):
                os.close(self._reader)
        self._reader = -1
