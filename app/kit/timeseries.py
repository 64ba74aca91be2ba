"""Time series behind guard views: one interface, two engines.

Where the database has TimescaleDB a series is a hypertable (chunks, columnstore), else a table with
native range partitions. Both are kept by our own tasks: TimescaleDB's policies run as the table's
owner, which would have to be allowed to log in, and then two programs would drop our data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session

# Any fixed Monday: partitions of every series begin a whole number of spans after it.
ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
SCHEMA = "measurements"


class Engine(StrEnum):
    NATIVE = "native"
    TIMESCALE = "timescale"


@dataclass(frozen=True, slots=True)
class Series:
    """A time series: its table in schema `measurements` and how its life is cut into spans."""

    name: str
    time_column: str
    span: timedelta = timedelta(days=7)

    def span_start(self, moment: datetime) -> datetime:
        """Return the start of the span that holds the moment."""
        return ORIGIN + (moment - ORIGIN) // self.span * self.span

    def partition_name(self, start: datetime) -> str:
        """Return the name of the native partition that begins at `start`."""
        return f"{self.name}_{start:%Y%m%d}"


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one round of upkeep did: partitions made, dropped and compressed, by name."""

    created: list[str]
    dropped: list[str]
    compressed: list[str]


def engine_of(session: Session) -> Engine:
    """Return which engine this database has."""
    found = session.scalar(
        text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
    )
    return Engine.TIMESCALE if found else Engine.NATIVE


def keep_series(
    session: Session,
    series: Series,
    *,
    now: datetime,
    retention: timedelta,
    compress_after: timedelta,
    ahead: timedelta = timedelta(days=56),
) -> Upkeep:
    """Make what is needed ahead, drop what lies wholly behind the retention, compress what is old.

    Takes a session of role dg_owner. A span is dropped only when its last moment is older than
    `retention`. Native partitions are not compressed (PostgreSQL has no columnstore): the list is
    empty there.
    """
    oldest = now - retention
    if engine_of(session) is Engine.TIMESCALE:
        dropped = _drop_chunks(session, series, before=oldest)
        compressed = _compress_chunks(session, series, before=now - compress_after)
        return Upkeep([], dropped, compressed)
    created = _create_partitions(session, series, start=oldest, end=now + ahead)
    return Upkeep(created, _drop_partitions(session, series, before=oldest), [])


def native_partitions(session: Session, series: Series) -> dict[str, datetime]:
    """Return the native partitions of a series with the start of each."""
    rows = session.execute(
        text(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = to_regclass(:parent)"
        ),
        {"parent": f"{SCHEMA}.{series.name}"},
    )
    starts = {}
    for (name,) in rows:
        day = datetime.strptime(name.removeprefix(f"{series.name}_"), "%Y%m%d")  # noqa: DTZ007
        starts[name] = day.replace(tzinfo=UTC)
    return starts


def _spans(series: Series, *, start: datetime, end: datetime) -> Iterator[datetime]:
    moment = series.span_start(start)
    while moment < end:
        yield moment
        moment += series.span


def _create_partitions(
    session: Session, series: Series, *, start: datetime, end: datetime
) -> list[str]:
    known = native_partitions(session, series)
    created = []
    for moment in _spans(series, start=start, end=end):
        name = series.partition_name(moment)
        if name not in known:
            session.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{name} "
                    f"PARTITION OF {SCHEMA}.{series.name} "
                    f"FOR VALUES FROM ('{moment.isoformat()}') "
                    f"TO ('{(moment + series.span).isoformat()}')"
                )
            )
            created.append(name)
    return created


def _drop_partitions(session: Session, series: Series, *, before: datetime) -> list[str]:
    dropped = []
    for name, start in native_partitions(session, series).items():
        if start + series.span <= before:
            session.execute(text(f"DROP TABLE {SCHEMA}.{name}"))
            dropped.append(name)
    return dropped


def _drop_chunks(session: Session, series: Series, *, before: datetime) -> list[str]:
    rows = session.execute(
        text("SELECT drop_chunks(CAST(:series AS regclass), older_than => :before)"),
        {"series": f"{SCHEMA}.{series.name}", "before": before},
    )
    return [str(name) for (name,) in rows]


def _compress_chunks(session: Session, series: Series, *, before: datetime) -> list[str]:
    rows = session.execute(
        text(
            "SELECT format('%I.%I', chunk_schema, chunk_name) "
            "FROM timescaledb_information.chunks "
            "WHERE hypertable_schema = :schema AND hypertable_name = :name "
            "AND NOT is_compressed AND range_end <= :before"
        ),
        {"schema": SCHEMA, "name": series.name, "before": before},
    )
    chunks = [str(chunk) for (chunk,) in rows]
    for chunk in chunks:
        session.execute(
            text("CALL convert_to_columnstore(CAST(:chunk AS regclass))"), {"chunk": chunk}
        )
    return chunks
