"""Sessions that end when nobody uses them."""

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


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in SESSIONS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in SESSIONS_BACK:
        op.execute(statement)
