"""The kept answers of POST requests with an idempotency key, and forgetting them after a day."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, SmallInteger, Text, delete, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model, db
from app.kit.jobs import platform_task

MOMENT = TIMESTAMP(timezone=True)
KEPT = timedelta(hours=24)

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:number)")
_FORGET = text("DELETE FROM idempotency_keys WHERE expires_at <= now()")


class IdempotencyKey(Model):
    """What one actor was answered on one route for one key of his; of a secret answer no body is kept."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("length(key) BETWEEN 1 AND 255", name="key_length"),
        CheckConstraint("octet_length(request_sha256) = 32", name="is_sha256"),
        CheckConstraint("is_replayable OR octet_length(body) = 0", name="secrets_are_not_kept"),
        Index(None, "expires_at"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    actor_id: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_sha256: Mapped[bytes]
    is_replayable: Mapped[bool]
    status: Mapped[int] = mapped_column(SmallInteger)
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB)
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)


@dataclass(frozen=True, slots=True)
class KeyScope:
    """Whose key it is, and on which route: another actor or route may use the same one."""

    organization_id: UUID
    actor_id: UUID
    route: str
    key: str

    def lock_number(self) -> int:
        """Return the number of the advisory lock that one request with this key holds."""
        parts = (str(self.organization_id), str(self.actor_id), self.route, self.key)
        digest = hashlib.sha256("\x00".join(("idempotency", *parts)).encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def try_lock(scope: KeyScope) -> bool:
    """Return whether no other request with this key runs; then none can until our transaction ends."""
    return bool(db.session.scalar(_TRY_LOCK, {"number": scope.lock_number()}))


def find_kept(scope: KeyScope, *, now: datetime) -> IdempotencyKey | None:
    """Return what was answered in the last 24 hours, None when the key is new or forgotten."""
    identity = (scope.organization_id, scope.actor_id, scope.route, scope.key)
    kept = db.session.get(IdempotencyKey, identity)
    if kept is None or kept.expires_at > now:
        return kept
    db.session.execute(delete(IdempotencyKey).where(*_is(scope)))
    db.session.expunge(kept)
    return None


def forget_expired() -> None:
    """Delete the keys that are older than 24 hours."""
    db.session.execute(_FORGET)


@platform_task("kit.forget_idempotency_keys")
def forget_idempotency_keys() -> None:
    """Delete the idempotency keys that are older than 24 hours."""
    forget_expired()


def _is(scope: KeyScope) -> tuple[Any, ...]:
    return (
        IdempotencyKey.organization_id == scope.organization_id,
        IdempotencyKey.actor_id == scope.actor_id,
        IdempotencyKey.route == scope.route,
        IdempotencyKey.key == scope.key,
    )
