"""Runs the whole product on one machine: starts the parts in order, starts again what falls, stops in order.

One thread and one loop: what waits, waits in `_pump`, so output flows and signals are heard at any time. Own code and
not honcho's Manager, which ends all parts as soon as one ends, all at once, and kills after 5 s.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app.embedded import parts, postgres, redis_server
from app.embedded.children import Child
from app.embedded.exits import ExitCode, StartFault
from app.embedded.listening import Probe
from app.embedded.logs import Console
from app.embedded.signals import SignalInbox
from app.embedded.welcome import welcome
from config import Config

OWN_NAME = "devguard"
LONGEST_NAME = 8
TICK_S = 0.5
# The worker and the clock leave the processor to the web server until it answers, but not for ever.
WORKER_WAIT_S = 15.0
# Who falls this often before it ever answered will not answer by itself.
MOST_FAULTS_AT_START = 3


class _StopRequested(Exception):
    pass


class Supervisor:
    """All parts of one home on this machine."""

    def __init__(self, config: Config, *, listener: socket.socket, inbox: SignalInbox) -> None:
        self._config = config
        self._listener = listener
        self._inbox = inbox
        self._console = Console(LONGEST_NAME)
        self._children: list[Child] = []
        self._is_answering = False
        self._probe = Probe(listener)
        self._began_at = time.monotonic()

    def run(self) -> None:
        """Start, look after and stop the product; return when it was asked to stop. Raises StartFault."""
        try:
            self._start()
            self._look_after()
        except _StopRequested:
            pass
        finally:
            self._stop()

    def _start(self) -> None:
        if os.geteuid() == 0:
            self._say("Running as root; an ordinary user is enough.")
        if self._config.embedded:
            self._say("Starting PostgreSQL 18 ...")
            database = self._add(parts.postgres_part(self._config))
            broker = self._add(parts.redis_part(self._config))
            self._wait_for_server(database, postgres.is_ready, postgres.START_TIMEOUT_S)
            self._wait_for_server(broker, redis_server.is_ready, redis_server.START_TIMEOUT_S)
        self._say("Bringing the database to the newest revision ...")
        self._migrate()
        self._say("Starting the web server, the worker and the clock ...")
        self._add(parts.web_part(self._config, listener=self._listener.fileno()))

    def _migrate(self) -> None:
        part = parts.migrate_part(self._config)
        child = self._add(part)
        while (code := child.ended_with()) is None:
            self._pump(TICK_S)
            self._heed_stop()
        self._children.remove(child)
        if code != 0:
            raise StartFault(
                ExitCode.MIGRATION_FAILED,
                f"The database could not be migrated:\n{child.last_words}",
            )

    def _wait_for_server(
        self, child: Child, is_ready: Callable[[Path], bool], timeout_s: float
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_ready(self._config.home):
            self._pump(0.02)
            self._heed_stop()
            self._tend(child)
            if child.faults >= MOST_FAULTS_AT_START or time.monotonic() > deadline:
                raise StartFault(
                    ExitCode.SERVER_FAILED,
                    f"{child.part.name} did not start:\n{child.last_words}",
                )

    def _look_after(self) -> None:
        while True:
            self._heed_stop()
            if not self._is_answering:
                self._greet()
            self._add_rest()
            for child in self._children:
                self._tend(child)
            self._pump(TICK_S)

    def _greet(self) -> None:
        if self._probe.is_answered():
            self._is_answering = True
            self._say(f"Ready after {time.monotonic() - self._began_at:.1f} s.")
            self._console.show(welcome(self._config))

    def _add_rest(self) -> None:
        is_waiting = not self._is_answering and time.monotonic() < self._began_at + WORKER_WAIT_S
        if is_waiting or any(child.part.name == "worker" for child in self._children):
            return
        self._add(parts.worker_part(self._config))
        self._add(parts.beat_part(self._config))

    def _tend(self, child: Child) -> None:
        """Start the child again when it has ended and its pause is over."""
        code = child.ended_with()
        if code is not None:
            pause_s = child.postpone()
            self._say(f"{child.part.name} ended ({_reason(code)}); again in {pause_s:g} s")
            if child.part.name == "web":
                self._judge_web(child)
        elif not child.is_running and time.monotonic() >= child.restart_at:
            self._restart(child)

    def _judge_web(self, child: Child) -> None:
        if not self._is_answering and child.faults >= MOST_FAULTS_AT_START:
            raise StartFault(
                ExitCode.UNEXPECTED,
                f"The web server does not start:\n{child.last_words}",
            )

    def _restart(self, child: Child) -> None:
        try:
            child.part.before_restart()
            child.start()
        except OSError as error:
            pause_s = child.postpone()
            self._say(f"{child.part.name} could not start ({error}); again in {pause_s:g} s")
        else:
            self._say(f"{child.part.name} started again")

    def _add(self, part: parts.Part) -> Child:
        child = Child(part, console=self._console, log_folder=self._config.home / "log")
        child.start()
        self._children.append(child)
        return child

    def _stop(self) -> None:
        # Closed first: a client that comes now is refused at once instead of waiting for nobody.
        self._probe.close()
        self._listener.close()
        servers = ("redis", "postgres")
        self._stop_together([c for c in self._children if c.part.name not in servers])
        for name in servers:
            self._stop_together([c for c in self._children if c.part.name == name])
        self._say("Stopped.")

    def _stop_together(self, children: Sequence[Child]) -> None:
        requests = self._inbox.stop_requests
        running = {child: child.stopping() for child in children if child.is_running}
        if running:
            self._say(f"Stopping {', '.join(child.part.name for child in running)} ...")
        deadlines = {child: time.monotonic() + next(steps) for child, steps in running.items()}
        while running:
            is_hurried = self._inbox.stop_requests > requests
            for child in [child for child in running if child.ended_with() is not None]:
                del running[child]
            for child, steps in running.items():
                if is_hurried or time.monotonic() > deadlines[child]:
                    deadlines[child] = time.monotonic() + next(steps, 5.0)
            requests = self._inbox.stop_requests
            if running:
                self._pump(0.1)

    def _pump(self, timeout_s: float) -> None:
        """Pass on what the children print until a signal comes or the time is over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._inbox.reader, selectors.EVENT_READ, self._inbox.drain)
            for child in self._children:
                if child.reader >= 0:
                    selector.register(child.reader, selectors.EVENT_READ, child.read)
            if self._probe.is_waiting:
                selector.register(self._probe, selectors.EVENT_READ, lambda: None)
            for key, _events in selector.select(timeout_s):
                key.data()

    def _heed_stop(self) -> None:
        if self._inbox.stop_requests:
            raise _StopRequested

    def _say(self, line: str) -> None:
        self._console.say(OWN_NAME, line)


def _reason(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
