"""Seals of the audit log: one chain per organization, and the rows that wait for theirs."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SEALS = (
    """
    CREATE INDEX ix_audit_logs_organization_id_actor_id_occurred_at
        ON audit_logs (organization_id, actor_id, occurred_at)
    """,
    # No key to audit_logs: the seal of a row that was deleted is what tells of it.
    """
    CREATE TABLE audit_seals (
        organization_id uuid NOT NULL,
        position bigint NOT NULL,
        audit_log_id uuid NOT NULL,
        seal bytea NOT NULL,
        key_id text NOT NULL,
        sealed_at timestamptz NOT NULL,
        CONSTRAINT pk_audit_seals PRIMARY KEY (organization_id, position),
        CONSTRAINT uq_audit_seals_organization_id_audit_log_id
            UNIQUE (organization_id, audit_log_id),
        CONSTRAINT ck_audit_seals_position_is_counted CHECK (position >= 1),
        CONSTRAINT ck_audit_seals_is_sha256 CHECK (octet_length(seal) = 32)
    )
    """,
    "CALL dg_protect_table('audit_seals')",
    "DROP POLICY tenant_inserts ON audit_seals",
    "DROP POLICY tenant_updates ON audit_seals",
    "DROP POLICY tenant_deletes ON audit_seals",
    "REVOKE INSERT, UPDATE, DELETE ON audit_seals FROM dg_app",
    "REVOKE UPDATE, DELETE ON audit_seals FROM dg_system",
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_seals
        FOR EACH ROW EXECUTE FUNCTION dg_refuse_change()
    """,
    """
    CREATE TRIGGER never_truncated BEFORE TRUNCATE ON audit_seals
        FOR EACH STATEMENT EXECUTE FUNCTION dg_refuse_change()
    """,
)

# The sealer must find new rows without reading the whole log. Rows become visible in the order of
# their commits, which is neither that of their ids nor of their times, so no watermark finds them all.
UNSEALED = (
    """
    CREATE TABLE audit_unsealed (
        audit_log_id uuid NOT NULL CONSTRAINT pk_audit_unsealed PRIMARY KEY
    ) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000)
    """,
    "GRANT SELECT, INSERT, DELETE ON audit_unsealed TO dg_system",
    # With the rights of its owner: a request may write the log, never what the sealer is told.
    """
    CREATE FUNCTION dg_note_unsealed() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        INSERT INTO audit_unsealed (audit_log_id) VALUES (NEW.id);
        RETURN NULL;
    END
    $$
    """,
    "REVOKE EXECUTE ON FUNCTION dg_note_unsealed() FROM PUBLIC",
    """
    CREATE TRIGGER noted_for_its_seal AFTER INSERT ON audit_logs
        FOR EACH ROW EXECUTE FUNCTION dg_note_unsealed()
    """,
    # What was written before there were seals. The owner himself sees no row of any organization.
    "SET LOCAL ROLE dg_system",
    "INSERT INTO audit_unsealed (audit_log_id) SELECT id FROM audit_logs",
    "SET LOCAL ROLE dg_owner",
    "REVOKE INSERT ON audit_unsealed FROM dg_system",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (*SEALS, *UNSEALED):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute("DROP TRIGGER noted_for_its_seal ON audit_logs")
    op.execute("DROP FUNCTION dg_note_unsealed")
    op.execute("DROP TABLE audit_unsealed, audit_seals")
    op.execute("DROP INDEX ix_audit_logs_organization_id_actor_id_occurred_at")
