"""The real product on a throw-away home: started, asked, hurt and ended, as users, crashes and operators do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from app.embedded import processes
from config import embedded_postgres_url

ROOT = Path(__file__).parents[2]
API = "/api/v1"
SERVERS = {
    "DATABASE_URL",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "RATELIMIT_ENABLED",
}
# What tells a part from the others in its command line.
WORDS = {
    "web": "gunicorn",
    "worker": "worker",
    "beat": "beat",
    "redis": "redis-server",
    "postgres": "postgres",
}
READY_WITHIN_S = 90.0
STOPPED_WITHIN_S = 60.0
BACK_WITHIN_S = 60.0
# No answer may take longer, whatever is down: a client that waits this long was left hanging. By itself the
# product takes 12 s at most (7 s of silence, 5 s for a new connection: app/kit/patience.py); a web server
# that starts anew lets its callers wait, and the machine may have more to do.
ANSWERED_WITHIN_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the web server."""

    status: int
    headers: dict[str, str]
    raw: bytes
    duration_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        """Return which problem this is, as the answer says itself; it must be one."""
        assert self.headers.get("content-type") == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status, self
        assert b"Traceback" not in self.raw, self
        assert b'File "' not in self.raw, self
        return str(problem["code"])


@dataclass
class Product:
    """`python run.py` on one home and port; `settings` are changes to its environment."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Product:
        kept = {name: value for name, value in os.environ.items() if name not in SERVERS}
        own = {
            "DEVGUARD_HOME": str(self.home),
            "DEVGUARD_PORT": str(self.port),
            "DEVGUARD_BCRYPT_ROUNDS": "4",
        }
        with self._output.open("ab") as output:
            # In a session of its own, and asked to stop when pytest itself is killed.
            self.process = processes.spawn(
                [sys.executable, "run.py"],
                output=output,
                environment={**kept, **own, **self.settings},
                folder=ROOT,
            )
        wait_for(self._has_all_parts, READY_WITHIN_S, what="the product is ready", why=self.output)
        return self

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOPPED_WITHIN_S)

    def kill_everything(self) -> None:
        """Kill -9 the supervisor and every process of this home, stopped ones too."""
        assert self.process is not None
        for _ in range(3):
            # All are looked up before the first one is killed: the others would use the time to end in order.
            kill(self.processes())
            self.process.kill()
            self.process.wait(10)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not self.processes(), 5, what="nothing runs any more")
                return
        raise AssertionError(f"still there: {self.processes()}")

    def end(self) -> None:
        """Leave no process behind, in whatever state the test left them."""
        if self.process is None:
            return
        resume(self.processes())
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        self.kill_everything()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        timeout_s: float = ANSWERED_WITHIN_S,
    ) -> Answer:
        """Return the answer to one request on a connection of its own. Raises OSError, HTTPException."""
        sent = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, raw, sent)
            return read_answer(connection.getresponse(), began)
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """Return a bare connection, for what no decent client sends."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=ANSWERED_WITHIN_S)

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """The product's own PostgreSQL, as superuser."""
        url = embedded_postgres_url(self.home).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def find_part(self, name: str) -> psutil.Process | None:
        """Return the running process of a part, None while there is none."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                # Servers are known by their program, which is `python` until launch.py has become it.
                if child.name() == WORDS[name] or WORDS[name] in _module_words(child):
                    return child
        return None

    def part(self, name: str, *, other_than: psutil.Process | None = None) -> psutil.Process:
        """Return the process of a part once there is one."""
        wait_for(
            lambda: self.find_part(name) not in (None, other_than),
            BACK_WITHIN_S,
            what=f"{name} runs",
            why=self.output,
        )
        found = self.find_part(name)
        assert found is not None
        return found

    def web_workers(self) -> list[psutil.Process]:
        return self.part("web").children()

    def server_processes(self, name: str) -> list[psutil.Process]:
        """Return the first process of PostgreSQL or Redis, and those that it made."""
        first = self.part(name)
        return [first, *first.children(recursive=True)]

    def processes(self) -> list[psutil.Process]:
        """Return whatever runs for this home, with or without a supervisor."""
        folders = {str(self.home / name) for name in ("postgres", "redis")}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                is_server = process.cwd() in folders
                if is_server or process.environ().get("DEVGUARD_HOME") == str(self.home):
                    found.append(process)
        return found

    def log(self, name: str) -> str:
        """Return what a part printed since the home was made."""
        path = self.home / "log" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self, name: str) -> list[str]:
        """Return the names of the events that a part logged."""
        lines = [line for line in self.log(name).splitlines() if line.startswith("{")]
        return [str(json.loads(line).get("event")) for line in lines]

    def output(self) -> str:
        return self._output.read_text(errors="replace")[-6000:] if self._output.exists() else ""

    @property
    def _output(self) -> Path:
        return self.home.with_name(f"{self.home.name}.out")

    def _has_all_parts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()
        return self.is_ready() and self.find_part("beat") is not None

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/health/ready").json["status"] == "ready"
        except (OSError, http.client.HTTPException):
            return False


def _module_words(process: psutil.Process) -> list[str]:
    """Return the words of `python -m ...`."""
    words = process.cmdline()
    return words[2:] if words[1:2] == ["-m"] else []


def read_answer(response: http.client.HTTPResponse, began: float) -> Answer:
    raw = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, raw, time.monotonic() - began)


def kill(victims: Sequence[psutil.Process]) -> None:
    _send(victims, signal.SIGKILL)


def pause(victims: Sequence[psutil.Process]) -> None:
    _send(victims, signal.SIGSTOP)


def resume(victims: Sequence[psutil.Process]) -> None:
    _send(victims, signal.SIGCONT)


@contextlib.contextmanager
def paused(victims: Sequence[psutil.Process]) -> Iterator[None]:
    """Let them live inside the block without answering, as a machine that hangs on its disk or network."""
    pause(victims)
    try:
        yield
    finally:
        resume(victims)


@contextlib.contextmanager
def kept_down(product: Product, name: str) -> Iterator[None]:
    """Kill a part inside the block as often as the supervisor starts it again."""
    stopped = threading.Event()

    def keep_killing() -> None:
        while not stopped.wait(0.02):
            if found := product.find_part(name):
                kill([found])

    killer = threading.Thread(target=keep_killing, daemon=True)
    killer.start()
    try:
        yield
    finally:
        stopped.set()
        killer.join(10)


def at_once(*requests: Callable[[], Answer]) -> list[Answer]:
    """Return the answers to requests that are sent at the same time."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return [future.result() for future in [pool.submit(request) for request in requests]]


def _send(victims: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in victims:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def wait_for(
    condition: Callable[[], Any],
    timeout_s: float,
    *,
    what: str,
    why: Callable[[], str] = lambda: "",
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{why()}"
        time.sleep(0.05)
