"""The data keys that customers' secrets are encrypted with, and the salt of a passphrase above them."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# No foreign key: the first secret of an organization may be written in the transaction that makes the
# organization, while its key is made in one of its own; and a shredded key outlives its organization.
DATA_KEYS = """
CREATE TABLE data_keys (
    id uuid NOT NULL CONSTRAINT pk_data_keys PRIMARY KEY,
    organization_id uuid NOT NULL,
    wrapped_key bytea,
    kek_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    shredded_at timestamptz,
    CONSTRAINT uq_data_keys_organization_id_id UNIQUE (organization_id, id),
    CONSTRAINT ck_data_keys_shredded_has_no_key CHECK (
        (shredded_at IS NULL) = (wrapped_key IS NOT NULL)
        AND (wrapped_key IS NULL) = (kek_id IS NULL)
    ),
    CONSTRAINT ck_data_keys_is_wrapped CHECK (octet_length(wrapped_key) = 60)
)
"""

ONE_ACTIVE = """
CREATE UNIQUE INDEX uq_data_keys_organization_id_active ON data_keys (organization_id)
    WHERE retired_at IS NULL AND shredded_at IS NULL
"""

# A request opens keys; it never makes, retires, rewraps or shreds one. Nobody deletes a row:
# that a key was shredded must stay known.
NARROW_RIGHTS = (
    "DROP POLICY tenant_inserts ON data_keys",
    "DROP POLICY tenant_updates ON data_keys",
    "DROP POLICY tenant_deletes ON data_keys",
    "REVOKE INSERT, UPDATE, DELETE ON data_keys FROM dg_app",
    "REVOKE DELETE ON data_keys FROM dg_system",
)

# One salt for the installation, in the database: every host derives the same key from the passphrase,
# and a restored backup needs the passphrase only. A salt is no secret (RFC 8018 section 4.1).
SALT = (
    """
    CREATE TABLE passphrase_salts (
        id smallint NOT NULL CONSTRAINT pk_passphrase_salts PRIMARY KEY,
        salt bytea NOT NULL,
        iterations integer NOT NULL,
        CONSTRAINT ck_passphrase_salts_is_the_only_one CHECK (id = 1),
        CONSTRAINT ck_passphrase_salts_is_strong CHECK (
            octet_length(salt) = 32 AND iterations >= 600000
        )
    )
    """,
    """
    INSERT INTO passphrase_salts (id, salt, iterations) VALUES
        (1, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 600000)
    """,
    "GRANT SELECT ON passphrase_salts TO dg_app, dg_system",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute(DATA_KEYS)
    op.execute(ONE_ACTIVE)
    op.execute("CALL dg_protect_table('data_keys')")
    for statement in (*NARROW_RIGHTS, *SALT):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    # Every secret in the database is lost with its key: take a backup before.
    op.execute("DROP TABLE data_keys, passphrase_salts")
