"""How often one may be wrong: counted in PostgreSQL, so that it holds without Redis too.

Nothing is ever locked. What is counted are failures per place, and the owner's place is another
one than the attacker's (ASVS 5.0, 6.1.1). Each attempt is written down as a failure before it is
judged, in a transaction of its own, and taken back when it was right: a thousand at once are
a thousand failures, and no crash in between gives one for nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from app.auth.allowances import Allowance, Allowances
from app.auth.known_devices import account_key, device_id
from app.auth.models import AuthFailure
from app.auth.places import address_of, network_of
from app.extensions import db
from app.kit.errors import TooManyRequests
from app.kit.ids import new_id
from app.kit.logging import logger
from app.kit.tenancy import system_session

log = logger(__name__)

KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody who tries to prove that he owns an account; `known_as` when we know the device."""

    account: bytes
    ip: str | None
    known_as: str | None
    now: datetime

    @property
    def place(self) -> str:
        return self.known_as or f"network {network_of(self.ip)}"

    @property
    def address(self) -> str:
        # A known device counts by itself: a stranger behind the same address is not its owner.
        return self.known_as or address_of(self.ip)


@dataclass(frozen=True, slots=True)
class Guard:
    """From where somebody tries to prove who he is, and how often he may be wrong."""

    allowances: Allowances
    secret: str = field(repr=False)
    ip: str | None
    device_token: str | None = field(default=None, repr=False)
    session_id: UUID | None = None

    def begin(self, *, email: str, now: datetime) -> UUID:
        """Return the number of the attempt on this account. Raises TooManyRequests."""
        account = account_key(email, secret=self.secret)
        known_as = None
        if self.session_id is not None:
            known_as = f"session {self.session_id}"
        else:
            device = device_id(self.device_token, account, secret=self.secret, now=now)
            known_as = f"device {device}" if device else None
        attempt = Attempt(account, self.ip, known_as, now)
        return begin_attempt(attempt=attempt, allowances=self.allowances)


def begin_attempt(*, attempt: Attempt, allowances: Allowances) -> UUID:
    """Return the attempt's number, to be forgiven when it turns out right.

    Raises TooManyRequests with `Retry-After`, in the same words for an account that does not exist.
    """
    with system_session() as session:
        _wait_turn(session, attempt)
        wait = _wait_of(session, attempt, allowances)
        if wait is None:
            number = new_id()
            session.add(_row(number, attempt, kind=allowances.kind))
            return number
    log.warning("attempts_throttled", kind=allowances.kind, ip=attempt.ip, place=attempt.place)
    seconds = max(1, math.ceil(wait.total_seconds()))
    raise TooManyRequests(
        "too many failed attempts; wait, or use a device that you signed in from before",
        code="too_many_attempts",
        headers={"Retry-After": str(seconds)},
    )


def forgive_attempt(number: UUID) -> None:
    """Take back the failure of an attempt that was right."""
    with system_session() as session:
        session.execute(delete(AuthFailure).where(AuthFailure.id == number))


def forget_failures(*, now: datetime) -> None:
    """Delete failures that no allowance counts any more, as dg_system."""
    db.session.execute(delete(AuthFailure).where(AuthFailure.failed_at < now - KEPT))


def _wait_turn(session: Session, attempt: Attempt) -> None:
    # Two attempts of one address or account are counted one after the other; always in this order.
    for text in (attempt.address, attempt.account.hex()):
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(text, 7))))


def _wait_of(session: Session, attempt: Attempt, allowances: Allowances) -> timedelta | None:
    of_account = AuthFailure.account == attempt.account
    of_place = of_account & (AuthFailure.place == attempt.place)
    of_address = AuthFailure.address == attempt.address
    counted: list[tuple[ColumnElement[bool], Allowance]]
    counted = [(of_place, each) for each in allowances.place]
    counted += [(of_address, each) for each in allowances.address]
    if attempt.known_as is None:
        counted += [(of_account, each) for each in allowances.account]
    soft = allowances.everywhere
    if soft is not None and attempt.known_as is None:
        full = _until_free(session, attempt, allowances.kind, of_account, soft)
        if full is not None:
            counted += [(of_place, Allowance(1, each.window)) for each in allowances.place]
    waits = [
        _until_free(session, attempt, allowances.kind, condition, allowance)
        for condition, allowance in counted
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _until_free(
    session: Session,
    attempt: Attempt,
    kind: str,
    condition: ColumnElement[bool],
    allowance: Allowance,
) -> timedelta | None:
    oldest = session.scalar(
        select(AuthFailure.failed_at)
        .where(
            AuthFailure.kind == kind,
            condition,
            AuthFailure.failed_at > attempt.now - allowance.window,
        )
        .order_by(AuthFailure.failed_at.desc())
        .offset(allowance.failures - 1)
        .limit(1)
    )
    return None if oldest is None else oldest + allowance.window - attempt.now


def _row(number: UUID, attempt: Attempt, *, kind: str) -> AuthFailure:
    return AuthFailure(
        id=number,
        kind=kind,
        account=attempt.account,
        place=attempt.place,
        address=attempt.address,
        failed_at=attempt.now,
    )
