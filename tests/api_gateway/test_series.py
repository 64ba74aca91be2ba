"""The series of calls lives as the settings say: every accepted moment has a place, old ones leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.api_gateway import tasks
from app.api_gateway.models.requests import API_REQUESTS
from app.api_gateway.service.series import keep_api_requests
from app.extensions import db
from app.kit.jobs import enqueue
from app.kit.jobs.drain import run_waiting
from app.kit.tenancy import organization_scope, owner_session, system_session
from app.kit.timeseries import Engine, engine_of, native_partitions
from tests.api_gateway import oracle
from tests.factories.api_calls import (
    ACME_LLM,
    API,
    EURO_LLM,
    ago,
    all_pages,
    api_call,
    compact_all,
    logged,
    make_provider,
    mixed_calls,
    send,
    send_batch,
)


def engine(app) -> Engine:
    with app.app_context(), owner_session() as session:
        return engine_of(session)


def keep(app, **changes: Any):
    config = replace(app.extensions["devguard"], **changes)
    with app.app_context():
        return keep_api_requests(now=datetime.now(UTC), config=config)


def rows_in_columns(app) -> None:
    """Where there is a columnstore, take in also what came late into a chunk of it."""
    if engine(app) is Engine.NATIVE:
        return
    with app.app_context(), owner_session() as session:
        chunks = session.scalars(
            text(
                "SELECT format('%I.%I', chunk_schema, chunk_name) "
                "FROM timescaledb_information.chunks WHERE is_compressed "
                "AND hypertable_schema = 'measurements' AND hypertable_name = 'api_requests'"
            )
        ).all()
        assert chunks
        for chunk in chunks:
            session.execute(
                text("SELECT compress_chunk(CAST(:chunk AS regclass))"), {"chunk": chunk}
            )


def totals_of(caller, project) -> dict[str, Any]:
    query = f"from={ago(days=100)}&to={ago(minutes=-15)}"
    totals: dict[str, Any] = caller.get(
        f"{API}/analytics/cost?project_id={project.id}&{query}"
    ).json["totals"]
    return totals


class TestKeepApiRequests:
    def test_has_a_place_for_every_moment_that_is_accepted(self, app, ingest_key):
        days = app.extensions["devguard"].retention_days
        moments = [ago(minutes=-9), ago(days=days, minutes=-1), *(ago(days=d) for d in range(days))]
        calls = [api_call(id=f"m{n}", started_at=moment) for n, moment in enumerate(moments)]

        logged(ingest_key, calls)

    def test_has_partitions_from_the_retention_to_weeks_ahead(self, app):
        if engine(app) is Engine.TIMESCALE:
            pytest.skip("hypertables make their chunks themselves")
        keep(app)
        now = datetime.now(UTC)
        days = app.extensions["devguard"].retention_days

        with app.app_context(), owner_session() as session:
            starts = set(native_partitions(session, API_REQUESTS).values())

        moment = now - timedelta(days=days)
        while moment < now + timedelta(days=42):
            assert API_REQUESTS.span_start(moment) in starts
            moment += timedelta(days=1)

    def test_does_nothing_the_second_time(self, app):
        keep(app)

        upkeep = keep(app)

        assert (upkeep.created, upkeep.dropped, upkeep.compressed) == ([], [], [])

    def test_leaves_what_is_within_the_retention(self, app, alice, project, ingest_key):
        calls = [api_call(id=f"d{d}", started_at=ago(days=d)) for d in range(1, 90, 8)]
        logged(ingest_key, calls)

        keep(app)

        listed = all_pages(alice, f"project_id={project.id}&from={ago(days=91)}")
        assert [call["id"] for call in listed] == [call["id"] for call in calls]

    def test_is_run_as_a_task(self, app, as_system):
        with app.app_context():
            message_id = enqueue(tasks.keep_partitions)
            db.session.commit()
            run_waiting()

        assert as_system("SELECT 1 FROM outbox WHERE id = :id", id=message_id) == []
        assert as_system("SELECT 1 FROM dead_tasks WHERE message_id = :id", id=message_id) == []


class TestLateCalls:
    """What is compacted, and compressed where the engine can, still takes late calls, each once."""

    @pytest.fixture(autouse=True)
    def _providers(self, alice):
        for provider in (ACME_LLM, EURO_LLM):
            make_provider(alice, provider)

    def test_are_exact_in_old_spans(self, app, alice, project, ingest_key):
        now = datetime.now(UTC)
        moments = [now - timedelta(days=20, minutes=7 * n) for n in range(120)]
        calls = mixed_calls(moments, seed=21)
        logged(ingest_key, calls[::2])
        keep(app)
        compact_all(app)
        rows_in_columns(app)

        late = send_batch(ingest_key, calls)
        again = send_batch(ingest_key, calls[::-1])
        conflicting = send(ingest_key, {**calls[0], "source": "other"})

        assert (late.json["accepted"], late.json["duplicates"]) == (60, 60)
        assert (again.status_code, again.json["duplicates"]) == (200, 120)
        assert conflicting.status_code == 409
        judged = oracle.judged(calls, (ACME_LLM, EURO_LLM))
        asked = oracle.Asked(now - timedelta(days=40), now)
        expected = oracle.cost_answer(judged, asked)["totals"]
        told = totals_of(alice, project)
        assert {name: str(value) for name, value in told.items()} == {
            name: f"{value.normalize():f}" if name in {"cost", "computed"} else str(value)
            for name, value in expected.items()
        }
        listed = all_pages(alice, f"project_id={project.id}&from={ago(days=40)}&limit=100")
        assert len(listed) == 120


class TestTheWallBeforeCalls:
    def test_refuses_a_call_for_another_organization(self, app, alice, stranger, ingest_key):
        send(ingest_key, api_call(id="mine"))
        deeds = {
            "check option": "UPDATE api_requests SET organization_id = :other WHERE id = 'mine'",
            "permission denied": "SELECT count(*) FROM measurements.api_requests "
            "WHERE organization_id = :other",
        }

        for message, deed in deeds.items():
            with app.app_context(), organization_scope(alice.organization_id):
                with pytest.raises(ProgrammingError, match=message):
                    db.session.execute(text(deed), {"other": stranger.organization_id})
                db.session.rollback()

    def test_hides_calls_from_another_organization(self, app, stranger, ingest_key):
        send(ingest_key, api_call(id="mine"))
        deeds = [
            "UPDATE api_requests SET source = 'theirs'",
            "DELETE FROM api_requests",
            "DELETE FROM api_rollup_deltas",
            "DELETE FROM api_rollup_1d",
        ]

        with app.app_context(), organization_scope(stranger.organization_id):
            touched = [db.session.execute(text(deed)).rowcount for deed in deeds]

        assert touched == [0] * len(deeds)

    def test_keeps_sums_in_the_database_that_add_up(self, app, ingest_key):
        # What the application refuses the table refuses too.
        send(ingest_key, api_call(id="sound"))

        for change in (
            "cache_read_input_tokens = input_tokens + 1",
            "reasoning_output_tokens = output_tokens + 1",
            "cost = NULL",
            "pricing_status = 'unpriced'",
        ):
            with (
                pytest.raises(Exception, match="violates check constraint"),
                app.app_context(),
                system_session() as session,
            ):
                session.execute(
                    text(f"UPDATE measurements.api_requests SET {change} WHERE id = 'sound'")
                )
