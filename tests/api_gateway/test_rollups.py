"""Rollups = rows: each level and the deltas together say what the rows say, after every kind of write."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.api_gateway import tasks
from app.api_gateway.service import rollups
from app.api_gateway.service.rollups import compact_rollups
from app.extensions import db
from app.kit.jobs import enqueue
from app.kit.jobs.drain import run_waiting
from app.kit.tenancy import system_session
from tests.factories import people
from tests.factories.api_calls import (
    ACME_LLM,
    API,
    EURO_LLM,
    ago,
    api_call,
    compact_all,
    logged,
    make_provider,
    mixed_calls,
    send,
    send_batch,
    send_lines,
    wire,
)
from tests.factories.people import Caller, MadeProject, Person

ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
LEVELS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
}
HISTOGRAMS = {"duration": "duration_bin", "first_chunk": "first_chunk_bin"}
KEY = ("organization_id", "project_id", "bucket", "group_id")


class Killed(BaseException):
    """The end of a process in the middle of what it does."""


Row = Mapping[str, Any]
Cells = dict[Any, dict[str, Any]]


def _billed(row: Row, name: str) -> int:
    return 0 if row["cache_hit"] else row[name] or 0


def _tokens(row: Row) -> int:
    return (row["input_tokens"] or 0) + (row["output_tokens"] or 0)


def _generates(row: Row) -> bool:
    return bool(not row["cache_hit"] and row["duration_us"] and row["output_tokens"])


# What one row adds to each figure, written down a second time.
OF_A_ROW = {
    "requests": lambda row: 1,
    "retries": lambda row: int(row["attempt"] > 1),
    "cache_hits": lambda row: int(row["cache_hit"]),
    **{
        name: lambda row, name=name: _billed(row, name)
        for name in (
            "input_tokens", "cache_read_input_tokens", "cache_write_input_tokens",
            "output_tokens", "reasoning_output_tokens",
        )
    },
    "avoided_tokens": lambda row: _tokens(row) if row["cache_hit"] else 0,
    "priced_tokens": lambda row: (
        _tokens(row) if row["cost"] is not None and not row["cache_hit"] else 0
    ),
    **{
        status: lambda row, status=status: int(row["pricing_status"] == status)
        for status in ("reported", "computed", "free", "unmetered", "unpriced")
    },
    "approximate": lambda row: int(row["pricing_notes"] is not None),
    "cost": lambda row: row["cost"] or Decimal(0),
    "computed_cost": lambda row: row["computed_cost"] or Decimal(0),
    "timed": lambda row: int(row["duration_us"] is not None),
    "duration_us": lambda row: row["duration_us"] or 0,
    "generated_tokens": lambda row: row["output_tokens"] if _generates(row) else 0,
    "generation_us": lambda row: row["duration_us"] if _generates(row) else 0,
}  # fmt: skip


def bucket_of(moment: datetime, width: timedelta) -> datetime:
    return ORIGIN + (moment - ORIGIN) // width * width


def cells_of_rows(rows: list[Row], width: timedelta) -> Cells:
    cells: Cells = defaultdict(lambda: defaultdict(int))
    for row in rows:
        cell = cells[bucket_of(row["started_at"], width), row["group_id"]]
        for figure, of_a_row in OF_A_ROW.items():
            cell[figure] += of_a_row(row)
        for name, column in HISTOGRAMS.items():
            if row[column] is not None:
                cell[name, row[column]] += 1
    return {key: dict(cell) for key, cell in cells.items()}


def cells_of_cells(found: list[Row], width: timedelta) -> Cells:
    cells: Cells = defaultdict(lambda: defaultdict(int))
    for row in found:
        cell = cells[bucket_of(row["bucket"], width), row["group_id"]]
        for figure in OF_A_ROW:
            cell[figure] += row[figure]
        for name in HISTOGRAMS:
            bins, counts = row[f"{name}_bins"] or [], row[f"{name}_counts"] or []
            for number, count in zip(bins, counts, strict=True):
                cell[name, number] += count
    return {key: dict(cell) for key, cell in cells.items()}


def read(app: Flask, table: str, project: MadeProject) -> list[Row]:
    with app.app_context(), system_session() as session:
        found = session.execute(
            text(f"SELECT * FROM {table} WHERE project_id = :id"), {"id": project.id}
        )
        return [dict(row) for row in found.mappings()]


def assert_rollups_are_rows(app: Flask, project: MadeProject) -> None:
    rows = read(app, "measurements.api_requests", project)
    deltas = read(app, "api_rollup_deltas", project)
    assert rows
    for level, width in LEVELS.items():
        compacted = read(app, f"api_rollup_{level}", project)
        assert all(cell["bucket"] == bucket_of(cell["bucket"], width) for cell in compacted)
        assert cells_of_cells(compacted + deltas, width) == cells_of_rows(rows, width), level


def deltas_of(app: Flask, project: MadeProject) -> int:
    return len(read(app, "api_rollup_deltas", project))


def totals_of(caller: Caller, project: MadeProject) -> dict[str, Any]:
    # A range that holds every call whenever it is asked: the default one moves on.
    query = f"from={ago(days=100)}&to={ago(minutes=-15)}"
    answer = caller.get(f"{API}/analytics/cost?project_id={project.id}&{query}")
    assert answer.status_code == 200, answer.text
    totals: dict[str, Any] = answer.json["totals"]
    return totals


@pytest.fixture
def providers(alice):
    for provider in (ACME_LLM, EURO_LLM):
        make_provider(alice, provider)


def recent_mix(count: int, *, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    now = datetime.now(UTC)
    return mixed_calls(
        [now - timedelta(days=80 * chance.random() ** 4, minutes=1) for _ in range(count)],
        seed=seed,
    )


class TestFigures:
    def test_are_all_checked_here(self, as_system):
        for table in ("deltas", *LEVELS):
            columns = as_system(
                "SELECT column_name FROM information_schema.columns WHERE table_name = :name",
                name=f"api_rollup_{table}",
            )
            histograms = {f"{n}_{part}" for n in HISTOGRAMS for part in ("bins", "counts")}
            assert {name for (name,) in columns} == {*KEY, *OF_A_ROW, *histograms}

    def test_are_of_every_level_there_is(self, as_system):
        tables = as_system(
            "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'api_rollup_%'"
        )

        names = {name.removeprefix("api_rollup_") for (name,) in tables}
        assert names == {*LEVELS, "deltas", "groups"}


@pytest.mark.usefixtures("providers")
class TestRollups:
    def test_are_rows_after_single_calls(self, app, project, ingest_key):
        for call in recent_mix(30, seed=1):
            assert send(ingest_key, call).status_code == 201

        assert_rollups_are_rows(app, project)

    def test_are_rows_after_batches_and_lines(self, app, project, ingest_key):
        calls = recent_mix(300, seed=2)
        logged(ingest_key, calls[:200])
        send_lines(ingest_key, calls[200:])

        assert len(read(app, "measurements.api_requests", project)) == 300
        assert_rollups_are_rows(app, project)

    def test_are_rows_after_duplicates_conflicts_and_bad_items(self, app, project, ingest_key):
        calls = recent_mix(100, seed=3)
        logged(ingest_key, calls[:60])

        for sent in (calls, calls[::-1], [{**call, "duration_ms": 7} for call in calls]):
            send_batch(ingest_key, [*sent, {"id": "bad"}, sent[0]])
        for call in calls[:5]:
            send(ingest_key, call)
            send(ingest_key, {**call, "source": "other"})

        assert len(read(app, "measurements.api_requests", project)) == 100
        assert_rollups_are_rows(app, project)

    def test_are_rows_after_compaction(self, app, project, ingest_key):
        logged(ingest_key, recent_mix(250, seed=4), size=60)

        compact_all(app)

        assert deltas_of(app, project) == 0
        assert_rollups_are_rows(app, project)

    def test_are_rows_when_late_calls_fall_into_compacted_buckets(
        self, app, alice, project, ingest_key
    ):
        calls = recent_mix(240, seed=5)
        for part in range(4):
            logged(ingest_key, calls[part::4], size=13)
            before = totals_of(alice, project)
            assert_rollups_are_rows(app, project)

            compact_all(app)

            assert totals_of(alice, project) == before
            assert_rollups_are_rows(app, project)

    def test_are_rows_when_compacted_in_small_portions(
        self, app, alice, project, ingest_key, monkeypatch
    ):
        logged(ingest_key, recent_mix(200, seed=6), size=10)
        before = totals_of(alice, project)
        portion = rollups._DRAIN.replace(f"LIMIT {rollups.MAXIMUM_DELTAS}", "LIMIT 37")
        assert "LIMIT 37" in portion
        monkeypatch.setattr(rollups, "_DRAIN", portion)

        while deltas_of(app, project):
            with app.app_context(), system_session() as session:
                compact_rollups(session)
            assert_rollups_are_rows(app, project)
            assert totals_of(alice, project) == before

    def test_stay_as_they_are_when_compaction_fails(self, app, alice, project, ingest_key):
        logged(ingest_key, recent_mix(50, seed=7))
        before, deltas = totals_of(alice, project), deltas_of(app, project)

        with app.app_context(), suppress(Killed), system_session() as session:
            taken = compact_rollups(session).deltas
            raise Killed

        assert taken >= deltas
        assert deltas_of(app, project) == deltas
        assert totals_of(alice, project) == before

    def test_hold_nothing_of_a_batch_that_was_rolled_back(
        self, app, project, ingest_key, monkeypatch
    ):
        logged(ingest_key, recent_mix(20, seed=8))
        monkeypatch.setattr(
            "app.api_gateway.routes.requests._batch_answer", lambda *_args, **_more: 1 / 0
        )

        answer = send_batch(ingest_key, [api_call(id=f"lost-{n}") for n in range(5)])

        assert answer.status_code == 500
        assert "ZeroDivisionError" not in answer.text
        assert len(read(app, "measurements.api_requests", project)) == 20
        assert_rollups_are_rows(app, project)
        monkeypatch.undo()
        logged(ingest_key, [api_call(id=f"lost-{n}") for n in range(5)])
        assert_rollups_are_rows(app, project)

    def test_are_compacted_by_the_task(self, app, alice, project, ingest_key):
        logged(ingest_key, recent_mix(60, seed=14), size=20)
        before = totals_of(alice, project)

        with app.app_context():
            enqueue(tasks.compact_rollups)
            db.session.commit()
            run_waiting()

        assert deltas_of(app, project) == 0
        assert totals_of(alice, project) == before
        assert_rollups_are_rows(app, project)

    def test_keep_projects_apart(self, app, alice, make_project):
        projects = [make_project(name=name) for name in ("left", "right")]
        for number, project in enumerate(projects):
            key = people.make_key(alice, app=app, kind="ingest", project_id=str(project.id))
            logged(key, recent_mix(60, seed=9)[: 30 * (number + 1)])

        compact_all(app)

        for number, project in enumerate(projects):
            assert totals_of(alice, project)["requests"] <= 30 * (number + 1)
            assert_rollups_are_rows(app, project)

    def test_put_a_call_into_the_bucket_that_begins_with_it(self, app, project, ingest_key):
        quarter = bucket_of(datetime.now(UTC) - timedelta(hours=2), LEVELS["15m"])
        moments = [quarter, quarter - timedelta(microseconds=1), quarter + timedelta(minutes=15)]
        logged(
            ingest_key, [api_call(id=f"e{n}", started_at=wire(m)) for n, m in enumerate(moments)]
        )

        deltas = read(app, "api_rollup_deltas", project)

        assert sorted(delta["bucket"] for delta in deltas) == [
            quarter - timedelta(minutes=15),
            quarter,
            quarter + timedelta(minutes=15),
        ]
        assert_rollups_are_rows(app, project)


class TestUnderConcurrency:
    def test_many_writers_and_a_compaction_without_pause_are_exact(
        self, app, alice, project, ingest_key
    ):
        calls = [
            api_call(
                id=f"c{n}",
                started_at=ago(minutes=20 + n % 50),
                operation=f"op{n % 3}",
                usage={"input_tokens": 1 + n, "output_tokens": 1},
            )
            for n in range(600)
        ]
        batches = [calls[n : n + 20] for n in range(0, 600, 20)]
        # Everything is delivered twice, by different writers, in another order.
        shares = [[*batches[n::4], *batches[(n + 1) % 4 :: 4][::-1]] for n in range(4)]
        statuses: list[int] = []
        is_done = threading.Event()
        rounds: list[int] = []

        def write(share):
            client = app.test_client()
            for batch in share:
                answer = client.post(
                    f"{API}/requests",
                    data=json.dumps({"requests": batch}),
                    content_type="application/json",
                    headers={"Authorization": f"Bearer {ingest_key.token}"},
                )
                statuses.append(answer.status_code)

        def keep_compacting():
            while not is_done.is_set():
                with app.app_context(), system_session() as session:
                    rounds.append(compact_rollups(session).deltas)

        compactor = threading.Thread(target=keep_compacting)
        writers = [threading.Thread(target=write, args=(share,)) for share in shares]
        for thread in (compactor, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        is_done.set()
        compactor.join()

        assert set(statuses) <= {200, 201}
        assert sum(rounds) > 0
        assert_rollups_are_rows(app, project)
        totals = totals_of(alice, project)
        assert totals["requests"] == 600
        assert totals["input_tokens"] == sum(range(1, 601))

    def test_a_reader_sees_the_same_sum_while_it_is_compacted(
        self, app, alice, project, ingest_key
    ):
        logged(ingest_key, recent_mix(400, seed=12), size=10)
        expected = totals_of(alice, project)
        seen: list[Any] = []
        is_done = threading.Event()
        reader = Person(**{**vars(alice), "client": app.test_client()})

        def keep_reading():
            while not is_done.is_set():
                seen.append(totals_of(reader, project))

        thread = threading.Thread(target=keep_reading)
        thread.start()
        try:
            for _ in range(3):
                compact_all(app)
        finally:
            is_done.set()
            thread.join()

        assert seen
        assert all(totals == expected for totals in seen)

    def test_two_compactions_at_once_take_each_delta_once(self, app, project, ingest_key):
        logged(ingest_key, recent_mix(200, seed=13), size=10)

        threads = [threading.Thread(target=compact_all, args=(app,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert deltas_of(app, project) == 0
        assert_rollups_are_rows(app, project)
