"""Second factors: enrolling an authenticator app, recognising its codes, recovery codes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.audit.service import record
from app.auth import totp
from app.auth.allowances import RECOVERY, TOTP
from app.auth.key_format import digest_of
from app.auth.mfa_secrets import opened_secret, sealed_secret
from app.auth.models import RecoveryCode, UserTotp
from app.auth.queries.factors import (
    factor_overview,
    find_totp_secret,
    has_confirmed_totp,
    is_mfa_required,
)
from app.auth.service.throttle import Guard, forgive_attempt
from app.extensions import db
from app.kit.errors import Conflict, Forbidden
from app.kit.ids import new_id
from app.kit.tenancy import current_organization_id, system_session
from app.organizations.models import Organization, User


@dataclass(frozen=True, slots=True)
class Offer:
    """A new secret, shown this once; it counts when a code of it was seen."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)
    qr_svg: str = field(repr=False)


def offer_totp(*, user_id: UUID, email: str, key: str, now: datetime) -> Offer:
    """Return a new secret for the person's app; an earlier offer is void. Raises Conflict."""
    if has_confirmed_totp(user_id=user_id):
        raise Conflict("an authenticator app is enrolled; disable it first", code="mfa_enrolled")
    secret = totp.new_secret()
    fields = {
        "secret": sealed_secret(secret, user_id=user_id, key=key),
        "created_at": now,
        "confirmed_at": None,
        "last_step": None,
    }
    statement = insert(UserTotp).values(user_id=user_id, **fields)
    # A confirmed one stays, also when two offers and a confirmation meet.
    db.session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id"], set_=fields, where=UserTotp.confirmed_at.is_(None)
        )
    )
    uri = totp.otpauth_uri(secret, email=email)
    return Offer(totp.secret_text(secret), uri, totp.qr_svg(uri))


def confirm_totp(
    *, user_id: UUID, email: str, code: str, key: str, guard: Guard, now: datetime
) -> list[str]:
    """Make the offered app the person's second factor; return his recovery codes.

    Raises Conflict when nothing is offered, Forbidden `wrong_code`, TooManyRequests.
    """
    stored = find_totp_secret(user_id=user_id, is_confirmed=False)
    if stored is None:
        raise Conflict("begin with POST /api/v1/auth/mfa/totp", code="mfa_not_offered")
    attempt = replace(guard, allowances=TOTP).begin(email=email, now=now)
    secret = opened_secret(stored, user_id=user_id, key=key)
    step = totp.matching_step(secret, code, now_s=now.timestamp())
    if step is None or not _is_confirmed_now(user_id, step=step, now=now):
        raise _wrong_code()
    forgive_attempt(attempt)
    _record("mfa.enabled", user_id=user_id, email=email)
    return _renewed_codes(user_id, now=now)


def disable_totp(*, user_id: UUID, email: str) -> None:
    """Remove the person's second factor with its recovery codes. Raises Conflict when he has none."""
    gone = db.session.scalar(
        delete(UserTotp)
        .where(UserTotp.user_id == user_id, UserTotp.confirmed_at.is_not(None))
        .returning(UserTotp.user_id)
    )
    if gone is None:
        raise _not_enrolled()
    db.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    _record("mfa.disabled", user_id=user_id, email=email)


def renew_recovery_codes(*, user_id: UUID, email: str, now: datetime) -> list[str]:
    """Return ten new codes; the earlier ones are void. Raises Conflict without a second factor."""
    if not has_confirmed_totp(user_id=user_id):
        raise _not_enrolled()
    _record("mfa.recovery_codes_renewed", user_id=user_id, email=email)
    return _renewed_codes(user_id, now=now)


def is_right_code(
    *, user_id: UUID, email: str, code: str, key: str, guard: Guard, now: datetime
) -> str | None:
    """Return "totp" or "recovery" for a right code, which is used up then; None for a wrong one.

    Raises TooManyRequests.
    """
    is_totp = totp.looks_like_totp(code)
    allowances = TOTP if is_totp else RECOVERY
    attempt = replace(guard, allowances=allowances).begin(email=email, now=now)
    if is_totp and _used_step(user_id, code, key=key, now=now):
        forgive_attempt(attempt)
        return "totp"
    if not is_totp and _used_recovery_code(user_id, code, now=now):
        forgive_attempt(attempt)
        return "recovery"
    return None


