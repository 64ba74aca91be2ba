"""Questions about organizations and people; those before the tenant is known run as dg_system."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from app.extensions import db
from app.kit.errors import NotFound
from app.kit.tenancy import system_session
from app.organizations.models import Membership, Organization, User


@dataclass(frozen=True, slots=True)
class KnownUser:
    """What signing in needs to know of a person, and the organization that he enters."""

    user_id: UUID
    organization_id: UUID | None
    email: str
    name: str
    password_hash: str | None
    epoch: int
    is_disabled: bool


@dataclass(frozen=True, slots=True)
class MemberProfile:
    """A person as a member of one organization."""

    user_id: UUID
    email: str
    name: str
    organization_id: UUID
    organization_name: str
    role: str


@dataclass(frozen=True, slots=True)
class OrganizationOverview:
    """One organization as its operator lists it."""

    organization_id: UUID
    name: str
    created_at: datetime
    members: int


def get_organization_name(*, organization_id: UUID) -> str:
    """Return the name of the current organization. Raises NotFound."""
    name = db.session.scalar(select(Organization.name).where(Organization.id == organization_id))
    if name is None:
        raise NotFound("no such organization")
    return name


def get_member(*, organization_id: UUID, user_id: UUID) -> MemberProfile:
    """Return a member of the current organization. Raises NotFound."""
    statement = (
        select(User.id, User.email, User.name, Organization.id, Organization.name, Membership.role)
        .select_from(Membership)
        .join(User, User.id == Membership.user_id)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(Membership.organization_id == organization_id, Membership.user_id == user_id)
    )
    row = db.session.execute(statement).first()
    if row is None:
        raise NotFound("no such member")
    return MemberProfile(*row)


def find_user_by_email(*, email: str) -> KnownUser | None:
    """Return the person of this normalised address; he enters the organization that he joined first."""
    return _known_user(User.email == email)


def find_user_by_id(*, user_id: UUID) -> KnownUser | None:
    """Return the person; he enters the organization that he joined first."""
    return _known_user(User.id == user_id)


def email_is_taken(*, email: str) -> bool:
    """Return whether somebody, in whatever organization, has this normalised address."""
    with system_session() as session:
        return bool(session.scalar(select(select(User.id).where(User.email == email).exists())))


def password_marks() -> frozenset[str]:
    """Return the schemes and costs of all stored passwords, as `auth.passwords.MARK` finds them."""
    found = func.substring(
        User.password_hash, r"\$2[aby]\$\d\d\$|\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$"
    )
    with system_session() as session:
        return frozenset(mark for mark in session.scalars(select(found).distinct()) if mark)


def organizations_overview() -> list[OrganizationOverview]:
    """Return every organization of this installation, the oldest first."""
    members = func.count(Membership.user_id)
    statement = (
        select(Organization.id, Organization.name, Organization.created_at, members)
        .outerjoin(Membership, Membership.organization_id == Organization.id)
        .where(Organization.deleted_at.is_(None))
        .group_by(Organization.id)
        .order_by(Organization.created_at, Organization.id)
    )
    with system_session() as session:
        return [OrganizationOverview(*row) for row in session.execute(statement)]


def _known_user(condition: ColumnElement[bool]) -> KnownUser | None:
    statement = (
        select(
            User.id,
            Organization.id,
            User.email,
            User.name,
            User.password_hash,
            User.epoch,
            User.disabled_at.is_not(None),
        )
        .outerjoin(Membership, Membership.user_id == User.id)
        .outerjoin(
            Organization,
            (Organization.id == Membership.organization_id) & Organization.deleted_at.is_(None),
        )
        .where(condition)
        .order_by(Organization.id.is_(None), Membership.created_at, Membership.organization_id)
        .limit(1)
    )
    with system_session() as session:
        row = session.execute(statement).first()
        return None if row is None else KnownUser(*row)
