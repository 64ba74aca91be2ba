"""Accounts: registering, proving who one is, and changing the password."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import update

from app.audit.context import Doer, act_as
from app.audit.service import record
from app.auth.challenges import find_challenge
from app.auth.passwords import PasswordHasher, is_too_easy
from app.auth.queries.factors import has_confirmed_totp
from app.auth.service.factors import disable_totp, is_right_code, new_epoch, record_recovery
from app.auth.service.padding import marks_in_use
from app.auth.service.sessions import end_sessions_of
from app.auth.service.throttle import Guard, forgive_attempt
from app.auth.threads import off_the_loop
from app.extensions import db
from app.kit.errors import Fault, Forbidden, InvalidPayload, NotFound, Unauthorized
from app.kit.ids import new_id
from app.kit.logging import logger
from app.kit.tenancy import enter_organization
from app.organizations.models import Organization, User
from app.organizations.queries import KnownUser, email_is_taken, find_user_by_email, find_user_by_id
from app.organizations.roles import Role
from app.organizations.service import add_member, add_user, email_taken, found_organization

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody tells us who wants an organization of his own."""

    email: str
    password: str
    name: str
    organization_name: str


@dataclass(frozen=True, slots=True)
class ProvenUser:
    """A person who has shown that he is who he says, and the organization that he enters."""

    user_id: UUID
    organization_id: UUID
    email: str
    epoch: int
    has_mfa: bool = False


def register_account(
    *,
    registration: Registration,
    hasher: PasswordHasher,
    doer: Doer | None,
    ip: str | None,
    now: datetime,
) -> ProvenUser:
    """Return the new person, owner of a new organization that this request is in from here on.

    `doer` is who registers him, None when he does it himself, from `ip`. Raises Conflict `email_taken`,
    InvalidPayload for a password that is too easy.
    """
    own_words = (registration.email, registration.name, registration.organization_name)
    refuse_easy_password(
        registration.password, own_words=own_words, pointer="/password", hasher=hasher
    )
    if email_is_taken(email=registration.email):
        raise email_taken()
    password_hash = off_the_loop(hasher.hashed, registration.password)
    enter_organization(new_id())
    organization = found_organization(name=registration.organization_name, now=now)
    user = add_user(
        email=registration.email, name=registration.name, password_hash=password_hash, now=now
    )
    add_member(user_id=user.id, role=Role.OWNER, now=now)
    act_as(doer or Doer(kind="user", id=user.id, label=user.email, ip=ip))
    _record_account(user, organization, event="user.created" if doer else "user.registered")
    return ProvenUser(user.id, organization.id, user.email, user.epoch)


def proven_user(
    *, email: str, password: str, hasher: PasswordHasher, guard: Guard, now: datetime
) -> ProvenUser:
    """Return the person whose e-mail and password these are, in whose organization we are then.

    Raises Unauthorized in the same words and time for a wrong password, an unknown address and a
    disabled account; TooManyRequests; Forbidden for a person whom no organization holds any more.
    """
    attempt = guard.begin(email=email, now=now)
    known = find_user_by_email(email=email)
    stored = known.password_hash if known else None
    is_right = off_the_loop(hasher.matches, password, stored)
    if known is None or known.is_disabled or not is_right:
        off_the_loop(hasher.pad_refusal, password, stored, marks_in_use())
        log.info("login_refused", user_id=str(known.user_id) if known else None)
        raise Unauthorized("e-mail or password is wrong", code="invalid_credentials")
    forgive_attempt(attempt)
    if known.organization_id is None:
        raise Forbidden("no organization has you as a member", code="no_organization")
    enter_organization(known.organization_id)
    act_as(Doer(kind="user", id=known.user_id, label=known.email, ip=guard.ip))
    if stored is not None and hasher.is_outdated(stored):
        _renew_hash(known.user_id, off_the_loop(hasher.hashed, password))
    has_mfa = has_confirmed_totp(user_id=known.user_id)
    return ProvenUser(known.user_id, known.organization_id, known.email, known.epoch, has_mfa)


def proven_by_code(*, challenge: str, code: str, guard: Guard, now: datetime) -> ProvenUser:
    """Return the person whose second step this is, in whose organization we are then.

    Raises Unauthorized for a challenge or code that is not right, TooManyRequests.
    """
    ticket = find_challenge(challenge, secret=guard.secret)
    known = find_user_by_id(user_id=ticket.user_id) if ticket else None
    if ticket is None or known is None or known.is_disabled or known.epoch != ticket.epoch:
        raise Unauthorized("begin again with the password", code="invalid_challenge")
    if known.organization_id is None:
        raise Forbidden("no organization has you as a member", code="no_organization")
    factor = is_right_code(
        user_id=known.user_id,
        email=known.email,
        code=code,
        key=guard.secret,
        guard=guard,
        now=now,
    )
    if factor is None:
        log.info("mfa_refused", user_id=str(known.user_id))
        raise Unauthorized("the code is wrong, or was used before", code="invalid_mfa_code")
    enter_organization(known.organization_id)
    act_as(Doer(kind="user", id=known.user_id, label=known.email, ip=guard.ip))
    if factor == "recovery":
        record_recovery(user_id=known.user_id, email=known.email)
    return ProvenUser(known.user_id, known.organization_id, known.email, known.epoch)


