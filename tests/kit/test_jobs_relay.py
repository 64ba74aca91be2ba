"""The relay against a real Redis that stops, hangs, forgets and refuses."""

from __future__ import annotations

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import celery
import psycopg
import pytest
from redis import Redis

from app.kit.ids import new_id
from app.kit.jobs import process, relay_sql
from app.kit.jobs.broker import BrokerDown
from app.kit.jobs.relay import Relay
from app.kit.logging import bind_context, clear_context
from config import celery_url
from tests.kit import jobs_probe
from tests.kit.conftest import wait_until


@pytest.fixture
def sender(broker):
    app = celery.Celery("relay", broker=celery_url(broker.url), set_as_current=False)
    app.conf.update(process.SETTINGS)
    yield app
    app.close()


@pytest.fixture
def make_relay(jobs_app, jobs_database_url, sender):
    made: list[Relay] = []

    def make() -> Relay:
        made.append(Relay(jobs_database_url, sender))
        return made[-1]

    yield make
    for relay in made:
        relay.stopped.set()
        relay.close()


@pytest.fixture
def relay(make_relay, records, redis):
    records.rows("DELETE FROM outbox RETURNING id")
    return make_relay()


@pytest.fixture
def redis(broker):
    with Redis.from_url(broker.url) as redis:
        redis.flushall()
        yield redis


def sent(redis: Redis, queue: str = "probe") -> list[dict]:
    """The messages of a queue, oldest first."""
    return [json.loads(text) for text in reversed(redis.lrange(queue, 0, -1))]


def ids_of(messages: list[dict]) -> set[str]:
    """Whatever was sent twice counts once: the relay promises at least once."""
    return {message["headers"]["id"] for message in messages}


class TestSendDue:
    def test_sends_the_message_with_its_id_and_headers(
        self, relay, redis, enqueued, organization_id, records
    ):
        bind_context(request_id="request-of-bob")
        try:
            message_id = enqueued(jobs_probe.take_note, note="hello", dedup_key="key")
        finally:
            clear_context()

        assert relay.send_due() == 1

        message = sent(redis)[0]
        assert message["headers"]["id"] == str(message_id)
        assert message["headers"]["task"] == "probe.take_note"
        assert message["headers"]["request_id"] == "request-of-bob"
        assert message["headers"]["organization_id"] == str(organization_id)
        assert message["headers"]["dedup_key"] == "key"
        assert message["content-type"] == "application/json"
        assert json.loads(base64.b64decode(message["body"]))[:2] == [[], {"note": "hello"}]
        row = records.rows(
            "SELECT sends, not_before > now() + interval '1 hour' AS waits FROM outbox"
        )
        assert row == [(1, True)]
        assert relay.send_due() == 0

    def test_keeps_the_order_of_a_task(self, relay, redis, enqueued):
        asked = [str(enqueued(jobs_probe.take_note, note=str(number))) for number in range(20)]
        relay.send_due()

        assert [message["headers"]["id"] for message in sent(redis)] == asked

    def test_shares_the_work_with_other_relays(self, relay, make_relay, redis, enqueued, records):
        records.rows(
            "INSERT INTO outbox (id, topic, queue, payload) SELECT gen_random_uuid(), "
            "'probe.take_note', 'probe', '{}' FROM generate_series(1, 3000) RETURNING id"
        )

        def empty(worker: Relay) -> int:
            count = total = worker.send_due()
            while count:
                count = worker.send_due()
                total += count
            return total

        with ThreadPoolExecutor(3) as pool:
            totals = list(pool.map(empty, [relay, make_relay(), make_relay()]))

        ids = [message["headers"]["id"] for message in sent(redis)]
        assert sum(totals) == len(ids) == len(set(ids)) == 3000

    def test_sends_again_what_it_could_not_note(self, relay, redis, enqueued, monkeypatch, records):
        """At least once: killed between sending and noting, the message keeps its id."""
        message_id = enqueued(jobs_probe.take_note, note="twice")
        with monkeypatch.context() as patch:
            patch.setattr(relay_sql, "NOTE_SENT", "SELECT 1 / 0")
            with pytest.raises(psycopg.errors.DivisionByZero):
                relay.send_due()

        assert relay.send_due() == 1
        assert [message["headers"]["id"] for message in sent(redis)] == [str(message_id)] * 2

    def test_gives_up_what_no_worker_ever_takes(self, relay, redis, enqueued, records):
        message_id = enqueued(jobs_probe.take_note, note="unwanted")
        for _ in range(6):
            assert relay.send_due() == 1
            records.rows("UPDATE outbox SET not_before = now() RETURNING id")

        assert relay.send_due() == 0
        assert records.death(message_id).reason == "undeliverable"
        assert not records.waits(message_id)


