"""What the tests of jobs share: a database and a Redis that they may stop, kill and fill alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery as CeleryApp
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from psycopg.rows import namedtuple_row
from sqlalchemy import NullPool, create_engine, make_url, text

from app import create_app
from app.embedded.redis_server import RedisServer, start_redis
from app.extensions import celery
from app.kit.ids import new_id
from app.kit.jobs import TransactionalTask
from app.kit.tenancy import organization_scope
from config import Config, celery_url
from tests.kit import jobs_probe, probe_routes

ROOT = Path(__file__).parents[2]


@dataclass
class Broker:
    """A Redis of these tests' own, without a disk: what it held is gone when it stops."""

    home: Path
    server: RedisServer

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server = start_redis(self.home, durable=False)

    def pause(self) -> None:
        self.server.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.server.process.send_signal(signal.SIGCONT)

    @property
    def url(self) -> str:
        return self.server.url()


@dataclass
class Records:
    """What really is in the database, seen past every role and wall."""

    connection: psycopg.Connection[Any]

    def rows(self, statement: str, *arguments: object) -> list[Any]:
        return self.connection.execute(statement, arguments).fetchall()

    def count(self, statement: str, *arguments: object) -> int:
        return int(self.rows(f"SELECT count(*) FROM {statement}", *arguments)[0][0])

    def effects(self, note: str) -> int:
        return self.count("probe.effects WHERE note = %s", note)

    def starts(self, note: str) -> int:
        return self.count("probe.starts WHERE note = %s", note)

    def state(self, message_id: UUID) -> str | None:
        rows = self.rows("SELECT state FROM task_runs WHERE message_id = %s", message_id)
        return rows[0].state if rows else None

    def waits(self, message_id: UUID) -> bool:
        return self.count("outbox WHERE id = %s", message_id) == 1

    def death(self, message_id: UUID) -> Any:
        rows = self.rows("SELECT * FROM dead_tasks WHERE message_id = %s", message_id)
        return rows[0] if rows else None


@dataclass
class Celery:
    """A `celery` command of its own, in a process group of its own."""

    words: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "celery", "-q", "-A", "app.tasks", *self.words]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found

    def ready(self) -> Celery:
        wait_until(lambda: " ready." in self.log.read_text(), what=f"{self.log} says ready")
        return self

    def kill(self) -> None:
        """kill -9 of the main process and all that it forked."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=20)
        finally:
            self.kill()


def wait_until(holds: Callable[[], object], *, what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.03)


PROBES = {
    task.name: task for task in vars(jobs_probe).values() if isinstance(task, TransactionalTask)
}
for name in PROBES:
    del celery.tasks[name]


@pytest.fixture(autouse=True)
def _probe_tasks() -> Iterator[None]:
    """Known to the tests of this folder alone: others ask which tasks the product has."""
    celery.tasks.update(PROBES)
    yield
    for name in PROBES:
        del celery.tasks[name]


@pytest.fixture(scope="session")
def jobs_database_url(database_url: str) -> Iterator[str]:
    url = make_url(database_url)
    name = f"{url.database}_jobs"
    admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def jobs_app(app: Flask, config: Config, jobs_database_url: str) -> Iterator[Flask]:
    """An application on a database of its own, where no other test asks for work."""
    jobs_app = create_app(replace(config, database_url=jobs_database_url))
    jobs_app.register_blueprint(probe_routes.blueprint)
    with jobs_app.app_context():
        upgrade(directory=str(ROOT / "app" / "migrations"))
    with _superuser(jobs_database_url) as connection:
        connection.execute(jobs_probe.TABLES)
    yield jobs_app
    from app.extensions import db

    with jobs_app.app_context():
        db.engine.dispose()


@pytest.fixture
def records(jobs_app: Flask, jobs_database_url: str) -> Iterator[Records]:
    with _superuser(jobs_database_url) as connection:
        yield Records(connection)


@pytest.fixture
def probe(jobs_app: Flask) -> FlaskClient:
    """A caller without a credential of the routes in probe_routes.py."""
    return jobs_app.test_client()


@pytest.fixture
def organization_id() -> UUID:
    return new_id()


@pytest.fixture
def enqueued(jobs_app: Flask, organization_id: UUID) -> Callable[..., UUID]:
    """Ask for a task as a request of the organization would, and commit."""
    from app.extensions import db
    from app.kit.jobs import enqueue

    def ask(task: Any, **ids: Any) -> UUID:
        with jobs_app.app_context(), organization_scope(organization_id):
            message_id = enqueue(task, **ids)
            db.session.commit()
        return message_id

    return ask


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="devguard-jobs-") as folder:
        home = Path(folder).resolve()
        home.chmod(0o755)
        broker = Broker(home, start_redis(home, durable=False))
        yield broker
        broker.resume()
        broker.stop()


@pytest.fixture(scope="session")
def celery_environment(config: Config, jobs_database_url: str, broker: Broker) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "DEVGUARD_HOME": str(config.home),
        "DATABASE_URL": jobs_database_url,
        "REDIS_URL": broker.url,
        "CELERY_BROKER_URL": celery_url(broker.url),
        "SECRET_KEY": config.secret_key,
        "JWT_SECRET_KEY": config.jwt_secret_key,
        "DEVGUARD_LOG_LEVEL": "INFO",
    }


@pytest.fixture
def start_celery(
    jobs_app: Flask, celery_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Celery]]:
    """Start a `celery` command with the words; all are killed at the end."""
    started: list[Celery] = []

    def start(*words: str) -> Celery:
        log = tmp_path / f"celery-{len(started)}.log"
        started.append(Celery(words, celery_environment, log))
        return started[-1]

    yield start
    for command in started:
        command.kill()


@pytest.fixture(scope="class")
def worker(
    jobs_app: Flask, celery_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Celery]:
    """One worker with two processes for all tests of a class that do not hurt it."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    worker = Celery(worker_words("shared"), celery_environment, log)
    yield worker.ready()
    worker.kill()


def worker_words(name: str, *, concurrency: int = 2) -> tuple[str, ...]:
    return (
        "worker", "-Q", "probe", "-c", str(concurrency), "-n", f"{name}@%h",
        "-I", "tests.kit.jobs_probe,tests.kit.jobs_hurry",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    )  # fmt: skip


def _superuser(url: str) -> psycopg.Connection[Any]:
    known = make_url(url)
    _, arguments = known.get_dialect()().create_connect_args(known)
    return psycopg.connect(**arguments, autocommit=True, row_factory=namedtuple_row)


@pytest.fixture
def send_raw(broker: Broker) -> Iterator[Callable[..., None]]:
    """Deliver a message past the outbox, as a duplicate or a stranger would."""
    sender = CeleryApp(broker=celery_url(broker.url), set_as_current=False)

    def send(task: Any, *, message_id: UUID, organization_id: UUID | None, **ids: Any) -> None:
        sender.send_task(
            task.name,
            kwargs=ids,
            task_id=str(message_id),
            queue="probe",
            headers={"organization_id": str(organization_id)} if organization_id else {},
        )

    yield send
    sender.close()
