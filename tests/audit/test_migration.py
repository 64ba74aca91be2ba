"""Rows that were written before there were seals get theirs, and the revisions go down and up again."""

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from flask_migrate import downgrade, upgrade
from sqlalchemy import NullPool, create_engine, make_url, text

from app import create_app
from app.extensions import db
from app.kit.ids import new_id

MIGRATIONS = str(Path(__file__).parents[2] / "app" / "migrations")
ROW = text(
    "INSERT INTO audit_logs (id, organization_id, occurred_at, event, actor_kind, actor_label,"
    " target_kind, target_id, target_label)"
    " VALUES (:id, :id, now(), 'project.created', 'system', 'x', 'project', '1', 'x')"
)


@pytest.fixture
def fresh_url(database_url):
    url = make_url(database_url)
    name = f"{url.database}_{secrets.token_hex(3)}"
    admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def fresh_app(app, config, fresh_url):
    fresh_app = create_app(replace(config, database_url=fresh_url))
    yield fresh_app
    with fresh_app.app_context():
        db.engine.dispose()


def waiting(url):
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return set(connection.scalars(text("SELECT audit_log_id FROM audit_unsealed")))


class TestAuditRevision:
    def test_notes_what_was_written_before(self, fresh_app, fresh_url):
        early, late = new_id(), new_id()
        engine = create_engine(fresh_url, poolclass=NullPool)
        with fresh_app.app_context():
            upgrade(directory=MIGRATIONS, revision="0007")
            with engine.begin() as connection:
                connection.execute(ROW, {"id": early})
            upgrade(directory=MIGRATIONS)
            with engine.begin() as connection:
                connection.execute(ROW, {"id": late})
            assert waiting(fresh_url) == {early, late}

            downgrade(directory=MIGRATIONS, revision="0007")
            upgrade(directory=MIGRATIONS)

        assert waiting(fresh_url) == {early, late}
