"""Why a field cannot be encrypted or read. None of them holds a value or a key; a kid is no secret."""

from __future__ import annotations

from uuid import UUID

from app.kit.errors import DevGuardError


class EncryptionError(DevGuardError):
    """The base: a fault of the installation or of the stored text, not of the caller."""

    status = 500
    title = "Encryption failed"
    code = "internal_error"


class EncryptionNotConfigured(EncryptionError):
    """There is no key-encryption key: DEVGUARD_ENCRYPTION_KEY and its siblings are unset."""

    code = "encryption_not_configured"


class EncryptionKeyLost(EncryptionError):
    """The data key that the text names, or the key that wraps it, is not there (any more)."""

    code = "encryption_key_lost"

    def __init__(self, detail: str, *, kid: UUID) -> None:
        super().__init__(detail)
        self.kid = kid


class EncryptionKeyShredded(EncryptionKeyLost):
    """The data key was destroyed on purpose: what it encrypted is unreadable for good."""

    code = "encryption_key_shredded"


class DecryptionFailed(EncryptionError):
    """The text was changed, or written for another organization, table, column or row."""

    code = "decryption_failed"
