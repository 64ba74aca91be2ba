"""The outbox, task claims, dead letters and slots of scheduled jobs."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A request may only add: it never sees, moves or removes a message, not even its own.
CREATE_OUTBOX = """
CREATE TABLE outbox (
    id uuid NOT NULL,
    organization_id uuid,
    topic text NOT NULL,
    queue text NOT NULL,
    dedup_key text,
    payload jsonb NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    not_before timestamptz NOT NULL DEFAULT now(),
    sends integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    sent_to text,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_outbox PRIMARY KEY (id),
    CONSTRAINT ck_outbox_payload_is_object CHECK (jsonb_typeof(payload) = 'object')
) WITH (
    -- Rows come and go: without early cleaning each look would wade through dead ones.
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.0, autovacuum_analyze_threshold = 2000
);
CREATE INDEX ix_outbox_topic_not_before_id ON outbox (topic, not_before, id);
CREATE INDEX ix_outbox_sent_to ON outbox (sent_to) WHERE sent_to IS NOT NULL;
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_inserts ON outbox FOR INSERT TO dg_app WITH CHECK (
    organization_id IS NOT DISTINCT FROM nullif(current_setting('app.organization_id'), '')::uuid
);
CREATE POLICY system_works ON outbox TO dg_system USING (true) WITH CHECK (true);
GRANT INSERT ON outbox TO dg_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO dg_system;
"""

CREATE_TASK_RUNS = """
CREATE TABLE task_runs (
    id uuid NOT NULL,
    organization_id uuid,
    task text NOT NULL,
    dedup_key text NOT NULL,
    message_id uuid NOT NULL,
    lock_key bigint NOT NULL,
    state text NOT NULL,
    deliveries integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    last_error text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT pk_task_runs PRIMARY KEY (id),
    CONSTRAINT uq_task_runs_organization_id_task_dedup_key
        UNIQUE NULLS NOT DISTINCT (organization_id, task, dedup_key),
    CONSTRAINT ck_task_runs_state_is_known
        CHECK (state IN ('running', 'waiting', 'done', 'dead'))
);
CREATE INDEX ix_task_runs_running ON task_runs (message_id) WHERE state = 'running';
CREATE INDEX ix_task_runs_finished_at ON task_runs (finished_at) WHERE finished_at IS NOT NULL;
ALTER TABLE task_runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE task_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY system_works ON task_runs TO dg_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON task_runs TO dg_system;
"""

CREATE_DEAD_TASKS = """
CREATE TABLE dead_tasks (
    id uuid NOT NULL,
    organization_id uuid,
    task text NOT NULL,
    queue text NOT NULL,
    dedup_key text NOT NULL,
    message_id uuid NOT NULL,
    payload jsonb NOT NULL,
    headers jsonb NOT NULL,
    reason text NOT NULL,
    last_error text,
    deliveries integer NOT NULL,
    failures integer NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_dead_tasks PRIMARY KEY (id),
    CONSTRAINT ck_dead_tasks_reason_is_known
        CHECK (reason IN ('exhausted', 'killed', 'poison', 'undeliverable'))
);
CREATE INDEX ix_dead_tasks_died_at ON dead_tasks (died_at, id);
ALTER TABLE dead_tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE dead_tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY system_works ON dead_tasks TO dg_system USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON dead_tasks TO dg_system;
"""

CREATE_JOB_RUNS = """
CREATE TABLE job_runs (
    name text NOT NULL,
    slot timestamptz NOT NULL,
    message_id uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_job_runs PRIMARY KEY (name, slot)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON job_runs TO dg_system;
"""


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (CREATE_OUTBOX, CREATE_TASK_RUNS, CREATE_DEAD_TASKS, CREATE_JOB_RUNS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute("DROP TABLE job_runs, dead_tasks, task_runs, outbox")
