"""What becomes of a key after it was made: changed, rotated, reported as leaked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.audit.context import Doer, act_as
from app.audit.service import changes
from app.auth.key_cache import KEYS
from app.auth.key_format import LEAKED, KeyKind, digest_of, is_well_formed, new_key
from app.auth.models import ApiKey
from app.auth.queries.api_keys import find_api_key_by_digest, find_key_organization
from app.auth.service.api_keys import (
    LONGEST_LIFETIME,
    WantedKey,
    audited_fields,
    manageable_key,
    new_key_row,
    record_key,
    require_scope,
)
from app.extensions import db
from app.kit.actor import Actor
from app.kit.errors import Conflict, Fault, Forbidden, InvalidPayload
from app.kit.logging import logger
from app.kit.tenancy import enter_organization

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What somebody found, and where."""

    text: str
    source: str | None
    url: str | None
    ip: str | None


def update_api_key(
    *, actor: Actor, api_key_id: UUID, name: str | None, allowed_ips: tuple[str, ...] | None
) -> ApiKey:
    """Return the key with its new name and networks; None keeps what is. Raises NotFound, Forbidden."""
    key = manageable_key(actor=actor, api_key_id=api_key_id)
    before = audited_fields(key)
    if name is not None:
        key.name = name
    if allowed_ips is not None:
        key.allowed_ips = list(allowed_ips)
    KEYS.forget(key.id)
    old, new = changes(before=before, after=audited_fields(key))
    record_key(event="api_key.updated", key=key, before=old, after=new)
    return key


def rotate_api_key(
    *,
    actor: Actor,
    api_key_id: UUID,
    overlap: timedelta,
    expires_at: datetime | None,
    now: datetime,
) -> tuple[ApiKey, str]:
    """Return a new key like this one and its secret text; the old one ends after the overlap.

    The new one lives as long as the old one was given, unless told otherwise. Raises NotFound,
    Forbidden, Conflict for a key that was rotated or has expired, InvalidPayload.
    """
    old = manageable_key(actor=actor, api_key_id=api_key_id)
    _refuse_rotation(actor, old, now)
    until = expires_at or now + (old.expires_at - old.created_at)
    if not now < until <= now + LONGEST_LIFETIME:
        rule = Fault("/expires_at", "out_of_range", "must lie ahead, at most five years")
        raise InvalidPayload("the key breaks the rules", faults=[rule])
    key, secret = _successor(actor, old, until=until, now=now)
    before = audited_fields(old)
    old.rotated_to = key.id
    old.expires_at = min(old.expires_at, now + overlap)
    KEYS.forget(old.id)
    _, ends = changes(before=before, after=audited_fields(old))
    record_key(event="api_key.rotated", key=old, after={"rotated_to_id": key.id, **ends})
    return key, secret


def report_leak(*, report: LeakReport, now: datetime) -> None:
    """Revoke the key that the text holds, if it holds one of ours that is alive; else do nothing."""
    found = LEAKED.search(report.text)
    if found is None or not is_well_formed(found.group()):
        return
    digest = digest_of(found.group())
    organization_id = find_key_organization(digest=digest)
    if organization_id is None:
        return
    enter_organization(organization_id)
    act_as(Doer(kind="system", id=None, label="leak report", ip=report.ip))
    key = find_api_key_by_digest(organization_id=organization_id, digest=digest)
    if key is None:
        return
    key.revoked_at = now
    KEYS.forget(key.id)
    where = {"source": report.source, "url": report.url}
    record_key(event="api_key.leaked", key=key, before=audited_fields(key), after=where)
    log.warning("api_key_leaked", key_id=str(key.id), source=report.source)


def _refuse_rotation(actor: Actor, old: ApiKey, now: datetime) -> None:
    # The new secret acts as the key's person, so nobody else may hold it, an admin neither.
    if old.kind == KeyKind.PERSONAL and old.user_id != actor.user_id:
        raise Forbidden("a personal key is rotated by its person only", code="not_your_key")
    if old.kind == KeyKind.SERVICE:
        for scope in sorted(old.scopes):
            require_scope(actor=actor, scope=scope)
    if old.rotated_to is not None:
        raise Conflict("the key was rotated; rotate the one after it", code="already_rotated")
    if old.expires_at <= now:
        raise Conflict("the key has expired; make a new one", code="api_key_expired")


def _successor(actor: Actor, old: ApiKey, *, until: datetime, now: datetime) -> tuple[ApiKey, str]:
    kind = KeyKind(old.kind)
    secret = new_key(kind)
    wanted = WantedKey(
        kind=kind,
        name=old.name,
        project_id=old.project_id,
        scopes=frozenset(old.scopes),
        expires_at=until,
        allowed_ips=tuple(old.allowed_ips),
    )
    key = new_key_row(
        actor=actor, wanted=wanted, scopes=frozenset(old.scopes), secret=secret, now=now
    )
    db.session.add(key)
    db.session.flush()
    record_key(event="api_key.created", key=key, after=audited_fields(key))
    return key, secret
