"""Compaction: what the deltas say is taken into the quarters, hours, days and weeks, exactly once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.api_gateway.covering import Level
from app.api_gateway.queries.rollups import LEVEL_TABLES
from app.api_gateway.service import rollup_sql

# Any constant: two compactions at once would rewrite the same cells.
COMPACTION_LOCK = 7_235_021
MAXIMUM_DELTAS = 50_000
_COLUMN_LIST = ", ".join(rollup_sql.COLUMNS)
_KEY_LIST = ", ".join(rollup_sql.KEY)
_BUCKETS = {
    Level.QUARTER: "bucket",
    Level.HOUR: "date_bin('1 hour', bucket, TIMESTAMPTZ '2001-01-01 00:00:00+00')",
    Level.DAY: "date_bin('1 day', bucket, TIMESTAMPTZ '2001-01-01 00:00:00+00')",
    Level.WEEK: "date_bin('7 days', bucket, TIMESTAMPTZ '2001-01-01 00:00:00+00')",
}

# Whatever deltas are visible, not "up to a number": a writer with a lower number may commit later.
_DRAIN = f"""
CREATE TEMPORARY TABLE drained_deltas ON COMMIT DROP AS
WITH drained AS (
    DELETE FROM api_rollup_deltas WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM api_rollup_deltas LIMIT {MAXIMUM_DELTAS} FOR UPDATE SKIP LOCKED))
    RETURNING {_COLUMN_LIST}
)
SELECT * FROM drained
"""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one round of compaction took in; `is_last` when no deltas were left behind."""

    deltas: int
    is_last: bool


def compact_rollups(session: Session) -> Compaction:
    """Move up to 50,000 deltas into all levels, in the session's transaction (role dg_system).

    Readers see either the deltas or the levels that hold them, never both: it is one transaction.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": COMPACTION_LOCK})
    session.execute(text(_DRAIN))
    drained = session.scalar(text("SELECT count(*) FROM drained_deltas")) or 0
    if drained:
        for level, table in LEVEL_TABLES.items():
            session.execute(text(_merge(table, bucket=_BUCKETS[level])))
    session.execute(text("DROP TABLE drained_deltas"))
    return Compaction(drained, is_last=drained < MAXIMUM_DELTAS)


def _merge(table: str, *, bucket: str) -> str:
    """Return the statement that adds the drained deltas to the cells of one level.

    The old cells leave and the sums come in: the aggregate needs them all before the first row goes in.
    """
    return f"""
    WITH fresh AS MATERIALIZED ({rollup_sql.cells_of_cells("drained_deltas", bucket=bucket)}),
    old AS (
        DELETE FROM {table} USING fresh
        WHERE ({", ".join(f"{table}.{name}" for name in rollup_sql.KEY)})
            = ({", ".join(f"fresh.{name}" for name in rollup_sql.KEY)})
        RETURNING {", ".join(f"{table}.{name}" for name in rollup_sql.COLUMNS)}
    ),
    both_sides AS MATERIALIZED (
        SELECT {_COLUMN_LIST} FROM fresh UNION ALL SELECT {_COLUMN_LIST} FROM old
    )
    INSERT INTO {table} ({_COLUMN_LIST}) {rollup_sql.cells_of_cells("both_sides")}
    """
