"""One delivery of a task, in this process: claim, effect, failure and the rules for bodies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.extensions import db
from app.kit.ids import new_id
from app.kit.jobs import enqueue, runs, tasks
from app.kit.jobs.drain import run_waiting
from app.kit.jobs.runs import Delivery
from app.kit.tenancy import organization_scope
from tests.kit import jobs_probe


@pytest.fixture
def run_all(jobs_app, organization_id):
    def run() -> int:
        with jobs_app.app_context():
            return run_waiting(organization_id=organization_id)

    return run


class TestRunWaiting:
    def test_runs_what_was_asked_for_and_what_that_asks_for(self, enqueued, run_all, records):
        enqueued(jobs_probe.ask_for_note, note="asked by a task")

        assert run_all() == 2
        assert records.effects("asked by a task") == 1
        assert run_all() == 0

    def test_leaves_others_alone(self, enqueued, jobs_app, records):
        message_id = enqueued(jobs_probe.take_note, note="of another")
        with jobs_app.app_context():
            assert run_waiting(organization_id=new_id()) == 0

        assert records.waits(message_id)


class TestDeliver:
    def test_is_the_body_alone_when_called_directly(self, jobs_app, organization_id, records):
        with jobs_app.app_context(), organization_scope(organization_id):
            jobs_probe.take_note(note="direct")
            assert records.effects("direct") == 0
            db.session.commit()

        assert records.effects("direct") == 1

    def test_refuses_a_body_that_commits(self, enqueued, run_all, records):
        message_id = enqueued(jobs_probe.commit_itself, note="impatient")
        run_all()

        assert "never commits" in records.death(message_id).last_error

    def test_gives_up_at_once_what_the_task_calls_poison(self, enqueued, run_all, records):
        message_id = enqueued(jobs_probe.refuse_payload, note="poison")
        run_all()

        death = records.death(message_id)
        assert (death.reason, death.failures) == ("poison", 0)
        assert records.effects("poison") == 0
        assert records.state(message_id) == "dead"
        assert not records.waits(message_id)

    def test_waits_as_long_as_the_task_asks(self, enqueued, run_all, records):
        message_id = enqueued(jobs_probe.ask_for_more_time, note="early")
        run_all()

        row = records.rows(
            "SELECT not_before - now() AS pause, last_error, sent_to FROM outbox WHERE id = %s",
            message_id,
        )[0]
        assert timedelta(minutes=119) < row.pause <= timedelta(hours=2)
        assert row.last_error == "RetryLater: early is early"
        assert records.state(message_id) == "waiting"

    def test_looks_again_later_when_another_worker_holds_the_run(
        self, enqueued, run_all, records, organization_id
    ):
        message_id = enqueued(jobs_probe.take_note, note="held")
        delivery = Delivery(
            message_id=message_id,
            organization_id=organization_id,
            task="probe.take_note",
            queue="probe",
            dedup_key=str(message_id),
            payload={"note": "held"},
        )
        with records.connection.transaction():
            records.rows("SELECT pg_advisory_xact_lock(%s)", delivery.lock_key)
            run_all()

            assert records.effects("held") == 0
            assert records.state(message_id) is None
        row = records.rows(
            "SELECT not_before > now() AS later FROM outbox WHERE id = %s", message_id
        )
        assert row == [(True,)]

    def test_undoes_its_effect_when_another_worker_finished_the_run(
        self, enqueued, run_all, records, monkeypatch
    ):
        """Should the lock ever fail: the mark is the last wall."""
        message_id = enqueued(jobs_probe.take_note, note="overtaken")
        begin = runs.begin

        def begin_and_be_overtaken(delivery):
            run = begin(delivery)
            records.rows(
                "UPDATE task_runs SET state = 'done', finished_at = now() WHERE id = %s RETURNING id",
                run.id,
            )
            return run

        monkeypatch.setattr(runs, "begin", begin_and_be_overtaken)
        run_all()

        assert records.effects("overtaken") == 0
        assert records.state(message_id) == "done"
        assert not records.waits(message_id)

    def test_keeps_keys_of_organizations_apart(self, jobs_app, records):
        with jobs_app.app_context():
            for _ in range(2):
                organization_id = new_id()
                with organization_scope(organization_id):
                    enqueue(jobs_probe.take_note, note="same key", dedup_key="same")
                    db.session.commit()
                run_waiting(organization_id=organization_id)

        assert records.effects("same key") == 2

    def test_stores_no_values_of_a_database_error(self, enqueued, run_all, records):
        message_id = enqueued(jobs_probe.break_a_constraint, note="topsecret")
        run_all()

        row = records.rows("SELECT last_error FROM outbox WHERE id = %s", message_id)[0]
        assert "NotNullViolation" in row.last_error
        assert "INSERT" not in row.last_error


class TestRetryDelay:
    @given(st.integers(0, 10_000))
    def test_grows_with_jitter_up_to_the_cap(self, failures):
        delay_s = jobs_probe.ask_for_more_time.retry_delay(failures).total_seconds()

        full_s = min(3600, 10 * 2 ** min(failures, 30))
        assert full_s / 2 <= delay_s <= full_s


class TestDeclareTask:
    def test_marks_every_task_for_late_acknowledgement(self):
        for task in (jobs_probe.take_note, jobs_probe.note_for_all):
            assert (task.acks_late, task.reject_on_worker_lost) == (True, True)
            assert (task.ignore_result, task.serializer) == (True, "json")
            assert isinstance(task, tasks.TransactionalTask)

    def test_keeps_the_time_limit_below_the_visibility_timeout(self):
        from app.kit.jobs.process import SETTINGS

        visible_s = SETTINGS["broker_transport_options"]["visibility_timeout"]
        assert SETTINGS["task_soft_time_limit"] < SETTINGS["task_time_limit"] < visible_s


class TestTransaction:
    def test_lets_a_platform_task_see_all_organizations(self, enqueued, jobs_app, records):
        with jobs_app.app_context():
            message_id = enqueue(jobs_probe.note_for_all)
            db.session.commit()
            run_waiting()
            role = db.session.scalar(text("SELECT current_user"))

        assert records.state(message_id) == "done"
        assert role == "dg_app"
