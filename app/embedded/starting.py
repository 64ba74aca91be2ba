"""The way from the command line to the supervisor: what is checked before anything starts, and how it ends."""

from __future__ import annotations

import errno
import sys

from app.embedded import listening, processes
from app.embedded.exits import ExitCode, StartFault
from app.embedded.homes import FULL, HomeLock, home_fault, prepare_home
from app.embedded.parts import LEFTOVER_STEPS
from app.embedded.signals import SignalInbox
from app.embedded.supervisor import Supervisor
from config import Config, ConfigError, home_of

HOME_ERRORS = FULL | {errno.EACCES, errno.EPERM, errno.EROFS}


def main() -> int:
    """Run the product until it is asked to stop; return the exit code for the shell (embedded/exits.py)."""
    inbox = SignalInbox()
    inbox.open()
    try:
        _run(read_config(), inbox)
    except StartFault as fault:
        sys.stdout.flush()
        sys.stderr.write(f"\nDevGuard: {fault}\n")
        return fault.code
    return ExitCode.STOPPED


def read_config() -> Config:
    """Return the settings of this process. Raises StartFault where they, or the home, are refused."""
    try:
        return Config.from_environment()
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            raise home_fault(home_of(), error.__cause__) from error
        raise StartFault(ExitCode.SETTINGS, str(error)) from error


def _run(config: Config, inbox: SignalInbox) -> None:
    prepare_home(config.home, embedded=config.embedded)
    with HomeLock(config.home):
        # Before the port is asked for: they may still hold it.
        processes.end_all(processes.marked(config.home), LEFTOVER_STEPS)
        with listening.listen(config.host, config.port) as listener:
            try:
                Supervisor(config, listener=listener, inbox=inbox).run()
            except OSError as error:
                if error.errno in HOME_ERRORS:
                    raise home_fault(config.home, error) from error
                raise
