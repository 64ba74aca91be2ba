"""The revision of sessions and factors, over rows that were there before it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask_migrate import downgrade, upgrade
from sqlalchemy import NullPool, create_engine, make_url, text

from app import create_app
from tests.conftest import ROOT
from tests.factories import people
from tests.factories.factor import Factor

MIGRATIONS = str(ROOT / "app" / "migrations")
BEFORE = "0006"


@pytest.fixture
def own_app(config, database_url) -> Iterator:
    """The application on a database of its own."""
    name = f"devguard_test_{secrets.token_hex(4)}"
    admin = create_engine(database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    app = create_app(replace(config, database_url=url))
    with app.app_context():
        upgrade(directory=MIGRATIONS)
    yield app
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_goes_down_and_up_over_sessions_that_live(own_app):
    alice = people.register(own_app)
    bob = people.register(own_app, name="Bob", organization_name="Bob's")
    people.sign_in(own_app, email=bob.email, password=bob.password)
    # Ends the other session because of a factor, which the older revision has no word for.
    Factor.enrolled(own_app, bob)

    with own_app.app_context():
        downgrade(directory=MIGRATIONS, revision=BEFORE)
        own_app.extensions["sqlalchemy"].engine.dispose()
        upgrade(directory=MIGRATIONS)

    assert alice.get("/api/v1/auth/me").status_code == 200
    (mine,) = alice.get("/api/v1/auth/sessions").json["items"]
    assert mine["idle_expires_at"] == mine["expires_at"]
