"""Calls to paid APIs, behind a guard view, and their rollups: deltas, quarters of an hour to weeks."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# One row is one call as its caller logged it. Columns that identify a cell of the rollup stand in
# api_rollup_groups once; `group_id` names it. Counts of rarer units stand in `other_usage`.
CREATE_SERIES = """
CREATE TABLE measurements.api_requests (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    id text COLLATE "C" NOT NULL,
    group_id bigint NOT NULL,
    payload_hash bigint NOT NULL,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C",
    operation text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    environment text COLLATE "C",
    source text COLLATE "C",
    request_model text COLLATE "C",
    response_model text COLLATE "C",
    response_id text COLLATE "C",
    endpoint text COLLATE "C",
    status_code smallint,
    error_type text COLLATE "C",
    stream boolean NOT NULL,
    cache_hit boolean NOT NULL,
    operation_id text COLLATE "C",
    attempt smallint NOT NULL,
    trace_id text COLLATE "C",
    span_id text COLLATE "C",
    reservation_id uuid,
    duration_us bigint,
    time_to_first_chunk_us bigint,
    duration_bin smallint,
    first_chunk_bin smallint,
    usage_source text COLLATE "C" NOT NULL,
    input_tokens bigint,
    cache_read_input_tokens bigint,
    cache_write_input_tokens bigint,
    cache_write_1h_input_tokens bigint,
    output_tokens bigint,
    reasoning_output_tokens bigint,
    other_usage jsonb,
    pricing_context jsonb,
    team text COLLATE "C",
    user_id text COLLATE "C",
    customer_id text COLLATE "C",
    api_key_id text COLLATE "C",
    tags jsonb,
    pricing_status text COLLATE "C" NOT NULL,
    pricing_reason text COLLATE "C",
    pricing_notes text COLLATE "C",
    cost numeric(20, 12),
    computed_cost numeric(20, 12),
    stated_cost numeric(20, 12),
    currency text COLLATE "C" NOT NULL,
    rate_card_id uuid,
    ingested_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_api_requests PRIMARY KEY (project_id, started_at, id),
    CONSTRAINT ck_api_requests_input_subsets CHECK (
        coalesce(cache_read_input_tokens, 0) + coalesce(cache_write_input_tokens, 0)
        <= input_tokens OR input_tokens IS NULL),
    CONSTRAINT ck_api_requests_cache_write_subset CHECK (
        cache_write_1h_input_tokens <= cache_write_input_tokens),
    CONSTRAINT ck_api_requests_output_subset CHECK (reasoning_output_tokens <= output_tokens),
    CONSTRAINT ck_api_requests_priced CHECK (
        (cost IS NULL) = (pricing_status IN ('unmetered', 'unpriced')))
)
"""

# A hypertable where TimescaleDB is, native range partitions elsewhere: kit/timeseries.py keeps both.
CREATE_ENGINE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM create_hypertable('measurements.api_requests',
                                  by_range('started_at', INTERVAL '7 days'),
                                  create_default_indexes => false);
        ALTER TABLE measurements.api_requests SET (
            timescaledb.enable_columnstore = true,
            timescaledb.segmentby = 'organization_id, project_id',
            timescaledb.orderby = 'started_at DESC, id');
    END IF;
END
$$
"""

CREATE_GROUPS = """
CREATE TABLE api_rollup_groups (
    id bigint GENERATED ALWAYS AS IDENTITY,
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    environment text COLLATE "C" NOT NULL,
    team text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,
    CONSTRAINT pk_api_rollup_groups PRIMARY KEY (id),
    CONSTRAINT uq_api_rollup_groups_cell UNIQUE (organization_id, project_id, provider, model,
        operation, environment, team, outcome, currency),
    CONSTRAINT fk_api_rollup_groups_organization_id_project_id_projects
        FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id)
)
"""

MEASURES = """
    requests bigint NOT NULL,
    retries bigint NOT NULL,
    cache_hits bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL,
    cache_write_input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_output_tokens bigint NOT NULL,
    avoided_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    reported bigint NOT NULL,
    computed bigint NOT NULL,
    free bigint NOT NULL,
    unmetered bigint NOT NULL,
    unpriced bigint NOT NULL,
    approximate bigint NOT NULL,
    cost numeric NOT NULL,
    computed_cost numeric NOT NULL,
    timed bigint NOT NULL,
    duration_us numeric NOT NULL,
    generated_tokens bigint NOT NULL,
    generation_us numeric NOT NULL,
    duration_bins smallint[],
    duration_counts bigint[],
    first_chunk_bins smallint[],
    first_chunk_counts bigint[]
"""

CREATE_DELTAS = f"""
CREATE TABLE api_rollup_deltas (
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    bucket timestamptz NOT NULL,
    group_id bigint NOT NULL,
    {MEASURES}
);
CREATE INDEX ix_api_rollup_deltas_organization_id_project_id_bucket
    ON api_rollup_deltas (organization_id, project_id, bucket);
"""

LEVELS = ("api_rollup_15m", "api_rollup_1h", "api_rollup_1d", "api_rollup_7d")


def _level(name: str) -> str:
    return f"""
    CREATE TABLE {name} (
        organization_id uuid NOT NULL,
        project_id uuid NOT NULL,
        bucket timestamptz NOT NULL,
        group_id bigint NOT NULL,
        {MEASURES},
        CONSTRAINT pk_{name} PRIMARY KEY (organization_id, project_id, bucket, group_id)
    )
    """


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    timescale = (
        op.get_bind()
        .exec_driver_sql("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
        .scalar_one()
    )
    op.execute(CREATE_SERIES + ("" if timescale else " PARTITION BY RANGE (started_at)"))
    op.execute(CREATE_ENGINE)
    op.execute("CALL dg_guard_series('api_requests')")
    op.execute(CREATE_GROUPS)
    op.execute("CALL dg_protect_table('api_rollup_groups')")
    op.execute(CREATE_DELTAS)
    op.execute("CALL dg_protect_table('api_rollup_deltas')")
    for level in LEVELS:
        op.execute(_level(level))
        op.execute(f"CALL dg_protect_table('{level}')")


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute("DROP VIEW public.api_requests")
    op.execute("DROP TABLE measurements.api_requests")
    for table in (*LEVELS, "api_rollup_deltas", "api_rollup_groups"):
        op.execute(f"DROP TABLE {table}")