def require_mfa(*, user_id: UUID, is_required: bool) -> None:
    """Make the current organization want a second factor of its members, or no longer.

    Raises Conflict for an owner who has none himself: he would lock himself out.
    """
    if is_required and not has_confirmed_totp(user_id=user_id):
        raise _not_enrolled()
    organization_id = current_organization_id()
    before = is_mfa_required(organization_id=organization_id)
    db.session.execute(
        update(Organization)
        .where(Organization.id == organization_id)
        .values(mfa_required=is_required)
    )
    record(
        event="organization.mfa_policy_changed",
        target_kind="organization",
        target_id=organization_id,
        target_label=str(organization_id),
        before={"mfa_required": before},
        after={"mfa_required": is_required},
    )


def new_epoch(*, user_id: UUID) -> int:
    """Return the person's next epoch, in which no session is alive yet, in no organization."""
    return db.session.execute(
        update(User).where(User.id == user_id).values(epoch=User.epoch + 1).returning(User.epoch)
    ).scalar_one()


def record_recovery(*, user_id: UUID, email: str) -> None:
    """Write down that a recovery code was used, and how many are left."""
    left = factor_overview(user_id=user_id).recovery_codes_left
    record(
        event="mfa.recovery_code_used",
        target_kind="user",
        target_id=user_id,
        target_label=email,
        after={"left": left},
    )


def _is_confirmed_now(user_id: UUID, *, step: int, now: datetime) -> bool:
    confirmed = db.session.scalar(
        update(UserTotp)
        .where(UserTotp.user_id == user_id, UserTotp.confirmed_at.is_(None))
        .values(confirmed_at=now, last_step=step)
        .returning(UserTotp.user_id)
    )
    return confirmed is not None


def _used_step(user_id: UUID, code: str, *, key: str, now: datetime) -> bool:
    stored = find_totp_secret(user_id=user_id, is_confirmed=True)
    if stored is None:
        return False
    secret = opened_secret(stored, user_id=user_id, key=key)
    step = totp.matching_step(secret, code, now_s=now.timestamp())
    if step is None:
        return False
    # At once and by one statement: of two who bring the same code, one is refused.
    unused = or_(UserTotp.last_step.is_(None), UserTotp.last_step < step)
    with system_session() as session:
        taken = session.scalar(
            update(UserTotp)
            .where(UserTotp.user_id == user_id, unused)
            .values(last_step=step)
            .returning(UserTotp.user_id)
        )
    return taken is not None


def _used_recovery_code(user_id: UUID, code: str, *, now: datetime) -> bool:
    digest = digest_of(totp.plain_recovery_code(code))
    with system_session() as session:
        has_totp = select(UserTotp.user_id).where(
            UserTotp.user_id == user_id, UserTotp.confirmed_at.is_not(None)
        )
        taken = session.scalar(
            update(RecoveryCode)
            .where(
                RecoveryCode.user_id.in_(has_totp),
                RecoveryCode.code_sha256 == digest,
                RecoveryCode.used_at.is_(None),
            )
            .values(used_at=now)
            .returning(RecoveryCode.id)
        )
    return taken is not None


def _renewed_codes(user_id: UUID, *, now: datetime) -> list[str]:
    db.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = totp.new_recovery_codes()
    for code in codes:
        digest = digest_of(totp.plain_recovery_code(code))
        row = RecoveryCode(
            id=new_id(), user_id=user_id, code_sha256=digest, created_at=now, used_at=None
        )
        db.session.add(row)
    return codes


def _record(event: str, *, user_id: UUID, email: str) -> None:
    record(event=event, target_kind="user", target_id=user_id, target_label=email)


def _wrong_code() -> Forbidden:
    return Forbidden("the code is wrong, or of another time", code="wrong_code")


def _not_enrolled() -> Conflict:
    return Conflict("you have no second factor; enrol one first", code="mfa_not_enrolled")
