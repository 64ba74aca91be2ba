"""Providers, dated prices, rate cards and model aliases."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Rows without an organization are the built-in catalogue, written by the import as dg_system.
PROVIDERS = """
CREATE TABLE api_providers (
    id uuid NOT NULL CONSTRAINT pk_api_providers PRIMARY KEY,
    organization_id uuid,
    name text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    base_url text,
    api_pattern text,
    pricing_urls text[] NOT NULL,
    currency text NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT uq_api_providers_organization_id_id UNIQUE (organization_id, id),
    CONSTRAINT uq_api_providers_organization_id_name
        UNIQUE NULLS NOT DISTINCT (organization_id, name),
    CONSTRAINT fk_api_providers_organization_id_organizations
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT ck_api_providers_name_is_plain CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    CONSTRAINT ck_api_providers_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$')
)
"""

# The composite key keeps a tenant's model with a provider of his own; built-in rows have no tenant.
MODELS = """
CREATE TABLE api_models (
    id uuid NOT NULL CONSTRAINT pk_api_models PRIMARY KEY,
    organization_id uuid,
    provider_id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    display_name text,
    context_window bigint,
    is_deprecated boolean NOT NULL,
    recorded_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    CONSTRAINT uq_api_models_provider_id_name UNIQUE (provider_id, name),
    CONSTRAINT fk_api_models_provider_id_api_providers
        FOREIGN KEY (provider_id) REFERENCES api_providers (id) ON DELETE CASCADE,
    CONSTRAINT fk_api_models_organization_id_provider_id_api_providers
        FOREIGN KEY (organization_id, provider_id)
        REFERENCES api_providers (organization_id, id) ON DELETE CASCADE
)
"""

PRICES = """
CREATE TABLE api_prices (
    id uuid NOT NULL CONSTRAINT pk_api_prices PRIMARY KEY,
    organization_id uuid,
    project_id uuid,
    configuration_id uuid,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    position integer NOT NULL,
    effective_from date,
    effective_to date,
    daily_from time,
    daily_to time,
    context jsonb NOT NULL,
    rates jsonb NOT NULL,
    multiplier numeric,
    is_free boolean NOT NULL,
    currency text NOT NULL,
    source text NOT NULL,
    recorded_at timestamptz NOT NULL,
    superseded_at timestamptz,
    CONSTRAINT fk_api_prices_organization_id_organizations
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT fk_api_prices_organization_id_project_id_projects
        FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id),
    CONSTRAINT ck_api_prices_scope_has_an_organization CHECK (
        organization_id IS NOT NULL OR (project_id IS NULL AND configuration_id IS NULL)),
    CONSTRAINT ck_api_prices_ends_after_it_begins CHECK (effective_from < effective_to),
    CONSTRAINT ck_api_prices_daily_has_both_ends CHECK ((daily_from IS NULL) = (daily_to IS NULL)),
    CONSTRAINT ck_api_prices_multiplier_is_a_factor CHECK (multiplier BETWEEN 0 AND 100),
    CONSTRAINT ck_api_prices_context_is_an_object CHECK (jsonb_typeof(context) = 'object'),
    CONSTRAINT ck_api_prices_rates_are_an_object CHECK (jsonb_typeof(rates) = 'object'),
    CONSTRAINT ck_api_prices_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$')
)
"""

# What stands at one place of a model's list is superseded before another row takes the place.
CURRENT_PRICES = """
CREATE UNIQUE INDEX uq_api_prices_current ON api_prices
    (organization_id, provider, model, position, project_id, configuration_id)
    NULLS NOT DISTINCT WHERE superseded_at IS NULL
"""

RATE_CARDS = """
CREATE TABLE api_rate_cards (
    id uuid NOT NULL CONSTRAINT pk_api_rate_cards PRIMARY KEY,
    organization_id uuid,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    source text NOT NULL,
    rates jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT fk_api_rate_cards_organization_id_organizations
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT ck_api_rate_cards_rates_are_an_object CHECK (jsonb_typeof(rates) = 'object')
)
"""

ALIASES = """
CREATE TABLE api_model_aliases (
    id uuid NOT NULL CONSTRAINT pk_api_model_aliases PRIMARY KEY,
    organization_id uuid,
    provider text COLLATE "C" NOT NULL,
    raw_name text COLLATE "C" NOT NULL,
    price_list text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT uq_api_model_aliases_organization_id_provider_raw_name
        UNIQUE NULLS NOT DISTINCT (organization_id, provider, raw_name),
    CONSTRAINT fk_api_model_aliases_organization_id_organizations
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT ck_api_model_aliases_raw_name_is_lower_case CHECK (raw_name = lower(raw_name))
)
"""

# One row for the catalogue (organization_id NULL, id of zeros) and one for each tenant with prices.
VERSIONS = """
CREATE TABLE api_price_versions (
    id uuid NOT NULL CONSTRAINT pk_api_price_versions PRIMARY KEY,
    organization_id uuid,
    version bigint NOT NULL,
    CONSTRAINT uq_api_price_versions_organization_id UNIQUE NULLS NOT DISTINCT (organization_id),
    CONSTRAINT fk_api_price_versions_organization_id_organizations
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
)
"""

# A trigger, so that nobody who writes prices can forget that all processes keep them in memory.
NOTE_CHANGES = """
CREATE FUNCTION dg_note_price_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO api_price_versions (id, organization_id, version)
    SELECT DISTINCT coalesce(organization_id, '00000000-0000-0000-0000-000000000000'::uuid),
           organization_id, 1
    FROM changed
    ON CONFLICT (id) DO UPDATE SET version = api_price_versions.version + 1;
    RETURN NULL;
END
$$
"""
WATCHED = ("api_providers", "api_prices", "api_model_aliases")
EVENTS = {"insert": "NEW", "update": "NEW", "delete": "OLD"}

TABLES = (
    "api_providers",
    "api_models",
    "api_prices",
    "api_rate_cards",
    "api_model_aliases",
    "api_price_versions",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    for statement in (PROVIDERS, MODELS, PRICES, CURRENT_PRICES, RATE_CARDS, ALIASES, VERSIONS):
        op.execute(statement)
    op.execute("CREATE INDEX ix_api_models_name ON api_models (name)")
    for table in TABLES:
        op.execute(f"CALL dg_protect_table('{table}', true)")
    # A card says the same for ever: rows of calls refer to it instead of copying rates.
    op.execute("REVOKE UPDATE, DELETE ON api_rate_cards FROM dg_app, dg_system")
    op.execute(NOTE_CHANGES)
    for table in WATCHED:
        for event, rows in EVENTS.items():
            op.execute(
                f"CREATE TRIGGER note_price_{event} AFTER {event.upper()} ON {table} "
                f"REFERENCING {rows} TABLE AS changed "
                "FOR EACH STATEMENT EXECUTE FUNCTION dg_note_price_change()"
            )


def downgrade() -> None:
    op.execute("SET LOCAL ROLE dg_owner")
    op.execute(f"DROP TABLE {', '.join(reversed(TABLES))}")
    op.execute("DROP FUNCTION dg_note_price_change")
