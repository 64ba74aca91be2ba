"""Time series on the engine at hand: spans ahead, retention behind, the wall in front."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app.extensions import db
from app.kit.tenancy import organization_scope, owner_session, system_session
from app.kit.timeseries import (
    ORIGIN,
    Engine,
    Series,
    Upkeep,
    engine_of,
    keep_series,
    native_partitions,
)

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
WEEK = timedelta(days=7)
RETENTION = timedelta(days=90)

HYPERTABLE = """
SELECT create_hypertable('measurements.{name}', by_range('at', INTERVAL '7 days'),
                         create_default_indexes => false);
ALTER TABLE measurements.{name} SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'organization_id', timescaledb.orderby = 'at DESC');
"""


@dataclass
class Probe:
    """A small series of a test's own, made as the revisions make theirs."""

    app: Flask
    series: Series
    engine: Engine
    organization_id: UUID = field(default_factory=uuid4)

    def keep(self, *, now: datetime = NOW, **changes: timedelta) -> Upkeep:
        options = {"retention": RETENTION, "compress_after": WEEK, **changes}
        with self.app.app_context(), owner_session() as session:
            return keep_series(session, self.series, now=now, **options)

    def partitions(self) -> dict[str, datetime]:
        with self.app.app_context(), owner_session() as session:
            return native_partitions(session, self.series)

    @contextmanager
    def tenant(self, organization_id: UUID | None = None) -> Iterator[Any]:
        """The connection of a request: role dg_app, in an organization; committed at the end."""
        with self.app.app_context(), organization_scope(organization_id or self.organization_id):
            yield db.session
            db.session.commit()

    def add(self, *moments: datetime, value: int = 1) -> int:
        """Insert a row for each moment as a tenant; return how many were new."""
        with self.tenant() as session:
            return sum(
                session.execute(
                    text(
                        f"INSERT INTO {self.series.name} (organization_id, at, value) "
                        "VALUES (:organization_id, :at, :value) ON CONFLICT DO NOTHING"
                    ),
                    {"organization_id": self.organization_id, "at": moment, "value": value},
                ).rowcount
                for moment in moments
            )

    def end_of_span(self, moment: datetime) -> datetime:
        """Return where the span ends that holds the moment: hypertables cut weeks on another day."""
        if self.engine is Engine.NATIVE:
            return self.series.span_start(moment) + self.series.span
        with self.app.app_context(), owner_session() as session:
            end: datetime = session.scalars(
                text(
                    "SELECT range_end FROM timescaledb_information.chunks "
                    "WHERE hypertable_name = :name AND range_start <= :at AND :at < range_end"
                ),
                {"name": self.series.name, "at": moment},
            ).one()
            return end

    def moments(self) -> list[datetime]:
        with self.app.app_context(), system_session() as session:
            found = session.scalars(text(f"SELECT at FROM measurements.{self.series.name}"))
            return sorted(found)


@pytest.fixture
def probe(app: Flask) -> Iterator[Probe]:
    name = f"probe_{secrets.token_hex(4)}"
    with app.app_context(), owner_session() as session:
        engine = engine_of(session)
        partitioned = "" if engine is Engine.TIMESCALE else " PARTITION BY RANGE (at)"
        session.execute(
            text(
                f"CREATE TABLE measurements.{name} (organization_id uuid NOT NULL, "
                f"at timestamptz NOT NULL, value bigint NOT NULL, "
                f"PRIMARY KEY (organization_id, at)){partitioned}"
            )
        )
        if engine is Engine.TIMESCALE:
            session.execute(text(HYPERTABLE.format(name=name)))
        session.execute(text(f"CALL dg_guard_series('{name}')"))
    yield Probe(app, Series(name, "at"), engine)
    with app.app_context(), owner_session() as session:
        session.execute(text(f"DROP VIEW public.{name}"))
        session.execute(text(f"DROP TABLE measurements.{name}"))


@pytest.fixture
def native(probe: Probe) -> Probe:
    if probe.engine is not Engine.NATIVE:
        pytest.skip("hypertables make their chunks themselves")
    return probe


