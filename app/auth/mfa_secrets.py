"""TOTP secrets as they are stored: AES-256-GCM, bound to the row of their person. Pure.

A narrow pair of functions: field encryption by envelope keys belongs to organizations, and a
factor to a person, who may be in several.
"""

from __future__ import annotations

import base64
import secrets
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = "v1"
NONCE_BYTES = 12
KEY_BYTES = 32


class SecretUnreadable(Exception):
    """A stored secret that this key does not open: SECRET_KEY was changed, or the row was."""


def sealed_secret(secret: bytes, *, user_id: UUID, key: str) -> str:
    """Return the text to store for this person, and for no other."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(_derived(key)).encrypt(nonce, secret, _row(user_id))
    return f"{VERSION}:{base64.b64encode(nonce + sealed).decode()}"


def opened_secret(stored: str, *, user_id: UUID, key: str) -> bytes:
    """Return the secret of this person. Raises SecretUnreadable."""
    version, _, text = stored.partition(":")
    if version != VERSION:
        raise SecretUnreadable("the secret is of an unknown version")
    raw = base64.b64decode(text)
    try:
        return AESGCM(_derived(key)).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _row(user_id))
    except (InvalidTag, ValueError):
        raise SecretUnreadable("the secret is another row's, or SECRET_KEY was changed") from None


def _derived(key: str) -> bytes:
    # SECRET_KEY has at least 256 random bits, so no slow derivation is needed (RFC 5869).
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"devguard totp secrets").derive(key.encode())


def _row(user_id: UUID) -> bytes:
    return f"user|{user_id}|user_totp|secret".encode()
