"""Slots of scheduled jobs: claimed once, by whichever beat, whatever the clock does."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import celery
import pytest

from app import tasks as table_of_contents
from app.extensions import celery as our_celery
from app.extensions import db
from app.kit.jobs import Every, enqueue, upkeep
from app.kit.jobs.drain import run_waiting
from app.kit.jobs.relay import system_connection
from app.kit.jobs.schedule import SlotScheduler, claim_due

HOURLY = {"probe.hourly": Every(timedelta(hours=1), queue="probe")}


@pytest.fixture
def slots(jobs_app, jobs_database_url, records):
    """Claim at a moment of our choice: `now()` of this connection is ours."""
    records.rows("DELETE FROM job_runs RETURNING name")
    records.rows("DELETE FROM outbox RETURNING id")
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS clock",
        (
            "CREATE OR REPLACE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql "
            "AS $$ SELECT current_setting('clock.now')::timestamptz $$"
        ),
        "GRANT USAGE ON SCHEMA clock TO dg_system",
    ):
        records.connection.execute(statement)
    connection = system_connection(jobs_database_url, name="test-beat")
    connection.execute("SET search_path = clock, pg_catalog, public")

    def claim(moment: str, schedule=HOURLY, *, ended: bool = True) -> list[str]:
        connection.execute("SELECT set_config('clock.now', %s, false)", [f"{moment}+00"])
        claimed = claim_due(connection, schedule)
        if ended:
            records.rows("DELETE FROM outbox RETURNING id")
        return claimed

    yield claim
    connection.close()


def claimed_slots(records) -> list[datetime]:
    return [row.slot for row in records.rows("SELECT slot FROM job_runs ORDER BY claimed_at, slot")]


class TestClaimDue:
    def test_claims_the_slot_that_began_last_and_once(self, slots, records):
        assert slots("2026-11-20 10:59:59.9") == ["probe.hourly"]
        assert slots("2026-11-20 10:59:59.95") == []
        assert slots("2026-11-20 11:00:00") == ["probe.hourly"]

        assert claimed_slots(records) == [
            datetime(2026, 11, 20, 10, tzinfo=UTC),
            datetime(2026, 11, 20, 11, tzinfo=UTC),
        ]

    def test_asks_for_the_task_of_the_slot(self, slots, records):
        slots("2026-11-20 10:30:00", ended=False)

        row = records.rows("SELECT * FROM outbox")[0]
        assert (row.topic, row.queue, row.organization_id) == ("probe.hourly", "probe", None)
        assert (row.payload, row.dedup_key) == ({}, "slot 2026-11-20T10:00:00.000000")
        assert row.headers == {"scheduled": "2026-11-20T10:00:00Z", "request_id": str(row.id)}

    def test_moves_slots_by_the_offset(self, slots, records):
        daily = {"probe.daily": Every(timedelta(days=1), offset=timedelta(hours=3))}

        assert slots("2026-11-20 02:59:00", daily) == ["probe.daily"]
        assert slots("2026-11-20 03:00:00", daily) == ["probe.daily"]
        assert claimed_slots(records) == [
            datetime(2026, 11, 19, 3, tzinfo=UTC),
            datetime(2026, 11, 20, 3, tzinfo=UTC),
        ]

    def test_claims_nothing_while_the_last_run_has_not_ended(self, slots, records):
        slots("2026-11-20 10:30:00", ended=False)

        assert slots("2026-11-20 11:30:00", ended=False) == []
        records.rows("DELETE FROM outbox RETURNING id")
        assert slots("2026-11-20 11:31:00") == ["probe.hourly"]

    def test_starts_one_run_after_a_clock_that_was_set_forward(self, slots, records):
        slots("2026-11-20 10:30:00")

        assert slots("2027-11-20 10:30:00") == ["probe.hourly"]
        assert slots("2027-11-20 10:31:00") == []
        assert len(claimed_slots(records)) == 2

    def test_starts_nothing_twice_after_a_clock_that_was_set_back(self, slots, records):
        for moment in ("2026-11-20 10:30:00", "2026-11-20 11:30:00", "2027-01-01 00:10:00"):
            assert slots(moment) == ["probe.hourly"]

        assert slots("2026-11-20 10:40:00") == []
        assert slots("2026-11-20 11:40:00") == []
        assert slots("2026-11-20 12:00:01") == ["probe.hourly"]

    def test_gives_one_slot_to_one_of_many_beats(self, jobs_app, jobs_database_url, records):
        records.rows("DELETE FROM job_runs RETURNING name")
        records.rows("DELETE FROM outbox RETURNING id")
        connections = [system_connection(jobs_database_url, name="test-beat") for _ in range(6)]
        together = Barrier(6)

        def claim(connection) -> list[str]:
            together.wait()
            return claim_due(connection, HOURLY)

        with ThreadPoolExecutor(6) as pool:
            claims = list(pool.map(claim, connections))
        for connection in connections:
            connection.close()

        assert sorted(claims) == [[], [], [], [], [], ["probe.hourly"]]
        assert records.count("outbox WHERE topic = 'probe.hourly'") == 1

    def test_refuses_a_period_that_is_no_period(self):
        with pytest.raises(ValueError, match="once a second"):
            Every(timedelta(0))


class TestTick:
    def test_waits_for_a_database_that_does_not_answer(self):
        app = celery.Celery(set_as_current=False)
        app.database_url = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
        app.job_schedule = {}
        scheduler = SlotScheduler(app)

        assert scheduler.tick() == 3.0
        scheduler.close()


class TestSchedule:
    @pytest.mark.parametrize("name", sorted(table_of_contents.SCHEDULE))
    def test_names_platform_tasks_without_arguments(self, name):
        task = our_celery.tasks[name]

        assert task.is_platform
        assert not inspect.signature(task.run).parameters

    def test_is_readable_without_any_setting(self):
        assert "kit.clean_job_records" in table_of_contents.SCHEDULE
        with pytest.raises(AttributeError):
            _ = table_of_contents.app


class TestCleanJobRecords:
    def test_forgets_what_ended_a_week_ago_but_the_newest_slot(self, jobs_app, records):
        records.rows("DELETE FROM job_runs RETURNING name")
        records.rows("DELETE FROM task_runs RETURNING id")
        for days in (1, 8, 9):
            records.rows(
                "INSERT INTO task_runs (id, task, dedup_key, message_id, lock_key, state, finished_at) "
                "VALUES (gen_random_uuid(), 'probe.old', %s, gen_random_uuid(), 1, 'done', "
                "now() - make_interval(days => %s)) RETURNING id",
                str(days),
                days,
            )
            records.rows(
                "INSERT INTO job_runs SELECT 'probe.' || kind, now() - make_interval(days => %s), "
                "gen_random_uuid(), now() - make_interval(days => %s) "
                "FROM unnest(%s::text[]) AS kind RETURNING name",
                days,
                days,
                ["often"] if days == 1 else ["often", "rarely"],
            )

        with jobs_app.app_context():
            enqueue(upkeep.clean_job_records)
            db.session.commit()
            run_waiting()

        kept = records.rows("SELECT dedup_key FROM task_runs WHERE task = 'probe.old'")
        assert kept == [("1",)]
        slots = records.rows(
            "SELECT name, round(extract(epoch FROM now() - slot) / 86400)::int FROM job_runs ORDER BY name"
        )
        assert slots == [("probe.often", 1), ("probe.rarely", 8)]
