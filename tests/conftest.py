"""The test engine: real PostgreSQL and Redis, schema by the migrations, one database per run.

Tests commit. What keeps them apart is what keeps tenants apart: each test works in an organization
of its own (`alice`, `bob`, `stranger`), so nothing needs to be rolled back and tests see what other
connections, workers and tasks see.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import NullPool, create_engine, make_url, text

from app import create_app
from app.cli import after_upgrade
from app.embedded.postgres import start_postgres
from app.embedded.redis_server import start_redis
from app.kit.tenancy import system_session
from app.organizations.roles import Role
from config import Config, sqlalchemy_url
from tests.factories import people

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="devguard-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def database_url(server_home: Path) -> Iterator[str]:
    """The address of a fresh database: on the server of DATABASE_URL, else on a throw-away one."""
    given = os.environ.get("DATABASE_URL")
    server = None if given else start_postgres(server_home, durable=False)
    base = make_url(sqlalchemy_url(given) if given else server.url())  # type: ignore[union-attr]
    name = f"devguard_test_{secrets.token_hex(4)}"
    admin = create_engine(base, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield base.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        if server is not None:
            server.stop()


@pytest.fixture(scope="session")
def redis_url(server_home: Path) -> Iterator[str]:
    server = start_redis(server_home, durable=False)
    yield server.url()
    server.stop()


@pytest.fixture(scope="session")
def config(database_url: str, redis_url: str, server_home: Path) -> Config:
    return Config.from_environment(
        {
            "DEVGUARD_HOME": str(server_home),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": secrets.token_hex(32),
            "JWT_SECRET_KEY": secrets.token_hex(32),
            "RATELIMIT_ENABLED": "false",
            "DEVGUARD_BCRYPT_ROUNDS": "4",
            "DEVGUARD_LOG_LEVEL": "WARNING",
            # Everybody here comes from 127.0.0.1; tests/auth/test_throttle.py uses the real figures.
            "DEVGUARD_LOGIN_FAILURES_PER_PLACE": "1000 per minute",
            "DEVGUARD_LOGIN_FAILURES_PER_ADDRESS": "100000 per minute",
            "DEVGUARD_LOGIN_FAILURES_EVERYWHERE": "1000 per minute",
        }
    )


@pytest.fixture(scope="session")
def app(config: Config) -> Iterator[Flask]:
    app = create_app(config)
    with app.app_context():
        upgrade(directory=str(ROOT / "app" / "migrations"))
    after_upgrade(app)
    yield app
    from app.extensions import db

    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def anonymous(app: Flask) -> FlaskClient:
    """A client without any credential."""
    return app.test_client()


@pytest.fixture
def alice(app: Flask) -> people.Person:
    """The owner of an organization of her own."""
    return people.register(app, name="Alice")


@pytest.fixture
def bob(app: Flask, alice: people.Person) -> people.Person:
    """A viewer in Alice's organization: he may read."""
    return people.join(app, alice.organization_id, role=Role.VIEWER, name="Bob")


@pytest.fixture
def carol(app: Flask, alice: people.Person) -> people.Person:
    """A member of Alice's organization: she builds."""
    return people.join(app, alice.organization_id, role=Role.MEMBER, name="Carol")


@pytest.fixture
def admin(app: Flask, alice: people.Person) -> people.Person:
    """An admin of Alice's organization: he runs it."""
    return people.join(app, alice.organization_id, role=Role.ADMIN, name="Admin")


@pytest.fixture
def stranger(app: Flask) -> people.Person:
    """The owner of another organization."""
    return people.register(app, name="Stranger", organization_name="Elsewhere")


@pytest.fixture
def make_project(alice: people.Person) -> Callable[..., people.MadeProject]:
    """Make a project of Alice's organization (or of `owner`)."""

    def make(owner: people.Person = alice, **fields: Any) -> people.MadeProject:
        return people.make_project(owner, **fields)

    return make


@pytest.fixture
def project(make_project: Callable[..., people.MadeProject]) -> people.MadeProject:
    """A project of Alice's organization."""
    return make_project()


@pytest.fixture
def ingest_key(app: Flask, alice: people.Person, project: people.MadeProject) -> people.KeyCaller:
    """A caller with an ingest key of `project`."""
    return people.make_key(alice, app=app, kind="ingest", project_id=str(project.id))


@pytest.fixture
def as_system(app: Flask) -> Callable[..., Any]:
    """Run SQL as dg_system, past every tenant: `as_system("UPDATE ...", id=...)`, rows when it has any."""

    def run(sql: str, **values: Any) -> Any:
        with app.app_context(), system_session() as session:
            result = session.execute(text(sql), values)
            return result.all() if result.returns_rows else None

    return run
