"""How fast the relay empties the outbox, against raw `send_task` calls to the same Redis in the same run.

    .venv/bin/python benchmarks/outbox.py [--messages 10000]

Starts an embedded PostgreSQL (durable, as in production) and Redis of its own under a temporary folder.
Both sides alternate, so that neither has the quieter moments of the machine; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from celery import Celery
from flask_migrate import upgrade
from redis import Redis
from sqlalchemy import text

from app import create_app
from app.embedded.postgres import start_postgres
from app.embedded.redis_server import start_redis
from app.extensions import db
from app.kit.ids import new_id
from app.kit.jobs import enqueue, process, tenant_task
from app.kit.jobs.relay import Relay
from app.kit.tenancy import organization_scope, system_session
from config import Config

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
TOPICS = 4


def declared_tasks() -> list[Any]:
    def declare(number: int) -> Any:
        @tenant_task(f"benchmark.do_nothing_{number}", queue=f"benchmark{number}")
        def do_nothing(*, thing_id: str) -> None:
            """Never run: nobody consumes."""

        return do_nothing

    return [declare(number) for number in range(TOPICS)]


def seconds_of(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fill_outbox(tasks: list[Any], messages: int) -> None:
    """Ask for that many tasks, 500 to a transaction."""
    with organization_scope(new_id()):
        for number in range(messages):
            enqueue(tasks[number % len(tasks)], thing_id=str(new_id()))
            if number % 500 == 499:
                db.session.commit()
        db.session.commit()


def relay_all(relay: Relay) -> None:
    while relay.send_due():
        pass


def send_raw(celery: Celery, tasks: list[Any], messages: int) -> None:
    """What `.delay()` costs at its best: one producer, no outbox, lost when Redis is away."""
    with celery.producer_pool.acquire(block=True) as producer:
        for number in range(messages):
            task = tasks[number % len(tasks)]
            celery.send_task(
                task.name,
                kwargs={"thing_id": str(new_id())},
                task_id=str(new_id()),
                queue=task.queue_name,
                headers={"organization_id": str(new_id())},
                producer=producer,
                retry=False,
                ignore_result=True,
            )


def commit_one_each(task: Any, messages: int) -> None:
    """One task to a transaction, as requests do."""
    with organization_scope(new_id()):
        for _ in range(messages):
            enqueue(task, thing_id=str(new_id()))
            db.session.commit()


def measure(messages: int, home: Path) -> None:
    postgres, redis = start_postgres(home), start_redis(home)
    try:
        keys = {"SECRET_KEY": secrets.token_hex(32), "JWT_SECRET_KEY": secrets.token_hex(32)}
        config = Config.from_environment({"DEVGUARD_HOME": str(home), **keys})
        app = create_app(config)
        with app.app_context():
            upgrade(directory=str(ROOT / "app" / "migrations"))
            celery = Celery("benchmark", broker=config.celery_broker_url, set_as_current=False)
            celery.conf.update(process.SETTINGS)
            report(
                messages, celery, Relay(config.database_url, celery), Redis.from_url(redis.url())
            )
    finally:
        redis.stop()
        postgres.stop()


def report(messages: int, celery: Celery, relay: Relay, redis: Redis) -> None:
    tasks = declared_tasks()
    relayed: list[float] = []
    raw: list[float] = []
    for _ in range(ROUNDS):
        fill_outbox(tasks, messages)
        relayed.append(messages / seconds_of(lambda: relay_all(relay)))
        raw.append(messages / seconds_of(lambda: send_raw(celery, tasks, messages)))
        redis.flushall()
        with system_session() as session:
            session.execute(text("DELETE FROM outbox"))
    single = 500 / seconds_of(lambda: commit_one_each(tasks[0], 500))
    relay.close()
    relay_rate, raw_rate = statistics.median(relayed), statistics.median(raw)
    print(
        f"outbox to Redis by the relay   {relay_rate:8,.0f} messages/s  (rounds: {rounded(relayed)})"
    )
    print(f"raw send_task, one producer    {raw_rate:8,.0f} messages/s  (rounds: {rounded(raw)})")
    print(f"ratio relay : raw              {relay_rate / raw_rate:8.2f}")
    print(f"enqueue + commit, one each     {single:8,.0f} transactions/s, one connection")


def rounded(rates: list[float]) -> str:
    return ", ".join(f"{rate:,.0f}" for rate in rates)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    with tempfile.TemporaryDirectory(prefix="devguard-bench-") as folder:
        Path(folder).chmod(0o755)
        measure(parser.parse_args().messages, Path(folder).resolve())
