"""What a person can do about tasks that were given up."""

from __future__ import annotations

import pytest

from app.kit.errors import NotFound
from app.kit.ids import new_id
from app.kit.jobs import dead_letters
from app.kit.jobs.drain import run_waiting
from tests.kit import jobs_probe


@pytest.fixture
def dead(jobs_app, enqueued, records, organization_id):
    """A task that was given up; at its next start it succeeds."""
    message_id = enqueued(jobs_probe.fail_unless_started, note=str(organization_id))
    with jobs_app.app_context():
        run_waiting(organization_id=organization_id)
    return records.death(message_id)


@pytest.fixture
def command(jobs_app):
    def run(*words: str):
        return jobs_app.test_cli_runner().invoke(args=["tasks", *words])

    return run


class TestListDead:
    def test_says_what_died_of_what(self, jobs_app, dead, organization_id):
        with jobs_app.app_context():
            letters = dead_letters.list_dead(limit=5, task="probe.fail_unless_started")

        assert letters[0].id == dead.id
        assert letters[0].organization_id == organization_id
        assert letters[0].payload == {"note": str(organization_id)}
        assert (letters[0].reason, letters[0].failures) == ("exhausted", 1)
        assert letters[0].last_error == "RuntimeError: not started yet"

    def test_prints_them(self, command, dead):
        result = command("dead", "--task", "probe.fail_unless_started", "--limit", "3")

        assert result.exit_code == 0
        assert str(dead.id) in result.output
        assert "RuntimeError: not started yet" in result.output
        assert command("dead", "--task", "probe.never_was").output == ""


class TestReplayDead:
    def test_runs_it_again_with_a_clean_count(
        self, command, dead, jobs_app, records, organization_id
    ):
        result = command("replay", str(dead.id))
        with jobs_app.app_context():
            assert run_waiting(organization_id=organization_id) == 1

        assert result.exit_code == 0
        assert records.effects(str(organization_id)) == 1
        assert records.count("dead_tasks WHERE id = %s", dead.id) == 0
        run = records.rows(
            "SELECT state, failures FROM task_runs WHERE organization_id = %s", organization_id
        )
        assert run == [("done", 0)]

    def test_refuses_what_is_not_there(self, command, jobs_app):
        unknown = new_id()

        assert command("replay", str(unknown)).exit_code == 1
        assert command("replay", "not-an-id").exit_code == 2
        with jobs_app.app_context(), pytest.raises(NotFound):
            dead_letters.replay_dead(unknown)


class TestDiscardDead:
    def test_forgets_it_for_good(self, command, dead, records):
        result = command("discard", str(dead.id))

        assert result.exit_code == 0
        assert records.count("dead_tasks WHERE id = %s", dead.id) == 0
        assert command("discard", str(dead.id)).exit_code == 1


class TestListWaiting:
    def test_says_what_has_not_ended(self, command, enqueued):
        enqueued(jobs_probe.ask_for_more_time, note="x")

        output = command("waiting").output

        assert "probe.ask_for_more_time  " in output
        assert " waiting, oldest " in output


class TestRun:
    def test_runs_what_waits_without_a_worker(self, command, enqueued, records):
        message_id = enqueued(jobs_probe.take_note, note="by hand")

        result = command("run")

        assert result.exit_code == 0
        assert records.state(message_id) == "done"


class TestScheduledDeath:
    def test_keeps_only_the_last_of_one_job(self, jobs_app, records):
        for slot in ("one", "two"):
            records.rows(
                "INSERT INTO outbox (id, topic, queue, payload, headers, dedup_key) VALUES "
                "(%s, 'probe.fail_for_all', 'probe', '{}', '{\"scheduled\": \"x\"}', %s) RETURNING id",
                new_id(),
                slot,
            )
            with jobs_app.app_context():
                run_waiting()

        rows = records.rows("SELECT dedup_key FROM dead_tasks WHERE task = 'probe.fail_for_all'")
        assert rows == [("two",)]
