"""Questions to the rollups: sums and histograms of cells over any range of time, by any two dimensions.

Every answer is exact at once: a level's rows are what compaction has taken in, the deltas are the rest,
and one statement reads both from one snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from app.api_gateway.covering import Level, cover
from app.extensions import db
from app.kit.time_window import TimeWindow

DIMENSIONS = ("provider", "model", "operation", "environment", "team", "outcome", "currency")
SUMS = (
    "requests", "retries", "cache_hits", "input_tokens", "cache_read_input_tokens",
    "cache_write_input_tokens", "output_tokens", "reasoning_output_tokens", "avoided_tokens",
    "priced_tokens", "reported", "computed", "free", "unmetered", "unpriced", "approximate", "cost",
    "computed_cost", "timed", "duration_us", "generated_tokens", "generation_us",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CellSums:
    """The summed figures of one slot and group; counts and tokens are whole numbers."""

    slot: int
    dimensions: tuple[str, ...]
    figures: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class CellHistogram:
    """One merged histogram of a slot and group: log-spaced bin to count (histogram.py)."""

    slot: int
    dimensions: tuple[str, ...]
    bins: dict[int, int]


def cell_sums(
    *,
    project_id: UUID | None,
    slots: Mapping[int, TimeWindow],
    by: Sequence[str],
    filters: Mapping[str, Sequence[str]],
    figures: Sequence[str] = SUMS,
) -> list[CellSums]:
    """Return the figures of each (slot, group) that has calls; the current organization's.

    `slots` are aligned windows by number, `by` names of DIMENSIONS, `filters` dimension to values.
    """
    sums = ", ".join(f"sum({figure}) AS {figure}" for figure in figures)
    cells = _cells(sums, slots=slots, project_id=project_id)
    dimensions = "".join(f", g.{_known(name)}" for name in by)
    outer = ", ".join(f"sum(c.{figure}) AS {figure}" for figure in figures)
    sql = (
        f"SELECT c.slot{dimensions}, {outer} FROM ({cells.sql}) AS c "
        f"JOIN api_rollup_groups AS g ON g.id = c.group_id {_where(filters)} "
        f"GROUP BY c.slot{dimensions}"
    )
    rows = db.session.execute(text(sql), {**cells.parameters, **_values(filters)})
    return [_sums_of(row, len(by), figures) for row in rows]


def cell_histograms(
    *,
    name: str,
    project_id: UUID | None,
    slots: Mapping[int, TimeWindow],
    by: Sequence[str],
    filters: Mapping[str, Sequence[str]],
) -> list[CellHistogram]:
    """Return the merged histograms of each (slot, group); `name` is `duration` or `first_chunk`."""
    if name not in {"duration", "first_chunk"}:
        raise ValueError(f"no histogram {name}")
    cells = _cells(
        "h.bin, sum(h.n) AS n",
        slots=slots,
        project_id=project_id,
        source=f", unnest(r.{name}_bins, r.{name}_counts) AS h(bin, n)",
        also_by=", h.bin",
    )
    dimensions = "".join(f", g.{_known(dimension)}" for dimension in by)
    # By place, not by name: calls grouped by outcome have it twice.
    named = "".join(f", g.{dimension} AS by_{place}" for place, dimension in enumerate(by))
    merged = (
        f"SELECT c.slot{named}, c.bin, sum(c.n) AS n FROM ({cells.sql}) AS c "
        f"JOIN api_rollup_groups AS g ON g.id = c.group_id {_where(filters)} "
        f"GROUP BY c.slot{dimensions}, c.bin"
    )
    names = "".join(f", by_{place}" for place in range(len(by)))
    sql = (
        f"SELECT slot{names}, array_agg(bin), array_agg(CAST(n AS bigint)) "
        f"FROM ({merged}) AS merged GROUP BY slot{names}"
    )
    rows = db.session.execute(text(sql), {**cells.parameters, **_values(filters)})
    return [
        CellHistogram(row[0], tuple(row[1 : 1 + len(by)]), dict(zip(row[-2], row[-1], strict=True)))
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class _Cells:
    sql: str
    parameters: dict[str, Any]


def _cells(
    columns: str,
    *,
    slots: Mapping[int, TimeWindow],
    project_id: UUID | None,
    source: str = "",
    also_by: str = "",
) -> _Cells:
    """Return SQL that sums cells by (slot, group) over every level that the slots need, and the deltas."""
    runs: dict[str, list[tuple[int, datetime, datetime]]] = {"deltas": []}
    for number, window in slots.items():
        runs["deltas"].append((number, window.start, window.end))
        for piece in cover(window):
            runs.setdefault(piece.level, []).append((number, piece.start, piece.end))
    project = "r.project_id = :project_id AND " if project_id else ""
    parts: list[str] = []
    parameters: dict[str, Any] = {"project_id": project_id} if project_id else {}
    for table, pieces in runs.items():
        parts.append(
            f"SELECT p.slot, r.group_id, {columns} FROM unnest(CAST(:slots_{table} AS int[]), "
            f"CAST(:starts_{table} AS timestamptz[]), CAST(:ends_{table} AS timestamptz[])) "
            f"AS p(slot, starts, ends) JOIN api_rollup_{table} AS r "
            f"ON {project}r.bucket >= p.starts AND r.bucket < p.ends{source} "
            f"GROUP BY p.slot, r.group_id{also_by}"
        )
        numbers, starts, ends = zip(*pieces, strict=True)
        parameters |= {
            f"slots_{table}": list(numbers),
            f"starts_{table}": list(starts),
            f"ends_{table}": list(ends),
        }
    return _Cells(" UNION ALL ".join(parts), parameters)


def _known(dimension: str) -> str:
    if dimension not in DIMENSIONS:
        raise ValueError(f"no dimension {dimension}")
    return dimension


def _where(filters: Mapping[str, Sequence[str]]) -> str:
    conditions = [f"g.{_known(name)} = ANY(:filter_{name})" for name in filters]
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _values(filters: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {f"filter_{name}": list(values) for name, values in filters.items()}


def _sums_of(row: Row[Any], width: int, figures: Sequence[str]) -> CellSums:
    values = row[1 + width :]
    return CellSums(row[0], tuple(row[1 : 1 + width]), dict(zip(figures, values, strict=True)))


LEVEL_TABLES = {level: f"api_rollup_{level}" for level in Level}