@pytest.fixture
def timescale(probe: Probe) -> Probe:
    if probe.engine is not Engine.TIMESCALE:
        pytest.skip("only TimescaleDB has a columnstore")
    return probe


class TestSeries:
    def test_cuts_time_into_whole_weeks_from_a_monday(self):
        series = Series("calls", "at")

        start = series.span_start(NOW)

        assert start == datetime(2026, 11, 16, tzinfo=UTC)
        assert start.weekday() == ORIGIN.weekday() == 0
        assert series.span_start(start) == start
        assert series.span_start(start - timedelta(microseconds=1)) == start - WEEK
        assert series.partition_name(start) == "calls_20261116"

    def test_cuts_time_before_its_origin_too(self):
        series = Series("calls", "at")

        assert series.span_start(ORIGIN - timedelta(seconds=1)) == ORIGIN - WEEK


class TestKeepSeries:
    def test_holds_every_moment_that_may_come(self, probe):
        probe.keep()
        moments = [
            NOW - RETENTION,
            NOW - RETENTION + timedelta(microseconds=1),
            NOW - timedelta(days=45),
            NOW,
            NOW + timedelta(minutes=10),
            NOW + timedelta(days=55),
        ]

        assert probe.add(*moments) == len(moments)
        assert probe.moments() == moments

    def test_makes_partitions_without_a_gap(self, native):
        upkeep = native.keep()

        partitions = native.partitions()
        starts = sorted(partitions.values())
        assert sorted(upkeep.created) == sorted(partitions)
        assert starts[0] <= NOW - RETENTION
        assert starts[-1] + WEEK >= NOW + timedelta(days=56)
        assert all(later - earlier == WEEK for earlier, later in pairwise(starts))

    def test_does_nothing_the_second_time(self, probe):
        probe.keep()
        probe.add(NOW - timedelta(days=30), NOW)
        probe.keep()

        assert probe.keep() == Upkeep([], [], [])
        assert len(probe.moments()) == 2

    def test_goes_on_as_time_passes(self, native):
        native.keep()

        upkeep = native.keep(now=NOW + WEEK)

        assert len(upkeep.created) == len(upkeep.dropped) == 1

    def test_makes_older_partitions_when_the_retention_grows(self, native):
        native.keep(retention=timedelta(days=30))

        upkeep = native.keep(retention=timedelta(days=60))

        assert upkeep.created
        assert upkeep.dropped == []
        assert native.add(NOW - timedelta(days=59)) == 1

    def test_drops_only_spans_that_are_wholly_older(self, probe):
        probe.keep(retention=2 * RETENTION)
        moments = [NOW - timedelta(days=days) for days in range(75, 106)]
        probe.add(*moments)
        oldest = NOW - RETENTION
        kept = sorted(moment for moment in moments if probe.end_of_span(moment) > oldest)

        upkeep = probe.keep(compress_after=timedelta(days=3650))

        assert upkeep.dropped
        assert probe.moments() == kept
        assert {moment for moment in moments if moment >= oldest} < set(kept)

    def test_drops_a_span_at_the_moment_when_its_last_moment_is_too_old(self, probe):
        moment = NOW - timedelta(days=30)
        probe.keep()
        probe.add(moment)
        end_of_life = probe.end_of_span(moment) + RETENTION

        probe.keep(now=end_of_life - timedelta(microseconds=1))
        before = probe.moments()
        probe.keep(now=end_of_life)

        assert before == [moment]
        assert probe.moments() == []

    def test_does_no_harm_when_it_drops_again(self, probe):
        probe.keep(now=NOW - RETENTION)
        probe.add(NOW - RETENTION - timedelta(days=30))
        assert probe.keep().dropped

        assert probe.keep().dropped == []
        assert probe.moments() == []

    def test_compresses_what_is_old(self, timescale):
        old, young = NOW - timedelta(days=20), NOW - timedelta(days=1)
        timescale.add(old, young)

        upkeep = timescale.keep()
        again = timescale.keep()

        assert len(upkeep.compressed) == 1
        assert again.compressed == []
        assert timescale.moments() == [old, young]

    def test_takes_late_rows_into_what_is_compressed_and_knows_its_duplicates(self, timescale):
        old = [NOW - timedelta(days=20, seconds=n) for n in range(50)]
        timescale.add(*old)
        assert timescale.keep().compressed
        late = NOW - timedelta(days=20, minutes=90)

        assert timescale.add(late) == 1
        assert timescale.add(late, *old) == 0
        assert timescale.moments() == sorted([*old, late])

    def test_drops_what_is_compressed(self, timescale):
        timescale.add(NOW - timedelta(days=80))
        assert timescale.keep().compressed

        assert timescale.keep(now=NOW + timedelta(days=30)).dropped
        assert timescale.moments() == []


