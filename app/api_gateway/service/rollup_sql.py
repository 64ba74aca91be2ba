"""The SQL of the rollups: what one call adds to its cell, and how cells are summed.

`measures()` is the one list of figures of a cell; ingest, compaction and the nightly check use it, so
they cannot disagree. Histograms are pairs of arrays (bin, count), merged by adding counts.
"""

from __future__ import annotations

BUCKET = "date_bin('15 minutes', started_at, TIMESTAMPTZ '2001-01-01 00:00:00+00')"
KEY = ("organization_id", "project_id", "bucket", "group_id")
HISTOGRAMS = {"duration": "duration_bin", "first_chunk": "first_chunk_bin"}

# How each figure of a cell comes from the rows of api_requests that fall into it.
FROM_ROWS: dict[str, str] = {
    "requests": "count(*)",
    "retries": "count(*) FILTER (WHERE attempt > 1)",
    "cache_hits": "count(*) FILTER (WHERE cache_hit)",
    "input_tokens": "coalesce(sum(input_tokens) FILTER (WHERE NOT cache_hit), 0)",
    "cache_read_input_tokens": "coalesce(sum(cache_read_input_tokens) FILTER (WHERE NOT cache_hit), 0)",
    "cache_write_input_tokens": "coalesce(sum(cache_write_input_tokens) FILTER (WHERE NOT cache_hit), 0)",
    "output_tokens": "coalesce(sum(output_tokens) FILTER (WHERE NOT cache_hit), 0)",
    "reasoning_output_tokens": "coalesce(sum(reasoning_output_tokens) FILTER (WHERE NOT cache_hit), 0)",
    "avoided_tokens": "coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) "
    "FILTER (WHERE cache_hit), 0)",
    "priced_tokens": "coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) "
    "FILTER (WHERE cost IS NOT NULL AND NOT cache_hit), 0)",
    "reported": "count(*) FILTER (WHERE pricing_status = 'reported')",
    "computed": "count(*) FILTER (WHERE pricing_status = 'computed')",
    "free": "count(*) FILTER (WHERE pricing_status = 'free')",
    "unmetered": "count(*) FILTER (WHERE pricing_status = 'unmetered')",
    "unpriced": "count(*) FILTER (WHERE pricing_status = 'unpriced')",
    "approximate": "count(pricing_notes)",
    "cost": "coalesce(sum(cost), 0)",
    "computed_cost": "coalesce(sum(computed_cost), 0)",
    "timed": "count(duration_us)",
    "duration_us": "coalesce(sum(duration_us), 0)",
    "generated_tokens": "coalesce(sum(output_tokens) FILTER (WHERE duration_us > 0 "
    "AND output_tokens > 0 AND NOT cache_hit), 0)",
    "generation_us": "coalesce(sum(duration_us) FILTER (WHERE duration_us > 0 "
    "AND output_tokens > 0 AND NOT cache_hit), 0)",
}
MEASURES = tuple(FROM_ROWS)
HISTOGRAM_COLUMNS = tuple(f"{name}_{part}" for name in HISTOGRAMS for part in ("bins", "counts"))
COLUMNS = (*KEY, *MEASURES, *HISTOGRAM_COLUMNS)


def cells_of_rows(rows: str) -> str:
    """Return a SELECT of the cells of api_requests rows in `rows`, columns as in COLUMNS."""
    sums = ", ".join(f"{sql} AS {name}" for name, sql in FROM_ROWS.items())
    key = f"organization_id, project_id, {BUCKET} AS bucket, group_id"
    histograms = {
        name: f"SELECT {key}, {column} AS bin, count(*) AS n FROM {rows} "
        f"WHERE {column} IS NOT NULL GROUP BY 1, 2, 3, 4, 5"
        for name, column in HISTOGRAMS.items()
    }
    return _assembled(f"SELECT {key}, {sums} FROM {rows} GROUP BY 1, 2, 3, 4", histograms)


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
