"""Idempotency keys: the answer of a POST, kept in the transaction of its effect."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE idempotency_keys (
        organization_id uuid NOT NULL,
        actor_id uuid NOT NULL,
        route text NOT NULL,
        key text NOT NULL,
        request_sha256 bytea NOT NULL,
        is_replayable boolean NOT NULL,
        status smallint NOT NULL,
        headers jsonb NOT NULL,
        body bytea NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        CONSTRAINT pk_idempotency_keys PRIMARY KEY (organization_id, actor_id, route, key),
        CONSTRAINT ck_idempotency_keys_key_length CHECK (length(key) BETWEEN 1 AND 255),
        CONSTRAINT ck_idempotency_keys_is_sha256 CHECK (octet_length(request_sha256) = 32),
        CONSTRAINT ck_idempotency_keys_secrets_are_not_kept
            CHECK (is_replayable OR octet_length(body) = 0)
    )
    """,
    "CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at)",
    "CALL dg_protect_table('idempotency_keys')",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute("DROP TABLE idempotency_keys")
