"""Sessions that end when nobody uses them; failures to prove who one is; second factors; rotation of keys."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SESSIONS = (
    """
    ALTER TABLE sessions
        ADD COLUMN idle_expires_at timestamptz,
        ADD COLUMN proven_at timestamptz,
        DROP CONSTRAINT ck_sessions_revoked_because_is_known
    """,
    # Rows are hidden from dg_owner by row-level security. Not now(): nobody has shown who he is.
    "SET LOCAL ROLE dg_system",
    "UPDATE sessions SET idle_expires_at = expires_at, proven_at = created_at",
    "SET LOCAL ROLE dg_owner",
    """
    ALTER TABLE sessions
        ALTER COLUMN idle_expires_at SET NOT NULL,
        ALTER COLUMN proven_at SET NOT NULL,
        ADD CONSTRAINT ck_sessions_revoked_because_is_known CHECK (revoked_because IN
            ('logout', 'password_changed', 'factor_changed', 'reuse', 'revoked')),
        ADD CONSTRAINT ck_sessions_idle_ends_first CHECK (idle_expires_at <= expires_at)
    """,
)
SESSIONS_BACK = (
    "SET LOCAL ROLE dg_system",
    "UPDATE sessions SET revoked_because = 'revoked' WHERE revoked_because = 'factor_changed'",
    "SET LOCAL ROLE dg_owner",
    """
    ALTER TABLE sessions
        DROP COLUMN idle_expires_at,
        DROP COLUMN proven_at,
        DROP CONSTRAINT ck_sessions_revoked_because_is_known,
        ADD CONSTRAINT ck_sessions_revoked_because_is_known CHECK
            (revoked_because IN ('logout', 'password_changed', 'reuse', 'revoked'))
    """,
)

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
        CONSTRAINT ck_auth_failures_kind_is_known CHECK (kind IN ('password', 'mfa', 'recovery')),
        CONSTRAINT ck_auth_failures_account_is_hashed CHECK (octet_length(account) = 32)
    )
    """,
    "CREATE INDEX ix_auth_failures_account_failed_at ON auth_failures (account, failed_at)",
    "CREATE INDEX ix_auth_failures_address_failed_at ON auth_failures (address, failed_at)",
    "CREATE INDEX ix_auth_failures_failed_at ON auth_failures (failed_at)",
    "GRANT SELECT, INSERT, DELETE ON auth_failures TO dg_system",
)
FAILURES_BACK = ("DROP TABLE auth_failures",)

# A factor is a person's, in every organization that he is in: seen by those of his members.
OF_A_MEMBER = """
EXISTS (SELECT FROM memberships WHERE memberships.user_id = {table}.user_id
        AND memberships.organization_id = current_setting('app.organization_id')::uuid)
"""
FACTORS = (
    "ALTER TABLE organizations ADD COLUMN mfa_required boolean NOT NULL DEFAULT false",
    """
    CREATE TABLE user_totp (
        user_id uuid NOT NULL CONSTRAINT pk_user_totp PRIMARY KEY,
        secret text NOT NULL,
        created_at timestamptz NOT NULL,
        confirmed_at timestamptz,
        last_step bigint,
        CONSTRAINT fk_user_totp_user_id_users
            FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE recovery_codes (
        id uuid NOT NULL CONSTRAINT pk_recovery_codes PRIMARY KEY,
        user_id uuid NOT NULL,
        code_sha256 bytea NOT NULL,
        created_at timestamptz NOT NULL,
        used_at timestamptz,
        CONSTRAINT uq_recovery_codes_user_id_code_sha256 UNIQUE (user_id, code_sha256),
        CONSTRAINT fk_recovery_codes_user_id_users
            FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT ck_recovery_codes_is_sha256 CHECK (octet_length(code_sha256) = 32)
    )
    """,
    *(
        statement.format(table=table, own=OF_A_MEMBER.format(table=table))
        for table in ("user_totp", "recovery_codes")
        for statement in (
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            "CREATE POLICY tenant_works ON {table} TO dg_app USING ({own}) WITH CHECK ({own})",
            "CREATE POLICY system_works ON {table} TO dg_system USING (true) WITH CHECK (true)",
            "GRANT INSERT, DELETE ON {table} TO dg_app",
            "GRANT SELECT, UPDATE, DELETE ON {table} TO dg_system",
        )
    ),
    "GRANT SELECT (user_id, created_at, confirmed_at, last_step) ON user_totp TO dg_app",
    "GRANT UPDATE (secret, created_at, confirmed_at, last_step) ON user_totp TO dg_app",
    "GRANT SELECT (id, user_id, created_at, used_at) ON recovery_codes TO dg_app",
)
FACTORS_BACK = (
    "DROP TABLE recovery_codes, user_totp",
    "ALTER TABLE organizations DROP COLUMN mfa_required",
)

API_KEYS = (
    """
    ALTER TABLE api_keys
        ADD COLUMN allowed_ips text[] NOT NULL DEFAULT '{}',
        ADD COLUMN rotated_to uuid,
        ADD CONSTRAINT fk_api_keys_organization_id_rotated_to_api_keys
            FOREIGN KEY (organization_id, rotated_to) REFERENCES api_keys (organization_id, id)
    """,
)
API_KEYS_BACK = ("ALTER TABLE api_keys DROP COLUMN allowed_ips, DROP COLUMN rotated_to",)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (*SESSIONS, *FAILURES, *FACTORS, *API_KEYS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (*API_KEYS_BACK, *FACTORS_BACK, *FAILURES_BACK, *SESSIONS_BACK):
        op.execute(statement)
