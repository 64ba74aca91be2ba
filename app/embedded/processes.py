"""Start a child that dies with us, stop it within a bound, and find what an earlier crash left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from app.embedded import launch
from app.embedded.accounts import Account


def spawn(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int | None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
    folder: Path = Path("/"),
    descriptors: Sequence[int] = (),
    text: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own: `text` is its input, both of its outputs go to `output`.

    It gets `death_signal` when the calling thread ends (Linux), so call it from a thread that lives long.
    The command must name the program by its absolute path. Raises OSError when it cannot be started.
    """
    launcher = [
        sys.executable,
        "-I",
        "-S",
        launch.__file__,
        str(os.getpid()),
        str(int(death_signal)),
        str(launch.KEEP if account is None else account.uid),
        str(launch.KEEP if account is None else account.gid),
        str(launch.KEEP if account is None or account.capability is None else account.capability),
    ]
    with tempfile.TemporaryFile() as source:
        source.write((text or "").encode())
        source.seek(0)
        return subprocess.Popen(
            [*launcher, *(str(word) for word in command)],
            stdin=source,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            pass_fds=descriptors,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], steps: Iterable[tuple[signal.Signals, float]]) -> int:
    """Send each signal and wait its seconds until the process has ended; kill it in the end; return its code."""
    for step, wait_s in steps:
        if process.poll() is not None:
            break
        process.send_signal(step)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    if process.poll() is None:
        process.kill()
    return process.wait()


def running_in(folder: Path, *, programs: tuple[str, ...]) -> list[psutil.Process]:
    """Return the processes, named like one of these, that work in this folder: servers are known by their data."""
    real = os.path.realpath(folder)
    return [
        process
        for process in psutil.process_iter()
        if _name(process).startswith(programs) and _working_folder(process) == real
    ]


def in_session(leader: int) -> list[psutil.Process]:
    """Return the processes of the session that this process began, itself gone or not."""
    return [process for process in psutil.process_iter() if _session(process) == leader]


def marked(home: Path) -> list[psutil.Process]:
    """Return the processes that a supervisor of this home started (embedded/parts.py marks them), not this one."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _is_marked(process, home)
    ]


def end_all(
    processes: Sequence[psutil.Process], steps: Iterable[tuple[signal.Signals, float]]
) -> None:
    """Send each signal to those that still run, waiting its seconds for them; kill the rest."""
    alive = list(processes)
    for step, wait_s in [*steps, (signal.SIGKILL, 5.0)]:
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(step)
        alive = _wait(alive, wait_s)
        if not alive:
            return


def _wait(processes: Sequence[psutil.Process], wait_s: float) -> list[psutil.Process]:
    """Return those that still run after that many seconds (psutil's own wait would reap our children's codes)."""
    deadline = time.monotonic() + wait_s
    alive = [process for process in processes if _is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if _is_alive(process)]
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _working_folder(process: psutil.Process) -> str | None:
    try:
        return str(process.cwd())
    except psutil.Error:
        return None


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _is_marked(process: psutil.Process, home: Path) -> bool:
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    return "DEVGUARD_PART" in environment and environment.get("DEVGUARD_HOME") == str(home)
