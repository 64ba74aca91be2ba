"""The statements of the relay (psycopg's own, because they run beside SQLAlchemy and its pool)."""

from __future__ import annotations

# One step of the index for each topic, however many messages it has.
TOPICS = """
WITH RECURSIVE topics AS (
    (SELECT topic FROM outbox ORDER BY topic LIMIT 1)
    UNION ALL
    SELECT (SELECT topic FROM outbox WHERE topic > topics.topic ORDER BY topic LIMIT 1)
    FROM topics WHERE topics.topic IS NOT NULL
)
SELECT topic FROM topics
WHERE topic IS NOT NULL
  AND EXISTS (SELECT FROM outbox WHERE outbox.topic = topics.topic AND not_before <= now())
"""

TAKE = """
SELECT id, organization_id, topic, queue, dedup_key, payload, headers, sends, attempts
FROM outbox
WHERE topic = %(topic)s AND not_before <= now()
ORDER BY not_before, id
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED
"""

NOTE_SENT = """
UPDATE outbox SET
    not_before = now() + make_interval(secs => %(resend_s)s * 2 ^ sends),
    sends = sends + 1, attempts = 0, sent_to = %(life)s
WHERE id = ANY(%(ids)s)
"""

NOTE_REFUSED = """
UPDATE outbox SET
    not_before = now() + make_interval(secs => %(delay_s)s),
    attempts = attempts + 1, last_error = %(error)s
WHERE id = %(id)s
"""

BURY = """
WITH message AS (DELETE FROM outbox WHERE id = ANY(%(ids)s) RETURNING *)
INSERT INTO dead_tasks
    (id, organization_id, task, queue, dedup_key, message_id, payload, headers,
     reason, last_error, deliveries, failures)
SELECT id, organization_id, topic, queue, coalesce(dedup_key, id::text), id, payload, headers,
       'undeliverable', coalesce(last_error, 'sent ' || sends || ' times, taken by no worker'), 0, 0
FROM message
ON CONFLICT DO NOTHING
"""

REARM = """
UPDATE outbox SET not_before = now()
WHERE id IN (
    SELECT id FROM outbox WHERE sent_to IS NOT NULL AND sent_to <> %(life)s AND not_before > now()
    FOR UPDATE SKIP LOCKED
)
"""

# classid and objid are the halves of a 64-bit advisory lock (objsubid 1).
UNLOCKED_RUNS = """
SELECT message_id, deliveries FROM task_runs
WHERE state = 'running' AND NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (classid::bigint << 32) | objid::bigint = task_runs.lock_key
)
"""

# As waiting it is no orphan any more, however long its queue is; a run begun meanwhile is left alone.
REVIVE = """
WITH revived AS (
    UPDATE task_runs SET state = 'waiting'
    FROM unnest(%(ids)s, %(deliveries)s) AS seen (message_id, deliveries)
    WHERE task_runs.message_id = seen.message_id AND task_runs.deliveries = seen.deliveries
      AND task_runs.state = 'running'
    RETURNING task_runs.message_id
)
UPDATE outbox SET not_before = now(), sends = 0, sent_to = NULL
FROM revived WHERE outbox.id = revived.message_id
"""

# A worker of an older version got it: 1 minute, doubled each time, an hour in all before it is given up.
NOTE_UNKNOWN = """
UPDATE outbox SET
    not_before = now() + make_interval(secs => 30 * 2 ^ sends), sent_to = NULL,
    last_error = 'the worker that got it does not know this task'
WHERE id = %(id)s
"""
