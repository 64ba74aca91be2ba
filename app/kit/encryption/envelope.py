"""The formats: sealing a field under a data key, and a data key under a key-encryption key. Pure.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits: section 8.3 allows 2**32 values under one
key, so one data key serves an organization for 4 billion writes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from binascii import Error, a2b_base64, b2a_base64
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.kit.encryption.errors import DecryptionFailed, EncryptionKeyLost

VERSION = "v1"
NONCE_BYTES = 12
KEY_BYTES = 32
TAG_BYTES = 16
UNREADABLE = "the stored text was changed, or belongs to another organization, table, column or row"


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """The key above the data keys; its id tells which one wrapped them and nothing about it."""

    id: str
    cipher: AESGCM

    @classmethod
    def of(cls, key: bytes) -> KeyEncryptionKey:
        """Return the key of these 32 bytes."""
        digest = hmac.digest(key, b"devguard key-encryption key id", hashlib.sha256)
        return cls(id=digest[:8].hex(), cipher=AESGCM(key))


def place(organization_id: UUID, table: str, column: str, row_id: UUID) -> bytes:
    """Return where a value lives, as it is authenticated with the value."""
    return f"{organization_id}|{table}|{column}|{row_id}".encode()


def seal(cipher: AESGCM, kid: str, value: str, *, where: bytes) -> str:
    """Return `v1:kid:nonce:ciphertext` of the value; nonce and ciphertext are base64 (RFC 4648 section 4)."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = cipher.encrypt(nonce, value.encode(), where)
    return f"{VERSION}:{kid}:{_text(nonce)}:{_text(sealed)}"


def kid_of(sealed: str) -> UUID:
    """Return which data key sealed the text. Raises DecryptionFailed when it is none of ours."""
    version, _, rest = sealed.partition(":")
    kid = rest.partition(":")[0]
    try:
        known = UUID(hex=kid)
    except ValueError:
        raise DecryptionFailed("the stored text is not an encrypted value") from None
    # UUID() also reads braces, dashes and capitals: one text for one value.
    if version != VERSION or known.hex != kid:
        raise DecryptionFailed("the stored text is not an encrypted value")
    return known


def unseal(cipher: AESGCM, sealed: str, *, where: bytes) -> str:
    """Return the value. Raises DecryptionFailed unless it was sealed by this key for this place."""
    parts = sealed.split(":")
    if len(parts) != 4:
        raise DecryptionFailed(UNREADABLE)
    try:
        nonce, body = _bytes(parts[2]), _bytes(parts[3])
        if len(nonce) != NONCE_BYTES:
            raise DecryptionFailed(UNREADABLE)
        return cipher.decrypt(nonce, body, where).decode()
    except (InvalidTag, ValueError):
        raise DecryptionFailed(UNREADABLE) from None


def wrap(kek: KeyEncryptionKey, data_key: bytes, *, organization_id: UUID, kid: UUID) -> bytes:
    """Return nonce and ciphertext of the data key, bound to its organization and id: 60 bytes."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + kek.cipher.encrypt(nonce, data_key, _key_place(organization_id, kid))


def unwrap(kek: KeyEncryptionKey, wrapped: bytes, *, organization_id: UUID, kid: UUID) -> bytes:
    """Return the data key. Raises EncryptionKeyLost when its row was changed."""
    nonce, body = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
    try:
        return kek.cipher.decrypt(nonce, body, _key_place(organization_id, kid))
    except (InvalidTag, ValueError):
        raise EncryptionKeyLost(f"data key {kid}: its row was changed", kid=kid) from None


def derived_key(passphrase: str, salt: bytes, iterations: int) -> bytes:
    """Return 32 bytes by PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2).

    600,000 iterations is OWASP's figure (Password Storage Cheat Sheet); they take 0.15 to 0.3 s.
    """
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, iterations, KEY_BYTES)


def _key_place(organization_id: UUID, kid: UUID) -> bytes:
    return f"{organization_id}|data_keys|wrapped_key|{kid}".encode()


def _text(content: bytes) -> str:
    return b2a_base64(content, newline=False).decode()


def _bytes(text: str) -> bytes:
    try:
        content = a2b_base64(text, strict_mode=True)
    except Error:
        raise DecryptionFailed(UNREADABLE) from None
    # The last letter has bits that mean nothing: only one spelling of the same bytes is ours.
    if _text(content) != text:
        raise DecryptionFailed(UNREADABLE)
    return content
