"""Beat without a memory of its own: what is due is computed from the database's clock, one claim per slot.

A slot is the last full multiple of a job's period. `job_runs` has one row for each claimed slot, so
two beats start one run, and a beat that was away starts the newest missed slot and no older one. The
clock is PostgreSQL's: hosts whose clocks differ agree. Set forward, it starts one run of each job; set
back, slots that were claimed stay claimed. A job whose last message has not ended claims no slot, so
runs of one job neither overlap nor pile up while Redis or the workers are down.

Celery's own scheduler sends to the broker at once and keeps its state in a file: while Redis is down
its slots are lost, and two beats run everything twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from celery.beat import Scheduler

from app.kit.ids import new_id
from app.kit.jobs.outbox import CHANNEL
from app.kit.jobs.relay import Connection, system_connection
from app.kit.logging import logger

log = logger(__name__)

TICK_S = 1.0
DATABASE_PAUSE_S = 3.0

CLAIM = f"""
WITH entry AS (
    SELECT *, to_timestamp(
        floor((extract(epoch FROM now()) - offset_s) / every_s) * every_s + offset_s) AS slot
    FROM unnest(%(ids)s::uuid[], %(names)s::text[], %(queues)s::text[],
                %(every_s)s::float8[], %(offset_s)s::float8[])
        AS entry (message_id, name, queue, every_s, offset_s)
),
claimed AS (
    INSERT INTO job_runs (name, slot, message_id)
    SELECT name, slot, message_id FROM entry
    WHERE NOT EXISTS (
        SELECT FROM outbox WHERE outbox.topic = entry.name AND outbox.headers ? 'scheduled')
    ON CONFLICT DO NOTHING
    RETURNING message_id, name, slot
),
added AS (
    INSERT INTO outbox (id, topic, queue, dedup_key, payload, headers)
    SELECT message_id, name, queue, 'slot ' || to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
           '{{}}', jsonb_build_object('scheduled', to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                                      'request_id', message_id)
    FROM claimed JOIN entry USING (message_id, name, slot)
)
SELECT name, slot, pg_notify('{CHANNEL}', '') FROM claimed
"""


@dataclass(frozen=True, slots=True)
class Every:
    """How often a job runs: at each full multiple of the period since 1970 UTC, plus the offset.

    `Every(timedelta(days=1), offset=timedelta(hours=3))` is every day at 03:00 UTC.
    """

    period: timedelta
    offset: timedelta = timedelta(0)
    queue: str = "maintenance"

    def __post_init__(self) -> None:
        if self.period < timedelta(seconds=1):
            raise ValueError("a job runs at most once a second")


def claim_due(connection: Connection, schedule: Mapping[str, Every]) -> list[str]:
    """Claim the slots that are due and ask for their tasks, in one statement; return the names."""
    entries = list(schedule.items())
    rows = connection.execute(
        CLAIM,
        {
            "ids": [new_id() for _ in entries],
            "names": [name for name, _ in entries],
            "queues": [every.queue for _, every in entries],
            "every_s": [every.period.total_seconds() for _, every in entries],
            "offset_s": [every.offset.total_seconds() for _, every in entries],
        },
    )
    return [row.name for row in rows]


class SlotScheduler(Scheduler):  # type: ignore[misc]
    """Celery's beat loop around claim_due(); the schedule file of `-s` is not used."""

    _connection: Connection | None = None

    def setup_schedule(self) -> None:
        """Do nothing: there is no state to load."""

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Claim what is due; return the seconds until the next look."""
        try:
            if self._connection is None:
                self._connection = system_connection(self.app.database_url, name="devguard-beat")
            for name in claim_due(self._connection, self.app.job_schedule):
                log.info("job_due", job=name)
        except psycopg.Error as error:
            log.warning("beat_waits", error=str(error).strip(), seconds=DATABASE_PAUSE_S)
            self.close()
            return DATABASE_PAUSE_S
        return TICK_S

    def should_sync(self) -> bool:
        """Return False: every claim is kept at once."""
        return False

    def close(self) -> None:
        """Give back the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()
