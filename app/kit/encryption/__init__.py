"""Field encryption: what customers entrust to us, unreadable in the database, its backups and its logs.

Envelope encryption: the key-encryption key of the installation wraps one data key per organization, and
that one encrypts fields with AES-256-GCM. The text in the column is `v1:kid:nonce:ciphertext`; it is
bound to its organization, table, column and row, so a ciphertext moved elsewhere does not open.

A feature registers its column once, at import: `register_column("integration_webhooks", "secret")`,
makes the row's id before the insert (`new_id()`), and calls

    row.secret = encrypt(value, organization_id=..., table="integration_webhooks", column="secret", row_id=row.id)
    value = decrypt(row.secret, organization_id=..., table="integration_webhooks", column="secret", row_id=row.id)

What belongs to a person and no organization is encrypted for PLATFORM_ID.
"""

from __future__ import annotations

from app.kit.encryption.columns import PLATFORM_ID, register_column
from app.kit.encryption.errors import (
    DecryptionFailed,
    EncryptionError,
    EncryptionKeyLost,
    EncryptionKeyShredded,
    EncryptionNotConfigured,
)
from app.kit.encryption.fields import decrypt, encrypt, import_fernet, renewed
from app.kit.encryption.rotation import rotate_data_key, rotate_kek, shred_organization

__all__ = [
    "PLATFORM_ID",
    "DecryptionFailed",
    "EncryptionError",
    "EncryptionKeyLost",
    "EncryptionKeyShredded",
    "EncryptionNotConfigured",
    "decrypt",
    "encrypt",
    "import_fernet",
    "register_column",
    "renewed",
    "rotate_data_key",
    "rotate_kek",
    "shred_organization",
]
