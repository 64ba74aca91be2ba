"""Whose data this code may touch: the current organization, set on each transaction for row-level security.

Every connection starts as role `dg_app` without an organization, so a forgotten scope is an error of
the database, never an empty or a foreign answer. Three roles exist: `dg_app` (requests, tenant
tasks), `dg_system` (a handful of look-ups before the tenant is known, relay, maintenance) and
`dg_owner` (migrations and partition upkeep).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, SessionTransaction

from app.extensions import db
from app.kit.patience import bind_patience, bind_ping, statement_timeout

_organization_id: ContextVar[UUID | None] = ContextVar("organization_id", default=None)

_SET_SCOPE = (
    "SELECT set_config('role', %s, true), set_config('app.organization_id', %s, true), "
    "set_config('statement_timeout', coalesce(%s, current_setting('statement_timeout')), true)"
)


class NoOrganization(RuntimeError):
    """Tenant data was asked for where no organization is set: a fault of the code, not of the caller."""


def current_organization_id() -> UUID:
    """Return the organization of this request or task. Raises NoOrganization when none is set."""
    organization_id = _organization_id.get()
    if organization_id is None:
        raise NoOrganization("no organization is set for this request or task")
    return organization_id


def enter_organization(organization_id: UUID) -> None:
    """Set the organization of this request, once.

    Raises RuntimeError when another organization is set or the session already began a transaction:
    a session is never re-scoped, because its identity map holds rows of the first organization.
    """
    current = _organization_id.get()
    if current == organization_id:
        return
    if current is not None:
        raise RuntimeError("a request or task never changes its organization")
    if db.session().in_transaction():
        raise RuntimeError("the session began before its organization was known")
    _organization_id.set(organization_id)


def leave_organization() -> None:
    """Forget the organization of this request or task."""
    _organization_id.set(None)


@contextmanager
def organization_scope(organization_id: UUID) -> Iterator[None]:
    """Run a task or command as one organization; the session ends with the scope."""
    if _organization_id.get() not in {None, organization_id}:
        raise RuntimeError("a request or task never changes its organization")
    db.session.remove()
    token = _organization_id.set(organization_id)
    try:
        yield
    finally:
        db.session.remove()
        _organization_id.reset(token)


@contextmanager
def system_session() -> Iterator[Session]:
    """A session of role `dg_system` in one transaction of its own: for named look-ups and upkeep only."""
    with _role_session("dg_system") as session:
        yield session


@contextmanager
def tenant_session() -> Iterator[Session]:
    """A session of the current organization in one transaction of its own, beside the request's.

    For what others must see before the request commits. Raises NoOrganization when none is set.
    """
    current_organization_id()
    with _role_session("dg_app") as session:
        yield session


@contextmanager
def owner_session() -> Iterator[Session]:
    """A session of role `dg_owner` in one transaction of its own: for partitions and policies only."""
    with _role_session("dg_owner") as session:
        yield session


class RoleSession(Session):
    """A session beside the request's; a class of its own, so that its listener is bound once."""


@contextmanager
def _role_session(role: str) -> Iterator[Session]:
    with (
        RoleSession(db.engine, info={"role": role}, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


def bind_tenancy(engine: Engine) -> None:
    """Make every transaction of the application's session carry its role and organization."""
    bind_patience(engine)
    bind_ping(engine)
    event.listen(engine, "connect", _start_as_app)
    if not event.contains(db.session, "after_begin", _scope_transaction):
        event.listen(db.session, "after_begin", _scope_transaction)


def _start_as_app(connection: Any, _record: object) -> None:
    # Outside any transaction, so that it outlives them all: even a statement that some library
    # sends past our sessions runs as dg_app and without an organization.
    connection.autocommit = True
    connection.execute("SET ROLE dg_app")
    connection.autocommit = False


def _scope_transaction(
    session: Session, _transaction: SessionTransaction, connection: Connection
) -> None:
    organization_id = _organization_id.get()
    role = session.info.get("role", "dg_app")
    organization = "" if organization_id is None else str(organization_id)
    # Past SQLAlchemy, because every transaction begins with it: its own execution costs three times that.
    driver: Any = connection.connection.driver_connection
    driver.execute(_SET_SCOPE, (role, organization, statement_timeout()))


event.listen(RoleSession, "after_begin", _scope_transaction)
