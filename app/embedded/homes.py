"""The folder of one installation (DEVGUARD_HOME): usable, large enough, and ours alone.

    lock        held by the process that runs this home        secrets/   the keys, made at the first start
    postgres/   redis/   the data of the servers               run/       their sockets
    log/        what the parts printed

`run/` belongs to the servers' user, so nothing that we read back as another user may lie there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from app.embedded.exits import ExitCode, StartFault
from app.embedded.postgres import data_folder

# A new PostgreSQL writes 60 MB, and its log of changes grows to its bound under load.
LEAST_FREE_AT_FIRST_START_BYTES = 300_000_000
LEAST_FREE_BYTES = 50_000_000
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class HomeLock:
    """Says that this process runs this home; given back by `with`, and by the kernel when the process dies."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._descriptor = -1

    def take(self) -> bool:
        """Return whether the lock is ours now; leave it by `with`. Raises StartFault when the home is unusable."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise home_fault(self.home, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return True

    def __enter__(self) -> Self:
        """Take the lock unless it is ours already. Raises StartFault(ALREADY_RUNNING) when another has it."""
        if self._descriptor < 0 and not self.take():
            holder = self._path.read_text(errors="replace").strip()
            raise StartFault(
                ExitCode.ALREADY_RUNNING,
                f"Another DevGuard (process {holder or 'unknown'}) already runs on {self.home}. "
                "Stop it first, or set DEVGUARD_HOME to another folder.",
            )
        return self

    @property
    def _path(self) -> Path:
        return self.home / "lock"

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def prepare_home(home: Path, *, embedded: bool) -> None:
    """Make the folder and what we keep in it, and try to write there.

    Raises StartFault: HOME_UNUSABLE where that is not possible, DISK_FULL where too little room is left.
    """
    try:
        for folder in (home, home / "log"):
            folder.mkdir(mode=0o755 if folder == home else 0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(bytes(65_536))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise home_fault(home, error) from error
    if embedded:
        _check_room(home)


def home_fault(home: Path, error: OSError) -> StartFault:
    """Return what to tell the person when the operating system refused something in this home."""
    if error.errno in FULL:
        return StartFault(
            ExitCode.DISK_FULL, f"The disk is full: cannot write DEVGUARD_HOME ({home})."
        )
    return StartFault(
        ExitCode.HOME_UNUSABLE,
        f"Cannot use DEVGUARD_HOME ({home}): {error.strerror} ({error.filename or home}). "
        "Set DEVGUARD_HOME to a folder that you may write.",
    )


def _check_room(home: Path) -> None:
    is_new = not data_folder(home).exists()
    least = LEAST_FREE_AT_FIRST_START_BYTES if is_new else LEAST_FREE_BYTES
    free = shutil.disk_usage(home).free
    if free < least:
        raise StartFault(
            ExitCode.DISK_FULL,
            f"The disk of DEVGUARD_HOME ({home}) has {free // 1_000_000} MB left; "
            f"DevGuard needs {least // 1_000_000} MB to start.",
        )
