"""Encrypting and reading one field."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.kit.encryption.columns import check_registered
from app.kit.encryption.data_keys import active_key, key_of
from app.kit.encryption.envelope import kid_of, place, seal, unseal
from app.kit.encryption.errors import DecryptionFailed


def encrypt(value: str, *, organization_id: UUID, table: str, column: str, row_id: UUID) -> str:
    """Return the text to store for the value; it opens in this row of this column only.

    Raises LookupError for a column that was not registered, EncryptionNotConfigured, EncryptionKeyLost.
    """
    check_registered(table, column)
    key = active_key(organization_id)
    where = place(organization_id, table, column, row_id)
    return seal(key.cipher, key.id.hex, value, where=where)


def decrypt(sealed: str, *, organization_id: UUID, table: str, column: str, row_id: UUID) -> str:
    """Return the value of a stored text.

    Raises DecryptionFailed when the text was changed or moved, EncryptionKeyLost naming the kid,
    EncryptionKeyShredded, EncryptionNotConfigured.
    """
    key = key_of(organization_id, kid_of(sealed))
    return unseal(key.cipher, sealed, where=place(organization_id, table, column, row_id))


def renewed(
    sealed: str, *, organization_id: UUID, table: str, column: str, row_id: UUID
) -> str | None:
    """Return the text under the organization's newest key, None when it is already; raises as decrypt().

    Whoever writes the row anyway stores it: what is used moves to the new key before the job comes by.
    """
    if kid_of(sealed) == active_key(organization_id).id:
        return None
    where = {"organization_id": organization_id, "table": table, "column": column, "row_id": row_id}
    return encrypt(decrypt(sealed, **where), **where)  # type: ignore[arg-type]


def import_fernet(
    token: str | bytes,
    *,
    fernet_keys: Sequence[str | bytes],
    organization_id: UUID,
    table: str,
    column: str,
    row_id: UUID,
) -> str:
    """Return the text to store for a Fernet token that another system wrote under one of the keys.

    Fernet: github.com/fernet/spec. Its age is not looked at. Raises DecryptionFailed when no key opens
    it, ValueError for a key that is none, and what encrypt() raises.
    """
    opener = MultiFernet([Fernet(key) for key in fernet_keys])
    try:
        value = opener.decrypt(token).decode()
    except (InvalidToken, ValueError):
        raise DecryptionFailed("none of the Fernet keys opens the token") from None
    return encrypt(
        value, organization_id=organization_id, table=table, column=column, row_id=row_id
    )