def confirmed_user(
    *, user_id: UUID, password: str, hasher: PasswordHasher, guard: Guard, now: datetime
) -> KnownUser:
    """Return the signed-in person, whose password this is.

    Raises Forbidden `wrong_password`, TooManyRequests.
    """
    known = find_user_by_id(user_id=user_id)
    if known is None:
        raise Forbidden("the current password is wrong", code="wrong_password")
    attempt = guard.begin(email=known.email, now=now)
    if not off_the_loop(hasher.matches, password, known.password_hash):
        raise Forbidden("the current password is wrong", code="wrong_password")
    forgive_attempt(attempt)
    return known


def change_password(
    *, user_id: UUID, current: str, new: str, hasher: PasswordHasher, guard: Guard, now: datetime
) -> int:
    """Store the new password and return the user's new epoch, in which no session is alive yet.

    Raises Forbidden `wrong_password`, TooManyRequests, InvalidPayload for a new one that is too easy.
    """
    known = confirmed_user(user_id=user_id, password=current, hasher=hasher, guard=guard, now=now)
    own_words = (known.email, known.name)
    refuse_easy_password(new, own_words=own_words, pointer="/new_password", hasher=hasher)
    epoch = _store_password(user_id, off_the_loop(hasher.hashed, new), now=now)
    _record_password(known, event="user.password_changed")
    return epoch


def reset_password(
    *, email: str, password: str, hasher: PasswordHasher, doer: Doer, now: datetime
) -> None:
    """Give a person a new password and end all his sessions, in every organization.

    Raises NotFound for an unknown address, Forbidden for a person without an organization,
    InvalidPayload for a password that is too easy.
    """
    known = find_user_by_email(email=email)
    if known is None:
        raise NotFound("nobody has this e-mail address")
    if known.organization_id is None:
        raise Forbidden("no organization has this person as a member", code="no_organization")
    own_words = (known.email, known.name)
    refuse_easy_password(password, own_words=own_words, pointer="/password", hasher=hasher)
    enter_organization(known.organization_id)
    act_as(doer)
    _store_password(known.user_id, off_the_loop(hasher.hashed, password), now=now)
    end_sessions_of(user_id=known.user_id, now=now)
    _record_password(known, event="user.password_reset")


def reset_factor(*, email: str, doer: Doer) -> None:
    """Take the second factor from a person who lost it, and end his sessions everywhere.

    Raises NotFound for an unknown address, Forbidden for a person without an organization, Conflict
    for one without a second factor.
    """
    known = find_user_by_email(email=email)
    if known is None:
        raise NotFound("nobody has this e-mail address")
    if known.organization_id is None:
        raise Forbidden("no organization has this person as a member", code="no_organization")
    enter_organization(known.organization_id)
    act_as(doer)
    disable_totp(user_id=known.user_id, email=known.email)
    new_epoch(user_id=known.user_id)


def refuse_easy_password(
    password: str, *, own_words: tuple[str, ...], pointer: str, hasher: PasswordHasher
) -> None:
    """Raise InvalidPayload for a password that repeats itself, its owner's words, or a thousand others'."""
    fault = None
    if is_too_easy(password, own_words=own_words):
        rule = "must not be your own name, address or organization, nor repeat a few characters"
        fault = Fault(pointer, "password_too_easy", rule)
    elif off_the_loop(hasher.is_breached, password):
        fault = Fault(pointer, "password_breached", "is on the lists that attackers try first")
    if fault is not None:
        raise InvalidPayload("the password is too easy to guess", faults=[fault])


def _store_password(user_id: UUID, password_hash: str, *, now: datetime) -> int:
    # A new epoch ends the sessions of every organization, those that this one cannot see included.
    return db.session.execute(
        update(User)
        .where(User.id == user_id)
        .values(
            password_hash=password_hash,
            password_changed_at=now,
            updated_at=now,
            epoch=User.epoch + 1,
        )
        .returning(User.epoch)
    ).scalar_one()


def _renew_hash(user_id: UUID, password_hash: str) -> None:
    # The same password at the cost that is set now: no session ends by it.
    db.session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


def _record_account(user: User, organization: Organization, *, event: str) -> None:
    record(
        event="organization.created",
        target_kind="organization",
        target_id=organization.id,
        target_label=organization.name,
        after={"name": organization.name},
    )
    record(
        event=event,
        target_kind="user",
        target_id=user.id,
        target_label=user.email,
        after={"email": user.email, "name": user.name, "role": Role.OWNER},
    )


def _record_password(known: KnownUser, *, event: str) -> None:
    record(event=event, target_kind="user", target_id=known.user_id, target_label=known.email)
