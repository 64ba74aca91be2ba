"""Organizations, people, credentials, projects and the audit log."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ORGANIZATIONS = """
CREATE TABLE organizations (
    id uuid NOT NULL CONSTRAINT pk_organizations PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT ck_organizations_name_length CHECK (length(name) BETWEEN 1 AND 200)
)
"""

# People belong to no organization: one account may be a member of several.
USERS = """
CREATE TABLE users (
    id uuid NOT NULL CONSTRAINT pk_users PRIMARY KEY,
    email text NOT NULL,
    name text NOT NULL,
    password_hash text,
    password_changed_at timestamptz,
    epoch integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    disabled_at timestamptz,
    CONSTRAINT uq_users_email UNIQUE (email),
    CONSTRAINT ck_users_email_is_normalised CHECK (email = lower(email)),
    CONSTRAINT ck_users_name_length CHECK (length(name) BETWEEN 1 AND 200)
)
"""

MEMBERSHIPS = """
CREATE TABLE memberships (
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_memberships PRIMARY KEY (organization_id, user_id),
    CONSTRAINT fk_memberships_organization_id_organizations
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT fk_memberships_user_id_users FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT ck_memberships_role_is_known CHECK (role IN ('viewer', 'member', 'admin', 'owner'))
)
"""

# The wall of the two tables that have no organization_id. Password hashes can be written by
# dg_app but never read: they are compared by a named look-up of dg_system.
PROTECT_PEOPLE = (
    "CREATE INDEX ix_memberships_user_id ON memberships (user_id)",
    "CALL dg_protect_table('memberships')",
    "ALTER TABLE organizations ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE organizations FORCE ROW LEVEL SECURITY",
    """
    CREATE POLICY tenant_works ON organizations TO dg_app
        USING (id = current_setting('app.organization_id')::uuid)
        WITH CHECK (id = current_setting('app.organization_id')::uuid)
    """,
    "CREATE POLICY system_works ON organizations TO dg_system USING (true) WITH CHECK (true)",
    "GRANT SELECT, INSERT, UPDATE ON organizations TO dg_app, dg_system",
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE users FORCE ROW LEVEL SECURITY",
    *(
        f"""
        CREATE POLICY tenant_{deed}s ON users FOR {deed.upper()} TO dg_app
            USING (EXISTS (
                SELECT FROM memberships
                WHERE memberships.user_id = users.id
                AND memberships.organization_id = current_setting('app.organization_id')::uuid
            ))
        """
        for deed in ("select", "update")
    ),
    # Whoever is written here is nobody's member yet, and stays unseen until he is one.
    "CREATE POLICY tenant_inserts ON users FOR INSERT TO dg_app WITH CHECK (true)",
    "CREATE POLICY system_works ON users TO dg_system USING (true) WITH CHECK (true)",
    """
    GRANT SELECT (id, email, name, password_changed_at, epoch, created_at, updated_at, disabled_at)
        ON users TO dg_app
    """,
    "GRANT INSERT ON users TO dg_app",
    """
    GRANT UPDATE (name, password_hash, password_changed_at, epoch, updated_at, disabled_at)
        ON users TO dg_app
    """,
    "GRANT SELECT, INSERT, UPDATE ON users TO dg_system",
)

SESSIONS = (
    """
    CREATE TABLE sessions (
        id uuid NOT NULL CONSTRAINT pk_sessions PRIMARY KEY,
        organization_id uuid NOT NULL,
        user_id uuid NOT NULL,
        epoch integer NOT NULL,
        created_at timestamptz NOT NULL,
        refreshed_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        revoked_because text,
        user_agent text,
        ip inet,
        CONSTRAINT uq_sessions_organization_id_id UNIQUE (organization_id, id),
        CONSTRAINT fk_sessions_organization_id_user_id_memberships
            FOREIGN KEY (organization_id, user_id)
            REFERENCES memberships (organization_id, user_id) ON DELETE CASCADE,
        CONSTRAINT ck_sessions_revoked_because_is_known CHECK
            (revoked_because IN ('logout', 'password_changed', 'reuse', 'revoked'))
    )
    """,
    "CREATE INDEX ix_sessions_organization_id_user_id ON sessions (organization_id, user_id)",
    "CREATE INDEX ix_sessions_user_id ON sessions (user_id)",
    "CALL dg_protect_table('sessions')",
    """
    CREATE TABLE refresh_tokens (
        id uuid NOT NULL CONSTRAINT pk_refresh_tokens PRIMARY KEY,
        organization_id uuid NOT NULL,
        session_id uuid NOT NULL,
        token_sha256 bytea NOT NULL,
        created_at timestamptz NOT NULL,
        used_at timestamptz,
        CONSTRAINT uq_refresh_tokens_token_sha256 UNIQUE (token_sha256),
        CONSTRAINT fk_refresh_tokens_organization_id_session_id_sessions
            FOREIGN KEY (organization_id, session_id)
            REFERENCES sessions (organization_id, id) ON DELETE CASCADE,
        CONSTRAINT ck_refresh_tokens_is_sha256 CHECK (octet_length(token_sha256) = 32)
    )
    """,
    """
    CREATE INDEX ix_refresh_tokens_organization_id_session_id
        ON refresh_tokens (organization_id, session_id)
    """,
    "CALL dg_protect_table('refresh_tokens')",
)

PROJECTS = (
    """
    CREATE TABLE projects (
        id uuid NOT NULL CONSTRAINT pk_projects PRIMARY KEY,
        organization_id uuid NOT NULL,
        name text NOT NULL,
        slug text COLLATE "C" NOT NULL,
        description text NOT NULL,
        environments text[] NOT NULL,
        version integer NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        archived_at timestamptz,
        deleted_at timestamptz,
        CONSTRAINT uq_projects_organization_id_id UNIQUE (organization_id, id),
        CONSTRAINT fk_projects_organization_id_organizations
            FOREIGN KEY (organization_id) REFERENCES organizations (id),
        CONSTRAINT ck_projects_name_length CHECK (length(name) BETWEEN 1 AND 200),
        CONSTRAINT ck_projects_slug_is_plain CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
        CONSTRAINT ck_projects_slug_length CHECK (length(slug) <= 63)
    )
    """,
    # The slug of a deleted project is free again.
    """
    CREATE UNIQUE INDEX uq_projects_organization_id_slug
        ON projects (organization_id, slug) WHERE deleted_at IS NULL
    """,
    "CALL dg_protect_table('projects')",
)

API_KEYS = (
    """
    CREATE TABLE api_keys (
        id uuid NOT NULL CONSTRAINT pk_api_keys PRIMARY KEY,
        organization_id uuid NOT NULL,
        kind text NOT NULL,
        name text NOT NULL,
        user_id uuid,
        project_id uuid,
        created_by uuid,
        scopes text[] NOT NULL,
        secret_sha256 bytea NOT NULL,
        prefix text NOT NULL,
        last4 text NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        last_used_at timestamptz,
        revoked_at timestamptz,
        CONSTRAINT uq_api_keys_organization_id_id UNIQUE (organization_id, id),
        CONSTRAINT uq_api_keys_secret_sha256 UNIQUE (secret_sha256),
        CONSTRAINT fk_api_keys_organization_id_organizations
            FOREIGN KEY (organization_id) REFERENCES organizations (id),
        CONSTRAINT fk_api_keys_organization_id_user_id_memberships
            FOREIGN KEY (organization_id, user_id)
            REFERENCES memberships (organization_id, user_id) ON DELETE CASCADE,
        CONSTRAINT fk_api_keys_organization_id_created_by_memberships
            FOREIGN KEY (organization_id, created_by)
            REFERENCES memberships (organization_id, user_id) ON DELETE SET NULL (created_by),
        CONSTRAINT fk_api_keys_organization_id_project_id_projects
            FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id),
        CONSTRAINT ck_api_keys_kind_is_known CHECK (kind IN ('personal', 'service', 'ingest')),
        CONSTRAINT ck_api_keys_personal_has_user CHECK ((kind = 'personal') = (user_id IS NOT NULL)),
        CONSTRAINT ck_api_keys_ingest_has_project CHECK ((kind = 'ingest') = (project_id IS NOT NULL)),
        CONSTRAINT ck_api_keys_is_sha256 CHECK (octet_length(secret_sha256) = 32),
        CONSTRAINT ck_api_keys_name_length CHECK (length(name) BETWEEN 1 AND 200)
    )
    """,
    "CREATE INDEX ix_api_keys_organization_id_user_id ON api_keys (organization_id, user_id)",
    "CREATE INDEX ix_api_keys_organization_id_project_id ON api_keys (organization_id, project_id)",
    "CALL dg_protect_table('api_keys')",
)

# No foreign keys: what happened stays written when its actor, target or organization is gone.
AUDIT_LOGS = (
    """
    CREATE TABLE audit_logs (
        id uuid NOT NULL CONSTRAINT pk_audit_logs PRIMARY KEY,
        organization_id uuid NOT NULL,
        occurred_at timestamptz NOT NULL,
        event text NOT NULL,
        actor_kind text NOT NULL,
        actor_id uuid,
        actor_label text NOT NULL,
        target_kind text NOT NULL,
        target_id text NOT NULL,
        target_label text NOT NULL,
        ip inet,
        request_id text,
        before text,
        after text,
        CONSTRAINT ck_audit_logs_actor_kind_is_known
            CHECK (actor_kind IN ('user', 'api_key', 'system', 'operator'))
    )
    """,
    """
    CREATE INDEX ix_audit_logs_organization_id_occurred_at_id
        ON audit_logs (organization_id, occurred_at, id)
    """,
    """
    CREATE INDEX ix_audit_logs_organization_id_target_kind_target_id
        ON audit_logs (organization_id, target_kind, target_id)
    """,
    "CALL dg_protect_table('audit_logs')",
    "DROP POLICY tenant_updates ON audit_logs",
    "DROP POLICY tenant_deletes ON audit_logs",
    "REVOKE UPDATE, DELETE ON audit_logs FROM dg_app, dg_system",
    """
    CREATE FUNCTION dg_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    """
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_logs
        FOR EACH ROW EXECUTE FUNCTION dg_refuse_change()
    """,
    """
    CREATE TRIGGER never_truncated BEFORE TRUNCATE ON audit_logs
        FOR EACH STATEMENT EXECUTE FUNCTION dg_refuse_change()
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (
        ORGANIZATIONS,
        USERS,
        MEMBERSHIPS,
        *PROTECT_PEOPLE,
        *SESSIONS,
        *PROJECTS,
        *API_KEYS,
        *AUDIT_LOGS,
    ):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    # The policies of users read memberships, so they go first.
    op.execute("DROP POLICY tenant_selects ON users")
    op.execute("DROP POLICY tenant_updates ON users")
    op.execute(
        "DROP TABLE audit_logs, api_keys, projects, refresh_tokens, sessions, memberships, "
        "users, organizations"
    )
    op.execute("DROP FUNCTION dg_refuse_change")
