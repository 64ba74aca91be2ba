"""Finding and making the data keys of an organization."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.orm import Session

from app.extensions import db
from app.kit.encryption.columns import PLATFORM_ID
from app.kit.encryption.envelope import KEY_BYTES, wrap
from app.kit.encryption.errors import EncryptionKeyLost, EncryptionKeyShredded
from app.kit.encryption.keks import kek_ring
from app.kit.encryption.key_cache import OPEN_KEYS, OpenKey
from app.kit.ids import new_id
from app.kit.logging import logger
from app.kit.tenancy import NoOrganization, current_organization_id, system_session

log = logger(__name__)

_COLUMNS = "id, organization_id, wrapped_key, kek_id, retired_at, shredded_at"
_ACTIVE = text(f"""
SELECT {_COLUMNS} FROM data_keys
WHERE organization_id = :organization_id AND retired_at IS NULL AND shredded_at IS NULL
""")
_ONE = text(
    f"SELECT {_COLUMNS} FROM data_keys WHERE organization_id = :organization_id AND id = :kid"
)
_SHREDDED = text("""
SELECT id FROM data_keys
WHERE organization_id = :organization_id AND shredded_at IS NOT NULL LIMIT 1
""")
# Making, rotating and shredding the keys of one organization take turns.
_TAKE_TURNS = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('data_keys|' || CAST(:organization_id AS text), 0))"
)
_INSERT = text("""
INSERT INTO data_keys (id, organization_id, wrapped_key, kek_id)
VALUES (:kid, :organization_id, :wrapped_key, :kek_id)
""")


def active_key(organization_id: UUID) -> OpenKey:
    """Return the key that encrypts what the organization writes now, made at its first secret.

    Raises EncryptionKeyLost, EncryptionKeyShredded, EncryptionNotConfigured, and RuntimeError inside
    another organization.
    """
    current = _current_organization(organization_id)
    clock_s = time.monotonic()
    key = OPEN_KEYS.find(organization_id, None, clock_s=clock_s)
    if key is None:
        row = _read(_ACTIVE, current, organization_id=organization_id) or _made(organization_id)
        key = _opened(row)
        OPEN_KEYS.keep(key, clock_s=clock_s)
    return key


def key_of(organization_id: UUID, kid: UUID) -> OpenKey:
    """Return the organization's key of this id; raises as active_key()."""
    current = _current_organization(organization_id)
    clock_s = time.monotonic()
    key = OPEN_KEYS.find(organization_id, kid, clock_s=clock_s)
    if key is None:
        row = _read(_ONE, current, organization_id=organization_id, kid=kid)
        if row is None:
            log.error("encryption_key_lost", kid=str(kid))
            raise EncryptionKeyLost(f"the organization has no data key {kid}", kid=kid)
        key = _opened(row)
        OPEN_KEYS.keep(key, clock_s=clock_s)
    return key


def take_turns(session: Session, organization_id: UUID) -> None:
    """Wait until nobody else changes the organization's keys; until the transaction ends nobody does."""
    session.execute(_TAKE_TURNS, {"organization_id": organization_id})


def insert_key(session: Session, organization_id: UUID) -> UUID:
    """Write a new key; return its kid. Raises EncryptionKeyShredded for a shredded organization."""
    shredded = session.scalar(_SHREDDED, {"organization_id": organization_id})
    if shredded is not None:
        raise EncryptionKeyShredded("the organization's data keys were shredded", kid=shredded)
    kid, kek = new_id(), kek_ring().current
    wrapped = wrap(kek, os.urandom(KEY_BYTES), organization_id=organization_id, kid=kid)
    values = {"kid": kid, "wrapped_key": wrapped, "kek_id": kek.id}
    session.execute(_INSERT, {**values, "organization_id": organization_id})
    return kid


def _made(organization_id: UUID) -> Any:
    # In a transaction of its own: were it the caller's, a rollback would take the key away from
    # those who have already encrypted under it.
    with system_session() as session:
        take_turns(session, organization_id)
        wanted = {"organization_id": organization_id}
        if session.execute(_ACTIVE, wanted).one_or_none() is None:
            kid = insert_key(session, organization_id)
            log.info("data_key_made", kid=str(kid), organization_id=str(organization_id))
        return session.execute(_ACTIVE, wanted).one()


def _opened(row: Any) -> OpenKey:
    if row.shredded_at is not None:
        raise EncryptionKeyShredded(
            f"data key {row.id} was shredded: what it encrypted is unreadable for good", kid=row.id
        )
    data_key = kek_ring().opened(
        organization_id=row.organization_id,
        kid=row.id,
        kek_id=row.kek_id,
        wrapped=bytes(row.wrapped_key),
    )
    return OpenKey(
        id=row.id,
        organization_id=row.organization_id,
        cipher=AESGCM(data_key),
        is_active=row.retired_at is None,
    )


def _current_organization(organization_id: UUID) -> UUID | None:
    """Return where we are. Raises RuntimeError where the organization's secrets are another one's."""
    # Before the cache is asked: it holds the open keys of every organization.
    try:
        current = current_organization_id()
    except NoOrganization:
        return None
    if organization_id not in {current, PLATFORM_ID}:
        raise RuntimeError("one organization never reads the secrets of another")
    return current


def _read(
    statement: TextClause, current: UUID | None, *, organization_id: UUID, **values: UUID
) -> Any:
    with _reader(organization_id, current) as connection:
        found = connection.execute(statement, {"organization_id": organization_id, **values})
        return found.one_or_none()


@contextmanager
def _reader(organization_id: UUID, current: UUID | None) -> Iterator[Connection]:
    """The caller's own transaction where it may see the organization's keys, else a system session.

    A second connection for every read would let a full pool wait for itself.
    """
    is_system = db.session().info.get("role") == "dg_system"
    if current == organization_id or is_system:
        # Its connection, not the session: half-made rows of the caller are not flushed by a read.
        yield db.session().connection()
    else:
        with system_session() as session:
            yield session.connection()
