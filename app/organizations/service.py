"""Founding organizations and taking people in; inside the transaction of the caller."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.extensions import db
from app.kit.errors import Conflict
from app.kit.ids import new_id
from app.kit.tenancy import current_organization_id
from app.organizations.models import Membership, Organization, User
from app.organizations.roles import Role


def found_organization(*, name: str, now: datetime) -> Organization:
    """Return the new organization; its id is the one that the caller entered beforehand."""
    organization = Organization(
        id=current_organization_id(), name=name, created_at=now, deleted_at=None
    )
    db.session.add(organization)
    db.session.flush()
    return organization


def add_user(*, email: str, name: str, password_hash: str | None, now: datetime) -> User:
    """Return the new person. Raises Conflict `email_taken` when the address is in use."""
    user = User(
        id=new_id(),
        email=email,
        name=name,
        password_hash=password_hash,
        password_changed_at=now if password_hash else None,
        epoch=0,
        created_at=now,
        updated_at=now,
        disabled_at=None,
    )
    try:
        with db.session.begin_nested():
            db.session.add(user)
    except IntegrityError as error:
        if "uq_users_email" not in str(error.orig):
            raise
        raise email_taken() from None
    return user


def add_member(*, user_id: UUID, role: Role, now: datetime) -> Membership:
    """Return the membership of a person in the current organization."""
    membership = Membership(
        organization_id=current_organization_id(), user_id=user_id, role=role, created_at=now
    )
    db.session.add(membership)
    db.session.flush()
    return membership


def email_taken() -> Conflict:
    """Return the refusal of an address that somebody has."""
    return Conflict("somebody has an account with this e-mail address", code="email_taken")
