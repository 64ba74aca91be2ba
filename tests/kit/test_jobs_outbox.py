"""Asking for work: what a transaction may leave in the outbox, and who may see it."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import make_url, text

from app.extensions import db
from app.kit.ids import new_id
from app.kit.jobs import enqueue, enqueue_for
from app.kit.jobs.outbox import CHANNEL
from app.kit.logging import bind_context, clear_context
from app.kit.tenancy import NoOrganization, organization_scope
from tests.kit import jobs_probe

APP = Path(__file__).parents[2] / "app"


@pytest.fixture
def in_organization(jobs_app, organization_id):
    with jobs_app.app_context(), organization_scope(organization_id):
        yield organization_id


class TestEnqueue:
    def test_leaves_with_the_commit(self, in_organization, records):
        message_id = enqueue(jobs_probe.take_note, note="committed")
        assert not records.waits(message_id)

        db.session.commit()

        row = records.rows("SELECT * FROM outbox WHERE id = %s", message_id)[0]
        assert (row.topic, row.queue) == ("probe.take_note", "probe")
        assert (row.organization_id, row.payload) == (in_organization, {"note": "committed"})
        assert (row.sends, row.attempts, row.last_error) == (0, 0, None)

    def test_was_never_asked_for_when_rolled_back(self, in_organization, records):
        message_id = enqueue(jobs_probe.take_note, note="regretted")
        db.session.rollback()
        db.session.commit()

        assert not records.waits(message_id)

    def test_wakes_the_relay_only_for_what_is_due(self, in_organization, jobs_database_url):
        url = make_url(jobs_database_url)
        _, arguments = url.get_dialect()().create_connect_args(url)
        with psycopg.connect(**arguments, autocommit=True) as listener:
            listener.execute(f"LISTEN {CHANNEL}")

            enqueue(
                jobs_probe.take_note, note="x", not_before=datetime.now(UTC) + timedelta(days=1)
            )
            db.session.commit()
            assert list(listener.notifies(timeout=0.2, stop_after=1)) == []
            enqueue(jobs_probe.take_note, note="x")
            assert list(listener.notifies(timeout=0.2, stop_after=1)) == []
            db.session.commit()
            assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1

    def test_keeps_the_request_id_and_the_trace(self, in_organization, records):
        bind_context(request_id="request-1234", traceparent="00-abc-def-01", secret="not this")
        try:
            message_id = enqueue(jobs_probe.take_note, note="x")
        finally:
            clear_context()
        db.session.commit()

        row = records.rows("SELECT headers FROM outbox WHERE id = %s", message_id)[0]
        assert row.headers == {"request_id": "request-1234", "traceparent": "00-abc-def-01"}

    @pytest.mark.parametrize(
        "ids", [{}, {"note": "x", "more": "y"}, {"note": 5}, {"note": None}, {"note": ["x"]}]
    )
    def test_refuses_arguments_that_do_not_fit(self, in_organization, ids):
        with pytest.raises(TypeError):
            enqueue(jobs_probe.take_note, **ids)

    def test_refuses_a_moment_without_zone(self, in_organization):
        with pytest.raises(ValueError, match="aware"):
            enqueue(jobs_probe.take_note, note="x", not_before=datetime(2026, 11, 20))

    def test_refuses_a_tenant_task_where_no_organization_is_set(self, jobs_app):
        with jobs_app.app_context(), pytest.raises(NoOrganization):
            enqueue(jobs_probe.take_note, note="x")

    def test_takes_a_platform_task_where_no_organization_is_set(self, jobs_app, records):
        with jobs_app.app_context():
            message_id = enqueue(
                jobs_probe.note_for_all, not_before=datetime(9999, 1, 1, tzinfo=UTC)
            )
            db.session.commit()

        row = records.rows("DELETE FROM outbox WHERE id = %s RETURNING organization_id", message_id)
        assert row == [(None,)]


class TestTenantWall:
    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM outbox",
            "UPDATE outbox SET not_before = now()",
            "DELETE FROM outbox",
            "SELECT * FROM task_runs",
            "SELECT * FROM dead_tasks",
            "SELECT * FROM job_runs",
            "INSERT INTO job_runs (name, slot, message_id) VALUES ('x', now(), gen_random_uuid())",
        ],
    )
    def test_lets_a_request_only_add(self, in_organization, statement):
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="permission denied"):
            db.session.execute(text(statement))

    def test_refuses_a_message_for_another_organization(self, in_organization):
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="row-level security"):
            enqueue_for(new_id(), jobs_probe.take_note, note="x")


class TestNobodySendsPastTheOutbox:
    def test_only_the_broker_module_calls_celery(self):
        senders = {
            str(path.relative_to(APP))
            for path in APP.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"delay", "apply_async", "send_task"}
        }

        assert senders == {"kit/jobs/broker.py"}
