"""Roles, schemas, and the procedures that put a table behind the tenant wall."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Roles belong to the whole server: another database may have made them, or be making them now.
CREATE_ROLES = """
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['dg_owner', 'dg_app', 'dg_system'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        IF NOT pg_has_role(session_user, wanted, 'MEMBER')
           OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN
            EXECUTE format('GRANT %I TO %I', wanted, session_user);
        END IF;
    END LOOP;
END
$$
"""

# TimescaleDB where the server has it loaded and we may create it; else native partitions.
CREATE_TIMESCALE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
       AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'
       AND (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN
        CREATE EXTENSION IF NOT EXISTS timescaledb;
    END IF;
END
$$
"""

GRANT_SCHEMAS = """
GRANT CREATE ON DATABASE {database} TO dg_owner;
GRANT ALL ON SCHEMA public TO dg_owner;
GRANT USAGE ON SCHEMA public TO dg_app, dg_system;
CREATE SCHEMA measurements AUTHORIZATION dg_owner;
COMMENT ON SCHEMA measurements IS
    'Time series behind guard views: dg_app has no right here, dg_system reads for upkeep';
GRANT USAGE ON SCHEMA measurements TO dg_system;
"""

# The tenant wall of a relational table: row-level security, forced for its owner too.
# `shared` tables also hold rows of nobody (organization_id IS NULL) that everybody may read.
PROTECT_TABLE = """
CREATE PROCEDURE dg_protect_table(wanted regclass, shared boolean DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
    own text := 'organization_id = current_setting(''app.organization_id'')::uuid';
    readable text := own;
BEGIN
    IF shared THEN
        readable := '(organization_id IS NULL OR ' || own || ')';
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', wanted);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', wanted);
    EXECUTE format('CREATE POLICY tenant_reads ON %s FOR SELECT TO dg_app USING (%s)',
                   wanted, readable);
    EXECUTE format('CREATE POLICY tenant_inserts ON %s FOR INSERT TO dg_app WITH CHECK (%s)',
                   wanted, own);
    EXECUTE format('CREATE POLICY tenant_updates ON %s FOR UPDATE TO dg_app '
                   'USING (%s) WITH CHECK (%s)', wanted, own, own);
    EXECUTE format('CREATE POLICY tenant_deletes ON %s FOR DELETE TO dg_app USING (%s)',
                   wanted, own);
    EXECUTE format('CREATE POLICY system_works ON %s TO dg_system USING (true) WITH CHECK (true)',
                   wanted);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO dg_app, dg_system', wanted);
END
$$;
"""

# The tenant wall of a time series, where row-level security and columnstore exclude each other:
# a view in `public` of the table of the same name in `measurements`.
GUARD_SERIES = """
CREATE PROCEDURE dg_guard_series(series name)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE VIEW public.%1$I WITH (security_barrier) AS SELECT * FROM measurements.%1$I '
        'WHERE organization_id = current_setting(''app.organization_id'')::uuid '
        'WITH CASCADED CHECK OPTION', series);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.%I TO dg_app', series);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON measurements.%I TO dg_system', series);
END
$$;
"""


def upgrade() -> None:
    op.execute(CREATE_ROLES)
    op.execute(CREATE_TIMESCALE)
    database = op.get_bind().exec_driver_sql("SELECT quote_ident(current_database())").scalar_one()
    op.execute(GRANT_SCHEMAS.format(database=database))
    # Alembic notes each revision in the revision's own transaction, which then runs as dg_owner.
    op.execute("ALTER TABLE alembic_version OWNER TO dg_owner")
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute(PROTECT_TABLE)
    op.execute(GUARD_SERIES)


def downgrade() -> None:
    # The roles stay: they belong to the server and other databases may use them.
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute("DROP PROCEDURE dg_guard_series, dg_protect_table")
    op.execute("DROP SCHEMA measurements")
    op.execute("RESET ROLE")
    op.execute("ALTER TABLE alembic_version OWNER TO SESSION_USER")
