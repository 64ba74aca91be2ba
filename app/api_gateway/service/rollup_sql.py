"""The SQL of the rollups: what one call adds to its cell, and how cells are summed.

`measures()` is the one list of figures of a cell; ingest, compaction and the nightly check use it, so
they cannot disagree. Histograms are pairs of arrays (bin, count), merged by adding counts.
"""

from __future__ import annotations

BUCKET = "date_bin('15 minutes', started_at, TIMESTAMPTZ '2001-01-01 00:00:00+00')"
KEY = ("organization_id", "project_id", "bucket", "group_id")
HISTOGRAMS = {"duration": "duration_bin", "first_chunk": "first_chunk_bin"}

_TOKENS = "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)"
_GENERATES = "NOT cache_hit AND duration_us > 0 AND output_tokens > 0"


def _billed(column: str) -> str:
    return f"CASE WHEN cache_hit THEN 0 ELSE coalesce({column}, 0) END"


def _counted(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


# What one row of api_requests adds to each figure of its cell.
OF_ONE_ROW: dict[str, str] = {
    "requests": "1",
    "retries": _counted("attempt > 1"),
    "cache_hits": _counted("cache_hit"),
    "input_tokens": _billed("input_tokens"),
    "cache_read_input_tokens": _billed("cache_read_input_tokens"),
    "cache_write_input_tokens": _billed("cache_write_input_tokens"),
    "output_tokens": _billed("output_tokens"),
    "reasoning_output_tokens": _billed("reasoning_output_tokens"),
    "avoided_tokens": f"CASE WHEN cache_hit THEN {_TOKENS} ELSE 0 END",
    "priced_tokens": f"CASE WHEN cost IS NOT NULL AND NOT cache_hit THEN {_TOKENS} ELSE 0 END",
    "reported": _counted("pricing_status = 'reported'"),
    "computed": _counted("pricing_status = 'computed'"),
    "free": _counted("pricing_status = 'free'"),
    "unmetered": _counted("pricing_status = 'unmetered'"),
    "unpriced": _counted("pricing_status = 'unpriced'"),
    "approximate": _counted("pricing_notes IS NOT NULL"),
    "cost": "coalesce(cost, 0)",
    "computed_cost": "coalesce(computed_cost, 0)",
    "timed": _counted("duration_us IS NOT NULL"),
    "duration_us": "coalesce(duration_us, 0)",
    "generated_tokens": f"CASE WHEN {_GENERATES} THEN output_tokens ELSE 0 END",
    "generation_us": f"CASE WHEN {_GENERATES} THEN duration_us ELSE 0 END",
}
MEASURES = tuple(OF_ONE_ROW)
# What of a row of api_requests the expressions above read, and its identity.
COLUMNS_OF_ROWS = (
    "organization_id", "project_id", "started_at", "id", "group_id", "attempt", "cache_hit",
    "input_tokens", "cache_read_input_tokens", "cache_write_input_tokens", "output_tokens",
    "reasoning_output_tokens", "pricing_status", "pricing_notes", "cost", "computed_cost",
    "duration_us", "duration_bin", "first_chunk_bin",
)  # fmt: skip
HISTOGRAM_COLUMNS = tuple(f"{name}_{part}" for name in HISTOGRAMS for part in ("bins", "counts"))
COLUMNS = (*KEY, *MEASURES, *HISTOGRAM_COLUMNS)


def cells_of_rows(rows: str) -> str:
    """Return a SELECT of the cells of api_requests rows in `rows`, columns as in COLUMNS."""
    sums = ", ".join(f"sum({sql}) AS {name}" for name, sql in OF_ONE_ROW.items())
    key = f"organization_id, project_id, {BUCKET} AS bucket, group_id"
    histograms = {
        name: f"SELECT {key}, {column} AS bin, count(*) AS n FROM {rows} "
        f"WHERE {column} IS NOT NULL GROUP BY 1, 2, 3, 4, 5"
        for name, column in HISTOGRAMS.items()
    }
    return _assembled(f"SELECT {key}, {sums} FROM {rows} GROUP BY 1, 2, 3, 4", histograms)


def cell_of_one_row(rows: str) -> str:
    """Return a SELECT of the cell of `rows` that holds at most one row: no aggregate, no join."""
    figures = ", ".join(f"{sql} AS {name}" for name, sql in OF_ONE_ROW.items())
    histograms = ", ".join(
        f"CASE WHEN {column} IS NOT NULL THEN ARRAY[{column}] END AS {name}_bins, "
        f"CASE WHEN {column} IS NOT NULL THEN ARRAY[1] END AS {name}_counts"
        for name, column in HISTOGRAMS.items()
    )
    return (
        f"SELECT organization_id, project_id, {BUCKET} AS bucket, group_id, {figures}, {histograms} "
        f"FROM {rows}"
    )


def cells_of_cells(cells: str, *, bucket: str = "bucket") -> str:
    """Return a SELECT of the sums of the cells in `cells`, by the (coarser) `bucket` expression."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
    key = f"organization_id, project_id, {bucket} AS bucket, group_id"
    histograms = {
        name: f"SELECT {key}, h.bin, sum(h.n) AS n FROM {cells}, "
        f"unnest({name}_bins, {name}_counts) AS h(bin, n) GROUP BY 1, 2, 3, 4, 5"
        for name in HISTOGRAMS
    }
    return _assembled(f"SELECT {key}, {sums} FROM {cells} GROUP BY 1, 2, 3, 4", histograms)


def _assembled(sums: str, histograms: dict[str, str]) -> str:
    columns = ", ".join(COLUMNS)
    joins = " ".join(
        f"LEFT JOIN (SELECT {', '.join(KEY)}, array_agg(bin ORDER BY bin) AS {name}_bins, "
        f"array_agg(n ORDER BY bin) AS {name}_counts FROM ({sql}) AS by_bin "
        f"GROUP BY {', '.join(KEY)}) AS {name} USING ({', '.join(KEY)})"
        for name, sql in histograms.items()
    )
    return f"SELECT {columns} FROM ({sums}) AS sums {joins}"