class TestTheWall:
    """A guard view in front, no right on what stands behind it."""

    @pytest.fixture(autouse=True)
    def _rows(self, probe):
        probe.keep()
        probe.add(NOW, NOW - timedelta(days=20))
        probe.keep()

    def test_shows_a_tenant_his_own_rows_only(self, probe):
        query = text(f"SELECT count(*) FROM {probe.series.name}")

        with probe.tenant() as session:
            own = session.scalar(query)
        with probe.tenant(uuid4()) as session:
            foreign = session.scalar(query)

        assert (own, foreign) == (2, 0)

    def test_refuses_to_insert_for_another(self, probe):
        with pytest.raises(ProgrammingError, match="check option"), probe.tenant() as session:
            session.execute(
                text(
                    f"INSERT INTO {probe.series.name} (organization_id, at, value) "
                    "VALUES (:other, :at, 1)"
                ),
                {"other": uuid4(), "at": NOW},
            )

    def test_refuses_to_give_a_row_away(self, probe):
        with pytest.raises(ProgrammingError, match="check option"), probe.tenant() as session:
            session.execute(
                text(f"UPDATE {probe.series.name} SET organization_id = :other WHERE at = :at"),
                {"other": uuid4(), "at": NOW},
            )

    @pytest.mark.parametrize("deed", ["UPDATE {} SET value = 9", "DELETE FROM {}"])
    def test_does_not_reach_rows_of_another(self, probe, deed):
        with probe.tenant(uuid4()) as session:
            touched = session.execute(text(deed.format(probe.series.name))).rowcount

        assert touched == 0
        assert len(probe.moments()) == 2

    def test_raises_without_an_organization(self, probe):
        with probe.app.app_context():
            with pytest.raises(Exception, match=r"app\.organization_id|uuid"):
                db.session.execute(text(f"SELECT * FROM {probe.series.name}"))
            db.session.remove()

    @pytest.mark.parametrize(
        "deed",
        [
            "SELECT * FROM {}",
            "INSERT INTO {} (organization_id, at, value) VALUES (gen_random_uuid(), now(), 1)",
            "UPDATE {} SET value = 2",
            "DELETE FROM {}",
            "TRUNCATE {}",
        ],
    )
    def test_refuses_the_table_itself(self, probe, deed):
        table = f"measurements.{probe.series.name}"

        with pytest.raises(ProgrammingError, match="permission denied"), probe.tenant() as session:
            session.execute(text(deed.format(table)))

    def test_refuses_the_parts_of_the_table(self, probe, as_system):
        # A partition or chunk has rights of its own: none for a tenant.
        parts = as_system(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = to_regclass(:parent)",
            parent=f"measurements.{probe.series.name}",
        )

        assert parts
        for (part,) in parts:
            with (
                pytest.raises(ProgrammingError, match="permission denied"),
                probe.tenant() as session,
            ):
                session.execute(text(f"SELECT * FROM {part}"))

    def test_knows_a_duplicate_through_the_view(self, probe):
        assert probe.add(NOW, NOW - timedelta(days=20), NOW - timedelta(days=1), value=5) == 1

        with pytest.raises(IntegrityError), probe.tenant() as session:
            session.execute(
                text(
                    f"INSERT INTO {probe.series.name} (organization_id, at, value) "
                    "VALUES (:id, :at, 1)"
                ),
                {"id": probe.organization_id, "at": NOW},
            )
