"""The text of an API key: recognisable, checkable offline, unguessable. Pure.

`dgp_` personal, `dgs_` service, `dgi_` ingest; 30 random base62 digits (178 bits); 6 base62 digits of
the CRC-32 over the 34 characters before them. A leak scanner needs no more than LEAKED and crc32.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from enum import StrEnum

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_DIGITS = 30
CHECK_DIGITS = 6
LEAKED = re.compile(r"\bdg[psi]_[0-9A-Za-z]{36}\b", re.ASCII)
_WHOLE = re.compile(r"dg[psi]_[0-9A-Za-z]{36}", re.ASCII)


class KeyKind(StrEnum):
    """Whose key it is: a person's, the organization's, or a project's for logging only."""

    PERSONAL = "personal"
    SERVICE = "service"
    INGEST = "ingest"


_PREFIXES = {KeyKind.PERSONAL: "dgp_", KeyKind.SERVICE: "dgs_", KeyKind.INGEST: "dgi_"}


def new_key(kind: KeyKind) -> str:
    """Return a new secret key."""
    body = _PREFIXES[kind] + "".join(secrets.choice(BASE62) for _ in range(RANDOM_DIGITS))
    return body + _check_digits(body)


def is_well_formed(text: str) -> bool:
    """Return whether the text has the form and the checksum of a key; it may still be nobody's."""
    if _WHOLE.fullmatch(text) is None:
        return False
    return text[-CHECK_DIGITS:] == _check_digits(text[:-CHECK_DIGITS])


def looks_like_a_key(text: str) -> bool:
    """Return whether the text was meant to be a key, right or wrong."""
    return text.startswith(tuple(_PREFIXES.values()))


def digest_of(secret: str) -> bytes:
    """Return what is stored of a secret of at least 112 random bits (ASVS 5.0, 6.5.2: no slow hash)."""
    return hashlib.sha256(secret.encode()).digest()


def _check_digits(body: str) -> str:
    rest = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECK_DIGITS):
        rest, digit = divmod(rest, 62)
        digits = BASE62[digit] + digits
    return digits
