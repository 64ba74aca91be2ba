"""Why the product did not start: one exit code for each reason, the same in run.py, migrate.py and setup.sh."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees when the product ends."""

    STOPPED = 0
    """Ended because it was asked to."""
    UNEXPECTED = 1
    """A fault in DevGuard itself; the traceback says where."""
    SETTINGS = 2
    """A setting is missing, malformed or weak; the message names it."""
    ALREADY_RUNNING = 3
    """Another copy runs on the same DEVGUARD_HOME."""
    PORT_TAKEN = 4
    """Another program listens on DEVGUARD_HOST:DEVGUARD_PORT, or the address is not of this machine."""
    HOME_UNUSABLE = 5
    """DEVGUARD_HOME (in setup.sh: the folder of the product) cannot be written, entered or owned."""
    DISK_FULL = 6
    """No room for the data (in setup.sh: for the packages)."""
    SERVER_FAILED = 7
    """PostgreSQL or Redis did not come up; the message ends with its last lines."""
    MIGRATION_FAILED = 8
    """The database could not be brought to the newest revision."""
    NO_PYTHON = 10
    """setup.sh: no Python 3.11 or newer."""
    NO_VENV = 11
    """setup.sh: this Python has no venv or ensurepip module."""
    INSTALL_FAILED = 12
    """setup.sh: pip could not install the requirements."""


class StartFault(Exception):
    """The product refuses to start, or to go on; the message is for the person at the terminal."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code
