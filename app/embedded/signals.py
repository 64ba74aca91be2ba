"""Signals as something to wait for: asked to stop, or a child has ended."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SignalInbox:
    """Counts the requests to stop, and makes its reader readable at each signal."""

    def __init__(self) -> None:
        self.stop_requests = 0
        self.reader, self._writer = os.pipe()
        for descriptor in (self.reader, self._writer):
            os.set_blocking(descriptor, False)

    def open(self) -> None:
        """Take over the signals of this process. Call from the main thread."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in STOP_SIGNALS:
            # nohup means it: who ignores SIGHUP goes on without a terminal.
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            signal.signal(number, self._note_stop)

    def drain(self) -> None:
        """Make the reader unreadable again."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.reader, 512):
                pass

    def _note_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requests += 1
