"""The key-encryption keys that this process was given: the current one, and an old one that still opens."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from flask import current_app
from sqlalchemy import text

from app.kit.encryption.envelope import KeyEncryptionKey, derived_key, unwrap
from app.kit.encryption.errors import EncryptionKeyLost, EncryptionNotConfigured
from app.kit.logging import logger
from app.kit.outbound.threads import off_the_loop
from app.kit.tenancy import system_session
from config import Config, KeyMaterial

log = logger(__name__)

_SALT = text("SELECT salt, iterations FROM passphrase_salts WHERE id = 1")
_deriving = Lock()


@dataclass(frozen=True, slots=True)
class KekRing:
    """What wraps new data keys, and what may open the existing ones."""

    current: KeyEncryptionKey
    old: KeyEncryptionKey | None = None

    def opened(self, *, organization_id: UUID, kid: UUID, kek_id: str, wrapped: bytes) -> bytes:
        """Return the data key. Raises EncryptionKeyLost when neither key wrapped it."""
        for kek in (self.current, self.old):
            if kek is not None and kek.id == kek_id:
                return unwrap(kek, wrapped, organization_id=organization_id, kid=kid)
        log.error("encryption_key_lost", kid=str(kid), kek_id=kek_id)
        raise EncryptionKeyLost(
            f"data key {kid} is wrapped by the key-encryption key {kek_id}, which is not given: "
            "set it as DEVGUARD_ENCRYPTION_OLD_KEY",
            kid=kid,
        )


def kek_ring() -> KekRing:
    """Return the key-encryption keys of this application; a passphrase is derived once per process.

    Raises EncryptionNotConfigured when there is none.
    """
    config: Config = current_app.extensions["devguard"]
    given = (config.encryption_key, config.encryption_old_key)
    known = current_app.extensions.get("devguard_keks")
    if known is None or known[0] != given:
        with _deriving:
            known = current_app.extensions.get("devguard_keks")
            if known is None or known[0] != given:
                known = (given, _made(*given))
                current_app.extensions["devguard_keks"] = known
    ring: KekRing = known[1]
    return ring


def _made(current: KeyMaterial | None, old: KeyMaterial | None) -> KekRing:
    if current is None:
        raise EncryptionNotConfigured(
            "nothing can be encrypted here before DEVGUARD_ENCRYPTION_KEY (or _KEY_FILE, or "
            "_PASSPHRASE) is set"
        )
    return KekRing(current=_kek(current), old=None if old is None else _kek(old))


def _kek(material: KeyMaterial) -> KeyEncryptionKey:
    if not material.passphrase:
        return KeyEncryptionKey.of(material.key)
    with system_session() as session:
        salt, iterations = session.execute(_SALT).one()
    # A quarter of a second: beside the event loop.
    key = off_the_loop(derived_key, material.passphrase, bytes(salt), iterations)
    return KeyEncryptionKey.of(key)