class TestRefusedTopic:
    def test_blocks_no_other(self, relay, redis, enqueued, records):
        redis.set("broken", "not a list")
        refused = [new_id() for _ in range(3)]
        for message_id in refused:
            records.rows(
                "INSERT INTO outbox (id, topic, queue, payload) "
                "VALUES (%s, 'a.first_in_line', 'broken', '{}') RETURNING id",
                message_id,
            )
        enqueued(jobs_probe.take_note, note="x")

        assert relay.send_due() == 1

        assert len(sent(redis)) == 1
        rows = records.rows(
            "SELECT attempts, last_error, not_before > now() AS later "
            "FROM outbox WHERE topic = 'a.first_in_line' ORDER BY attempts DESC"
        )
        assert [row.attempts for row in rows] == [1, 0, 0]
        assert "WRONGTYPE" in rows[0].last_error
        assert [row.later for row in rows] == [True, False, False]

    def test_is_sent_once_the_broker_takes_it(self, relay, redis, records):
        redis.set("broken", "not a list")
        message_id = new_id()
        records.rows(
            "INSERT INTO outbox (id, topic, queue, payload) "
            "VALUES (%s, 'a.mended', 'broken', '{}') RETURNING id",
            message_id,
        )
        relay.send_due()
        redis.delete("broken")

        wait_until(relay.send_due, what="its pause is over", seconds=5)
        rows = records.rows("SELECT attempts, sends FROM outbox WHERE id = %s", message_id)
        assert rows == [(0, 1)]


class TestBrokerDown:
    def test_leaves_everything_as_it_was_while_redis_is_stopped(
        self, relay, broker, enqueued, records
    ):
        message_id = enqueued(jobs_probe.take_note, note="x")
        broker.stop()
        try:
            began = time.monotonic()
            with pytest.raises(BrokerDown):
                relay.send_due()
            assert time.monotonic() - began < 1
        finally:
            broker.start()

        assert records.rows("SELECT id, attempts, sends FROM outbox") == [(message_id, 0, 0)]
        assert relay.send_due() == 1

    def test_is_not_held_up_by_a_paused_redis(self, relay, broker, enqueued, records):
        assert relay.send_due() == 0
        message_id = enqueued(jobs_probe.take_note, note="x")
        broker.pause()
        try:
            began = time.monotonic()
            with pytest.raises(BrokerDown):
                relay.send_due()
            assert time.monotonic() - began < 3
            locked = records.rows("SELECT id FROM outbox FOR UPDATE NOWAIT")
        finally:
            broker.resume()

        assert locked == [(message_id,)]
        assert relay.send_due() == 1

    def test_sends_again_what_an_earlier_life_of_redis_got(
        self, relay, broker, redis, enqueued, records
    ):
        enqueued(jobs_probe.take_note, note="x")
        assert relay.send_due() == 1
        broker.stop()
        broker.start()

        assert relay.send_due() == 1
        assert relay.send_due() == 0


class TestKilledRun:
    def test_is_sent_again_after_two_looks_without_a_lock(
        self, relay, enqueued, records, monkeypatch
    ):
        monkeypatch.setattr("app.kit.jobs.relay.ORPHAN_LOOK_S", 0.0)
        message_id = enqueued(jobs_probe.take_note, note="x")
        relay.send_due()
        self._begin(records, message_id, lock_key=4711)

        assert relay.send_due() == 0
        assert relay.send_due() == 1
        assert records.state(message_id) == "waiting"
        assert relay.send_due() == 0

    @pytest.mark.parametrize("lock_key", [4711, -4711, 2**63 - 1, -(2**63)])
    def test_is_left_alone_while_its_lock_is_held(
        self, relay, enqueued, records, monkeypatch, lock_key
    ):
        monkeypatch.setattr("app.kit.jobs.relay.ORPHAN_LOOK_S", 0.0)
        message_id = enqueued(jobs_probe.take_note, note="x")
        relay.send_due()
        self._begin(records, message_id, lock_key=lock_key)

        with records.connection.transaction():
            records.rows("SELECT pg_advisory_xact_lock(%s)", lock_key)
            assert [relay.send_due() for _ in range(3)] == [0, 0, 0]
        assert records.state(message_id) == "running"
        records.rows("DELETE FROM task_runs WHERE message_id = %s RETURNING id", message_id)

    @staticmethod
    def _begin(records, message_id, *, lock_key):
        records.rows(
            "INSERT INTO task_runs (id, task, dedup_key, message_id, lock_key, state, deliveries) "
            "VALUES (gen_random_uuid(), 'probe.take_note', %s, %s, %s, 'running', 1) RETURNING id",
            str(message_id),
            message_id,
            lock_key,
        )


class TestRun:
    def test_goes_on_after_the_database_cut_it_off(self, relay, redis, enqueued, records):
        thread = threading.Thread(target=relay.run, daemon=True)
        thread.start()
        try:
            before = enqueued(jobs_probe.take_note, note="before")
            wait_until(lambda: str(before) in ids_of(sent(redis)), what="the first message")
            records.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'devguard-relay' AND datname = current_database()"
            )
            after = enqueued(jobs_probe.take_note, note="after")
            wait_until(lambda: str(after) in ids_of(sent(redis)), what="the second message")
        finally:
            relay.stopped.set()
            thread.join(timeout=5)
        assert not thread.is_alive()

    def test_outlives_a_fault_of_its_own(self, relay, redis, enqueued, monkeypatch):
        monkeypatch.setattr("app.kit.jobs.relay.LONGEST_PAUSE_S", 0.1)
        monkeypatch.setattr(relay_sql, "TOPICS", "SELECT 'x' AS unexpected")
        thread = threading.Thread(target=relay.run, daemon=True)
        thread.start()
        try:
            time.sleep(0.3)
            monkeypatch.undo()
            enqueued(jobs_probe.take_note, note="x")
            wait_until(lambda: len(sent(redis)) == 1, what="the message")
        finally:
            relay.stopped.set()
            thread.join(timeout=5)
