"""Changing and destroying keys on live data.

The key-encryption key: every process is started with the new key beside the old one (.env.example says
how), then rotate_kek() rewraps the data keys; no field is touched. A data key: rotate_data_key() makes a
new one for what is written from now on; what is stored moves when it is written (renewed()) and by a job.
Retired keys stay, so what a late writer or a restored row holds opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.kit.encryption.columns import PLATFORM_ID
from app.kit.encryption.data_keys import insert_key, take_turns
from app.kit.encryption.envelope import wrap
from app.kit.encryption.errors import EncryptionKeyLost
from app.kit.encryption.keks import KekRing, kek_ring
from app.kit.encryption.key_cache import OPEN_KEYS
from app.kit.encryption.reencryption import request_reencryption
from app.kit.ids import new_id
from app.kit.logging import logger
from app.kit.tenancy import system_session

log = logger(__name__)

KEYS_PER_TRANSACTION = 500

_UNDER_ANOTHER_KEK = text(f"""
SELECT id, organization_id, wrapped_key, kek_id FROM data_keys
WHERE shredded_at IS NULL AND kek_id <> :kek_id AND id > :after
ORDER BY id LIMIT {KEYS_PER_TRANSACTION} FOR UPDATE
""")
_REWRAP = text("UPDATE data_keys SET wrapped_key = :wrapped_key, kek_id = :kek_id WHERE id = :kid")
_RETIRE = text("""
UPDATE data_keys SET retired_at = now()
WHERE organization_id = :organization_id AND retired_at IS NULL AND shredded_at IS NULL
""")
_SHRED = text("""
UPDATE data_keys SET wrapped_key = NULL, kek_id = NULL, shredded_at = now()
WHERE organization_id = :organization_id AND shredded_at IS NULL
""")
# An organization without a key must not get one later, either.
_TOMBSTONE = text("""
INSERT INTO data_keys (id, organization_id, shredded_at)
SELECT :kid, :organization_id, now()
WHERE NOT EXISTS (SELECT FROM data_keys WHERE organization_id = :organization_id)
""")
_KEKS = text("""
SELECT kek_id, count(*) FILTER (WHERE retired_at IS NULL) AS active,
       count(*) FILTER (WHERE retired_at IS NOT NULL) AS retired
FROM data_keys WHERE shredded_at IS NULL GROUP BY kek_id ORDER BY kek_id
""")
_KEYS = text("""
SELECT id, kek_id, created_at, retired_at, shredded_at FROM data_keys
WHERE organization_id = :organization_id ORDER BY created_at, id
""")


@dataclass(frozen=True, slots=True)
class KekRotation:
    """How many data keys the current key-encryption key took over, and which it could not."""

    kek_id: str
    rewrapped: int
    lost: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """How many data keys a key-encryption key wraps, and whether this process was given it."""

    kek_id: str
    role: str
    active: int
    retired: int


@dataclass(frozen=True, slots=True)
class KeyState:
    """One data key of an organization."""

    kid: UUID
    kek_id: str | None
    created_at: datetime
    retired_at: datetime | None
    shredded_at: datetime | None


def rotate_kek() -> KekRotation:
    """Wrap every data key under the current key-encryption key, 500 in a transaction of its own.

    Readers and writers go on meanwhile. `lost` are those that neither the current nor the old key opens;
    they stay as they are. A second run goes on where a first one was broken off.
    """
    ring, rewrapped, after = kek_ring(), 0, UUID(int=0)
    lost: list[UUID] = []
    while True:
        with system_session() as session:
            wanted = {"kek_id": ring.current.id, "after": after}
            rows = session.execute(_UNDER_ANOTHER_KEK, wanted).all()
            for row in rows:
                changed = _rewrapped(ring, row)
                if changed is None:
                    lost.append(row.id)
                else:
                    session.execute(_REWRAP, changed)
                    rewrapped += 1
        if len(rows) < KEYS_PER_TRANSACTION:
            break
        after = rows[-1].id
    OPEN_KEYS.clear()
    log.info("kek_rotated", kek_id=ring.current.id, rewrapped=rewrapped, lost=len(lost))
    return KekRotation(kek_id=ring.current.id, rewrapped=rewrapped, lost=tuple(lost))


def rotate_data_key(*, organization_id: UUID) -> UUID:
    """Give the organization a new data key, and ask for its stored values to be moved; return the kid.

    The key is made at once, in a transaction of its own, and used by every process within two seconds;
    the work is asked for in the caller's transaction. Raises EncryptionKeyShredded.
    """
    request_reencryption(organization_id)
    with system_session() as session:
        take_turns(session, organization_id)
        session.execute(_RETIRE, {"organization_id": organization_id})
        kid = insert_key(session, organization_id)
    OPEN_KEYS.forget(organization_id)
    log.info("data_key_rotated", kid=str(kid), organization_id=str(organization_id))
    return kid


def shred_organization(*, organization_id: UUID) -> int:
    """Destroy the organization's data keys; return how many. Nothing brings its values back.

    At once and in a transaction of its own. Other processes forget the keys within two seconds. It is
    complete when the database's backups and write-ahead logs that hold the wrapped keys have expired.
    Raises ValueError for PLATFORM_ID: people's secrets are nobody's to destroy.
    """
    if organization_id == PLATFORM_ID:
        raise ValueError("the platform's data keys are never shredded")
    with system_session() as session:
        take_turns(session, organization_id)
        shredded: Any = session.execute(_SHRED, {"organization_id": organization_id})
        session.execute(_TOMBSTONE, {"organization_id": organization_id, "kid": new_id()})
    OPEN_KEYS.forget(organization_id)
    log.info("data_keys_shredded", organization_id=str(organization_id), keys=shredded.rowcount)
    return int(shredded.rowcount)


def wrapped_keys() -> list[WrappedKeys]:
    """Return the key-encryption keys that data keys are under: `current`, `old`, or `lost` when not given."""
    ring = kek_ring()
    with system_session() as session:
        rows = session.execute(_KEKS).all()
    counts = {row.kek_id: (row.active, row.retired) for row in rows}
    counts.setdefault(ring.current.id, (0, 0))
    return [WrappedKeys(kek_id, _role(ring, kek_id), *counts[kek_id]) for kek_id in sorted(counts)]


def keys_of_organization(*, organization_id: UUID) -> list[KeyState]:
    """Return the organization's data keys, oldest first."""
    with system_session() as session:
        rows = session.execute(_KEYS, {"organization_id": organization_id}).all()
    return [
        KeyState(row.id, row.kek_id, row.created_at, row.retired_at, row.shredded_at)
        for row in rows
    ]


def _rewrapped(ring: KekRing, row: Any) -> dict[str, object] | None:
    where = {"organization_id": row.organization_id, "kid": row.id}
    try:
        data_key = ring.opened(**where, kek_id=row.kek_id, wrapped=bytes(row.wrapped_key))
    except EncryptionKeyLost:
        return None
    wrapped = wrap(ring.current, data_key, **where)
    return {"kid": row.id, "wrapped_key": wrapped, "kek_id": ring.current.id}


def _role(ring: KekRing, kek_id: str) -> str:
    if kek_id == ring.current.id:
        return "current"
    return "old" if ring.old is not None and ring.old.id == kek_id else "lost"
