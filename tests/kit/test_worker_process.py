"""Real workers and beats, killed and cut off for real."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from app.kit.ids import new_id
from app.kit.logging import bind_context, clear_context
from tests.kit import jobs_probe
from tests.kit.conftest import wait_until, worker_words

pytestmark = pytest.mark.faults


class TestRunTask:
    def test_has_its_effect_inside_the_organization_that_asked(
        self, worker, enqueued, records, organization_id
    ):
        message_id = enqueued(jobs_probe.take_note, note="inside")

        wait_until(lambda: records.state(message_id) == "done", what="the task is done")
        rows = records.rows("SELECT organization_id, role FROM probe.effects WHERE note = 'inside'")
        assert rows == [(organization_id, "dg_app")]
        assert not records.waits(message_id)

    def test_carries_the_request_id_into_the_log_of_the_task(self, worker, enqueued, records):
        bind_context(request_id="request-of-alice")
        try:
            message_id = enqueued(jobs_probe.take_note, note="traced")
        finally:
            clear_context()

        wait_until(lambda: records.state(message_id) == "done", what="the task is done")
        lines = [line for line in worker.lines("task_done") if line["task_id"] == str(message_id)]
        assert [line["request_id"] for line in lines] == ["request-of-alice"]
        assert lines[0]["task"] == "probe.take_note"

    def test_happens_once_however_often_it_is_delivered(
        self, worker, enqueued, records, send_raw, organization_id
    ):
        message_id = enqueued(jobs_probe.take_note_slowly, note="doubled", seconds="0.5")
        for _ in range(3):
            send_raw(
                jobs_probe.take_note_slowly,
                message_id=message_id,
                organization_id=organization_id,
                note="doubled",
                seconds="0.5",
            )

        wait_until(lambda: records.state(message_id) == "done", what="the task is done")
        wait_until(
            lambda: records.count("outbox WHERE topic = 'probe.take_note_slowly'") == 0,
            what="every delivery came to its end",
        )
        assert records.effects("doubled") == 1
        assert records.starts("doubled") == 1

    def test_runs_once_for_a_dedup_key(self, worker, enqueued, records):
        first = enqueued(jobs_probe.take_note, note="keyed", dedup_key="2026-11")
        second = enqueued(jobs_probe.take_note, note="keyed", dedup_key="2026-11")

        wait_until(
            lambda: not records.waits(first) and not records.waits(second),
            what="both messages ended",
        )
        assert records.effects("keyed") == 1

    def test_retries_what_fails_and_keeps_nothing_of_the_failures(self, worker, enqueued, records):
        message_id = enqueued(jobs_probe.fail_at_first, note="stubborn", failures="2")

        wait_until(lambda: records.state(message_id) == "done", what="the third try succeeds")
        assert records.starts("stubborn") == 3
        assert records.effects("stubborn") == 1

    def test_goes_to_the_dead_letters_when_its_retries_are_used_up(
        self, worker, enqueued, records, organization_id
    ):
        message_id = enqueued(jobs_probe.fail_always, note="hopeless")

        wait_until(lambda: records.death(message_id), what="a dead letter")
        death = records.death(message_id)
        assert (death.reason, death.failures) == ("exhausted", 3)
        assert death.last_error == "RuntimeError: hopeless always fails"
        assert (death.organization_id, death.payload) == (organization_id, {"note": "hopeless"})
        assert records.effects("hopeless") == 0

    def test_goes_to_the_dead_letters_at_the_fourth_delivery_when_it_kills_its_worker(
        self, worker, enqueued, records
    ):
        message_id = enqueued(jobs_probe.kill_own_worker, note="deadly")

        wait_until(lambda: records.death(message_id), what="a dead letter")
        assert records.death(message_id).reason == "killed"
        assert records.starts("deadly") == 3
        assert records.effects("deadly") == 0

    def test_goes_to_the_dead_letters_when_its_arguments_do_not_fit(
        self, worker, records, send_raw, organization_id
    ):
        message_id = new_id()
        send_raw(
            jobs_probe.take_note, message_id=message_id, organization_id=organization_id, notte="x"
        )

        wait_until(lambda: records.death(message_id), what="a dead letter")
        death = records.death(message_id)
        assert death.reason == "poison"
        assert death.payload == {"notte": "x"}

    def test_is_stopped_at_its_time_limit(self, worker, enqueued, records):
        message_id = enqueued(jobs_probe.sleep_over_limit, note="endless")

        wait_until(lambda: records.death(message_id), what="a dead letter")
        assert "SoftTimeLimitExceeded" in records.death(message_id).last_error
        assert records.effects("endless") == 0

    def test_waits_for_its_moment(self, worker, enqueued, records):
        moment = datetime.now(UTC) + timedelta(seconds=1.5)
        message_id = enqueued(jobs_probe.take_note, note="later", not_before=moment)
        time.sleep(0.7)

        assert records.effects("later") == 0
        wait_until(lambda: records.state(message_id) == "done", what="its moment came")
        assert datetime.now(UTC) >= moment

    def test_is_left_to_a_newer_worker_when_this_one_does_not_know_it(self, worker, records):
        """A name that no worker knows is kept: a newer worker may know it."""
        message_id = new_id()
        records.rows(
            "INSERT INTO outbox (id, topic, queue, payload) "
            "VALUES (%s, 'probe.unheard_of', 'probe', '{}') RETURNING id",
            message_id,
        )
        records.rows("SELECT pg_notify('devguard_outbox', '')")

        wait_until(
            lambda: records.count("outbox WHERE id = %s AND last_error <> ''", message_id),
            what="noted as unknown",
        )
        row = records.rows(
            "SELECT sends, not_before - now() < interval '2 minutes' AS soon, last_error "
            "FROM outbox WHERE id = %s",
            message_id,
        )
        assert row == [(1, True, "the worker that got it does not know this task")]


class TestKillWorker:
    def test_runs_the_task_again_and_once(self, enqueued, records, start_celery):
        victim = start_celery(*worker_words("victim", concurrency=1)).ready()
        message_id = enqueued(jobs_probe.take_note_at_second_start, note="killed")
        wait_until(lambda: records.starts("killed") == 1, what="the first start")

        victim.kill()
        start_celery(*worker_words("heir", concurrency=1)).ready()

        wait_until(lambda: records.state(message_id) == "done", what="the heir did it")
        assert records.starts("killed") == 2
        assert records.effects("killed") == 1

    def test_finishes_the_running_task_on_sigterm(self, enqueued, records, start_celery):
        worker = start_celery(*worker_words("leaver", concurrency=1)).ready()
        message_id = enqueued(jobs_probe.take_note_slowly, note="last", seconds="1.5")
        wait_until(lambda: records.starts("last") == 1, what="the task began")

        code = worker.stop()

        assert code == 0
        assert records.state(message_id) == "done"
        assert records.effects("last") == 1


class TestStopRedis:
    def test_sends_what_was_committed_meanwhile_when_redis_returns(
        self, enqueued, records, broker, start_celery
    ):
        start_celery(*worker_words("waiter")).ready()
        broker.stop()
        message_id = enqueued(jobs_probe.take_note, note="patient")
        time.sleep(1)
        assert records.waits(message_id)
        assert records.effects("patient") == 0

        broker.start()

        wait_until(lambda: records.state(message_id) == "done", what="sent after the return")
        assert records.effects("patient") == 1

    def test_does_not_end_a_worker_in_the_middle_of_a_task(
        self, enqueued, records, broker, start_celery
    ):
        worker = start_celery(*worker_words("survivor", concurrency=1)).ready()
        running = enqueued(jobs_probe.take_note_slowly, note="midway", seconds="1")
        wait_until(lambda: records.starts("midway") == 1, what="the task began")

        broker.server.process.kill()
        waiting = enqueued(jobs_probe.take_note, note="meanwhile")
        broker.stop()
        broker.start()

        for message_id in (running, waiting):
            wait_until(lambda: records.state(message_id) == "done", what="both done")  # noqa: B023
        assert (records.effects("midway"), records.starts("midway")) == (1, 1)
        assert records.effects("meanwhile") == 1
        assert worker.process.poll() is None
        assert worker.stop() == 0

    def test_sends_again_what_redis_forgot(self, enqueued, records, broker, start_celery):
        # A worker of another queue relays the message, and nobody takes it.
        sender = start_celery(*worker_words("sender"), "-Q", "elsewhere").ready()
        message_id = enqueued(jobs_probe.take_note, note="forgotten")
        wait_until(
            lambda: records.count("outbox WHERE id = %s AND sends = 1", message_id), what="sent"
        )
        broker.stop()
        broker.start()

        start_celery(*worker_words("taker")).ready()

        wait_until(lambda: records.state(message_id) == "done", what="sent a second time")
        assert records.effects("forgotten") == 1
        assert sender.process.poll() is None


class TestBeat:
    def test_starts_one_run_per_slot_however_many_beats_there_are(self, records, start_celery):
        start_celery(*worker_words("doer"))
        words = ("beat", "-s", "unused", "--scheduler", "tests.kit.jobs_beat:EachSecond")
        beats = [start_celery(*words), start_celery(*words)]
        wait_until(
            lambda: records.count("job_runs WHERE name = 'probe.note_slot'") > 2,
            what="three slots",
        )
        codes = [beat.stop() for beat in beats]

        slots = records.count("job_runs WHERE name = 'probe.note_slot'")
        wait_until(
            lambda: records.effects("note_slot") == slots, what=f"{slots} runs of {slots} slots"
        )
        time.sleep(0.5)
        assert records.effects("note_slot") == slots
        assert codes == [0, 0]
        roles = records.rows("SELECT DISTINCT role FROM probe.effects WHERE note = 'note_slot'")
        assert roles == [("dg_system",)]
