"""Password rules and hashes: bcrypt (with a keyed pre-hash where it would have to cut) or argon2id.

Lengths follow OWASP ASVS 5.0: at least 8 characters (6.2.1), 64 and more allowed (6.2.9), no
composition rules (6.2.5), taken exactly as typed (6.2.8), nothing of the person's own (6.2.11).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, hash_secret, verify_secret

from app.auth.breached import breached_passwords
from config import Config

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 256
FEWEST_DIFFERENT_CHARACTERS = 4
# bcrypt reads 72 bytes; bcrypt 5 raises above, older ones cut in silence.
LONGEST_BCRYPT_BYTES = 72

# OWASP Password Storage Cheat Sheet: 19 MiB (in KiB), 2 passes, 1 lane.
ARGON2_COST = (19_456, 2, 1)
ARGON2_SALT_BYTES = 16

BCRYPT = "bcrypt"
ARGON2ID = "argon2id"
ARGON2_BEGIN = "$argon2id$"
ARGON2_MARK = "$argon2id$v=19$m={},t={},p={}$".format(*ARGON2_COST)
# The same in SQL: organizations.queries.password_marks().
MARK = re.compile(r"\$2[aby]\$\d\d\$|\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$", re.ASCII)
PRE_HASHED = "bcrypt-hmac-sha256"


class PasswordHasher:
    """Makes and checks stored password texts: `<scheme>:<the text of bcrypt or argon2>`.

    The scheme of a bcrypt password above 72 bytes is `bcrypt-hmac-sha256.<key id>`: base64, because a raw
    digest may hold NUL, and keyed, so that leaked plain SHA-256 lists of elsewhere are of no use.
    """

    def __init__(
        self, *, rounds: int, secret: str, scheme: str = BCRYPT, own_list: Path | None = None
    ) -> None:
        self._scheme = scheme
        self._rounds = rounds
        self._own_list = own_list
        self._key = hmac.digest(secret.encode(), b"devguard password pre-hash", "sha256")
        self._pre_hashed = f"{PRE_HASHED}.{hashlib.sha256(self._key).hexdigest()[:8]}"
        self._mark = ARGON2_MARK if scheme == ARGON2ID else f"$2b${rounds:02d}$"

    @classmethod
    def of(cls, config: Config) -> PasswordHasher:
        """Return the hasher of these settings."""
        return cls(
            rounds=config.bcrypt_rounds,
            secret=config.secret_key,
            scheme=config.password_scheme,
            own_list=config.breached_passwords,
        )

    def hashed(self, password: str) -> str:
        """Return the text to store. Slow on purpose: call it off the event loop."""
        raw = password.encode()
        if self._scheme == ARGON2ID:
            return f"{ARGON2ID}:{_argon2_hash(raw)}"
        is_long = len(raw) > LONGEST_BCRYPT_BYTES
        scheme = self._pre_hashed if is_long else BCRYPT
        secret = self._shortened(raw) if is_long else raw
        return f"{scheme}:{bcrypt.hashpw(secret, bcrypt.gensalt(self._rounds)).decode()}"

    def matches(self, password: str, stored: str | None) -> bool:
        """Return whether this is the stored password; None (nobody's) takes as long and is False."""
        scheme, _, digest = (stored or nobody_of(self._mark)).rpartition(":")
        raw = password.encode()
        if digest.startswith(ARGON2_BEGIN):
            return _is_right_argon2(raw, digest) and stored is not None
        is_readable = self._is_readable(scheme, raw)
        secret = raw if is_readable and scheme != self._pre_hashed else self._shortened(raw)
        return _is_right_bcrypt(secret, digest.encode()) and is_readable and stored is not None

    def pad_refusal(self, password: str, stored: str | None, marks: Iterable[str]) -> None:
        """Do the work of every other scheme and cost in use, after `matches` has done that of this one.

        So each refusal takes the same time, whatever scheme an account is on, or whether there is one.
        """
        done = mark_of(stored or "") or self._mark
        for mark in sorted({*marks, self._mark} - {done}):
            self.matches(password, nobody_of(mark))

    def is_outdated(self, stored: str) -> bool:
        """Return whether the text has another scheme or cost than is set now, or names no scheme."""
        scheme, _, digest = stored.rpartition(":")
        return not scheme or not digest.startswith(self._mark)

    def is_breached(self, password: str) -> bool:
        """Return whether the password is on a list of what many people chose."""
        return password in breached_passwords(self._own_list)

    def _is_readable(self, scheme: str, raw: bytes) -> bool:
        if scheme == self._pre_hashed:
            return True
        # An imported hash has no scheme; it was made of the plain password.
        return scheme in {BCRYPT, ""} and len(raw) <= LONGEST_BCRYPT_BYTES

    def _shortened(self, raw: bytes) -> bytes:
        return base64.b64encode(hmac.digest(self._key, raw, "sha256"))


def mark_of(stored: str) -> str | None:
    """Return what of a stored text says how slow it is to check: scheme and cost."""
    found = MARK.search(stored)
    return found.group() if found else None


def nobody_of(mark: str) -> str:
    """Return a hash of no password at all: as slow to check as any of its scheme and cost."""
    if mark.startswith(ARGON2_BEGIN):
        return f"{ARGON2ID}:{mark}{_base64(bytes(ARGON2_SALT_BYTES))}${_base64(bytes(32))}"
    return f"{BCRYPT}:{mark}{'.' * 53}"


def _argon2_hash(raw: bytes) -> str:
    salt = secrets.token_bytes(ARGON2_SALT_BYTES)
    memory, time, lanes = ARGON2_COST
    return hash_secret(raw, salt, time, memory, lanes, 32, Type.ID).decode()


def _is_right_argon2(raw: bytes, digest: str) -> bool:
    try:
        return verify_secret(digest.encode(), raw, Type.ID)
    except (VerificationError, InvalidHashError):
        # Another password, or a text that is none of argon2: no password fits it.
        return False


def _is_right_bcrypt(secret: bytes, digest: bytes) -> bool:
    try:
        return bcrypt.checkpw(secret, digest)
    except ValueError:
        # What is stored is no bcrypt text: no password fits it.
        return False


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).rstrip(b"=").decode()


def is_too_easy(password: str, *, own_words: Iterable[str]) -> bool:
    """Return whether the password repeats a few characters or is a word of its owner's, numbered."""
    folded = password.casefold()
    if len(set(folded)) < FEWEST_DIFFERENT_CHARACTERS:
        return True
    core = folded.strip("0123456789!?.-_# ")
    words = {word.strip().casefold() for word in (*own_words, "devguard")}
    words |= {word.partition("@")[0] for word in words if "@" in word}
    return folded in words or core in words
