"""Sessions that end when nobody uses them; failures to prove who one is."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SESSIONS = (
    "ALTER TABLE sessions ADD COLUMN idle_expires_at timestamptz",
    "UPDATE sessions SET idle_expires_at = expires_at",
    """
    ALTER TABLE sessions
        ALTER COLUMN idle_expires_at SET NOT NULL,
        ADD CONSTRAINT ck_sessions_idle_ends_first CHECK (idle_expires_at <= expires_at)
    """,
)
SESSIONS_BACK = ("ALTER TABLE sessions DROP COLUMN idle_expires_at",)

# Of no organization: who tries is not known yet, and the account may not exist. Never for dg_app.
FAILURES = (
    """
    CREATE TABLE auth_failures (
        id uuid NOT NULL CONSTRAINT pk_auth_failures PRIMARY KEY,
        kind text NOT NULL,
        account bytea NOT NULL,
        place text NOT NULL,
        address text NOT NULL,
        failed_at timestamptz NOT NULL,
        CONSTRAINT ck_auth_failures_kind_is_known CHECK (kind IN ('password', 'mfa')),
        CONSTRAINT ck_auth_failures_account_is_hashed CHECK (octet_length(account) = 32)
    )
    """,
    "CREATE INDEX ix_auth_failures_account_failed_at ON auth_failures (account, failed_at)",
    "CREATE INDEX ix_auth_failures_address_failed_at ON auth_failures (address, failed_at)",
    "CREATE INDEX ix_auth_failures_failed_at ON auth_failures (failed_at)",
    "GRANT SELECT, INSERT, DELETE ON auth_failures TO dg_system",
)
FAILURES_BACK = ("DROP TABLE auth_failures",)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (*SESSIONS, *FAILURES):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (*FAILURES_BACK, *SESSIONS_BACK):
        op.execute(statement)
