"""The relay: hands the messages of the outbox to Celery after their commit.

Where it runs: in a thread of every worker's main process. That process does no work of its own, is
there whenever anybody could take a task, and is watched already; a process of its own would cost
60 MB and one more thing to restart, and beat is only one. Several relays share the work by
FOR UPDATE SKIP LOCKED. The thread has its own connections to database and broker and shares none
with what is forked.

A message is sent inside the transaction that notes it as sent, so a relay that is killed in between
sends it again: at least once, and the claim of the run (tasks.py) makes it one effect. The row stays
until the task has ended; a sent message is only a row that waits. It is sent again when
- a retry is due, or another worker held its run;
- its worker was killed: the run counts as running, but nobody holds its lock (seen twice);
- the broker lives another life than the one that got it: it may have forgotten;
- nobody took it for longer than the broker itself would wait before redelivering.

Redis down: nothing is touched, the relay asks again after 1 to 5 seconds. A topic that the broker
refuses pauses alone, and its first row waits 1 s, doubled up to an hour.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from celery import Celery
from psycopg.rows import namedtuple_row
from sqlalchemy import make_url

from app.kit.jobs import relay_sql as sql
from app.kit.jobs.broker import Broker, BrokerDown, Envelope, SendRefused
from app.kit.jobs.outbox import CHANNEL
from app.kit.logging import logger

log = logger(__name__)

BATCH = 200
POLL_S = 1.0
LONGEST_PAUSE_S = 5.0
LONGEST_TOPIC_PAUSE_S = 60.0
LONGEST_BACKOFF_S = 3600.0
ORPHAN_LOOK_S = 10.0
# Longer than the broker's own visibility timeout, so that its redelivery comes first.
RESEND_AFTER_S = 3900.0
# 65 minutes, doubled each time: about a day and a half in all.
MOST_SENDS = 6
# A server that vanished without a word is noticed within a minute (TCP only).
KEEPALIVE = {
    "connect_timeout": 5,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

Connection = psycopg.Connection[Any]


@dataclass(slots=True)
class Pause:
    """How long something that failed is left alone: doubled with each failure."""

    failures: int = 0
    until: float = 0.0

    def failed(self, *, longest_s: float) -> float:
        self.failures += 1
        pause_s = min(longest_s, 2.0 ** min(self.failures - 1, 30))
        self.until = time.monotonic() + pause_s
        return pause_s


@dataclass(slots=True)
class Relay:
    """One relay; `run` is the body of its thread, `send_due` one pass."""

    database_url: str
    celery: Celery
    stopped: threading.Event = field(default_factory=threading.Event)
    _connection: Connection | None = None
    _broker: Broker | None = None
    _lives: set[str] = field(default_factory=set)
    _topics: dict[str, Pause] = field(default_factory=dict)
    _suspects: frozenset[tuple[UUID, int]] = frozenset()
    _looked_at: float = 0.0

    def run(self) -> None:
        """Relay until stopped; every failure is logged, waited out and tried again."""
        trouble = Pause()
        while not self.stopped.is_set():
            try:
                sent = self.send_due()
                trouble = Pause()
                if not sent:
                    self._wait()
            except (BrokerDown, psycopg.Error) as error:
                pause_s = trouble.failed(longest_s=LONGEST_PAUSE_S)
                log.warning("relay_waits", error=str(error).strip(), seconds=pause_s)
                self._pause(error, pause_s)
            # A fault of ours must not end the only thread that sends.
            except Exception as error:
                pause_s = trouble.failed(longest_s=LONGEST_PAUSE_S)
                log.exception("relay_failed", seconds=pause_s)
                self._pause(error, pause_s)
        self.close()

    def send_due(self) -> int:
        """Send one batch of every topic that is due; return how many messages left.

        Raises BrokerDown or psycopg.Error; nothing is lost then, and nothing locked.
        """
        connection, broker = self._database(), self._sender()
        life = broker.life()
        if life not in self._lives:
            forgotten = connection.execute(sql.REARM, {"life": life}).rowcount
            self._lives.add(life)
            log.info("relay_found_broker", resent=forgotten)
        self._revive_orphans(connection)
        now = time.monotonic()
        topics = [row.topic for row in connection.execute(sql.TOPICS)]
        due = [topic for topic in topics if self._topics.get(topic, Pause()).until <= now]
        return sum(self._send_topic(connection, broker, topic, life) for topic in due)

    def close(self) -> None:
        """Give back both connections."""
        if self._broker is not None:
            self._broker.close()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _send_topic(self, connection: Connection, broker: Broker, topic: str, life: str) -> int:
        with connection.transaction():
            rows = connection.execute(sql.TAKE, {"topic": topic, "limit": BATCH}).fetchall()
            never_taken = [row.id for row in rows if row.sends >= MOST_SENDS]
            if never_taken:
                connection.execute(sql.BURY, {"ids": never_taken})
                log.error("messages_undeliverable", topic=topic, count=len(never_taken))
            sendable = [row for row in rows if row.sends < MOST_SENDS]
            taken = self._sent(connection, broker, topic, sendable)
            if taken:
                arguments = {"ids": taken, "life": life, "resend_s": RESEND_AFTER_S}
                connection.execute(sql.NOTE_SENT, arguments)
        return len(taken)

    def _sent(
        self, connection: Connection, broker: Broker, topic: str, rows: list[Any]
    ) -> list[UUID]:
        """Send the rows; return the ids of those that the broker took, note the first it refused."""
        ids = [row.id for row in rows]
        try:
            broker.send([_envelope(row) for row in rows])
        except SendRefused as refusal:
            refused = rows[refusal.taken]
            self._topics.setdefault(topic, Pause()).failed(longest_s=LONGEST_TOPIC_PAUSE_S)
            backoff_s = min(LONGEST_BACKOFF_S, 2.0 ** min(refused.attempts, 30))
            delay_s = backoff_s * (0.5 + secrets.SystemRandom().random() / 2)
            arguments = {"id": refused.id, "error": str(refusal)[:2000], "delay_s": delay_s}
            connection.execute(sql.NOTE_REFUSED, arguments)
            log.warning("message_refused", message_id=str(refused.id), error=str(refusal))
            return ids[: refusal.taken]
        self._topics.pop(topic, None)
        return ids

    def _revive_orphans(self, connection: Connection) -> None:
        """Send again what a killed worker had begun: seen running without a lock in two looks."""
        if time.monotonic() - self._looked_at < ORPHAN_LOOK_S:
            return
        self._looked_at = time.monotonic()
        rows = connection.execute(sql.UNLOCKED_RUNS).fetchall()
        seen = frozenset((row.message_id, row.deliveries) for row in rows)
        orphans = seen & self._suspects
        self._suspects = seen
        if orphans:
            ids, deliveries = (list(column) for column in zip(*orphans, strict=True))
            connection.execute(sql.REVIVE, {"ids": ids, "deliveries": deliveries})
            log.warning("runs_revived", message_ids=[str(message_id) for message_id in ids])

    def _wait(self) -> None:
        # Ends at the first notification; the poll finds retries that came due, and lost wake-ups.
        list(self._database().notifies(timeout=POLL_S, stop_after=1))

    def _pause(self, error: Exception, seconds: float) -> None:
        if not isinstance(error, BrokerDown) and self._connection is not None:
            self._connection.close()
            self._connection = None
        self.stopped.wait(seconds)

    def _database(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = system_connection(self.database_url, name="devguard-relay")
            # What a crash of the machine forgets here is sent again, which does no harm.
            self._connection.execute("SET synchronous_commit = off")
            self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection

    def _sender(self) -> Broker:
        if self._broker is None:
            self._broker = Broker(self.celery)
        return self._broker


def system_connection(database_url: str, *, name: str) -> Connection:
    """Return an own connection of role dg_system, in autocommit, that no pool and no fork shares."""
    url = make_url(database_url)
    _, arguments = url.get_dialect()().create_connect_args(url)
    known = {**KEEPALIVE, **arguments, "application_name": name}
    connection: Connection = psycopg.connect(**known, autocommit=True, row_factory=namedtuple_row)
    connection.execute("SET ROLE dg_system")
    return connection


def _envelope(row: Any) -> Envelope:
    organization = {"organization_id": str(row.organization_id)} if row.organization_id else {}
    dedup = {"dedup_key": row.dedup_key} if row.dedup_key else {}
    return Envelope(
        id=row.id,
        task=row.topic,
        queue=row.queue,
        payload=row.payload,
        headers={**row.headers, **organization, **dedup},
    )
