"""Password rules and hashes: bcrypt, with a keyed pre-hash where bcrypt would have to cut. Pure.

Lengths follow OWASP ASVS 5.0: at least 8 characters (6.2.1), 64 and more allowed (6.2.9), no
composition rules (6.2.5), taken exactly as typed (6.2.8), nothing of the person's own (6.2.11).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

import bcrypt

from config import Config

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 256
FEWEST_DIFFERENT_CHARACTERS = 4
# bcrypt reads 72 bytes; bcrypt 5 raises above, older ones cut in silence.
LONGEST_BCRYPT_BYTES = 72

PLAIN = "bcrypt"
PRE_HASHED = "bcrypt-hmac-sha256"


class PasswordHasher:
    """Makes and checks stored password texts: `<scheme>:<bcrypt's own text>`.

    The scheme of a password above 72 bytes is `bcrypt-hmac-sha256.<key id>`: base64, because a raw
    digest may hold NUL, and keyed, so that leaked plain SHA-256 lists of elsewhere are of no use.
    """

    def __init__(self, *, rounds: int, secret: str) -> None:
        self._rounds = rounds
        self._key = hmac.digest(secret.encode(), b"devguard password pre-hash", "sha256")
        self._pre_hashed = f"{PRE_HASHED}.{hashlib.sha256(self._key).hexdigest()[:8]}"
        # A hash of no password at all: as slow to check as any, and never right.
        self._nobody = f"{PLAIN}:{bcrypt.gensalt(rounds).decode()}{'.' * 31}"

    @classmethod
    def of(cls, config: Config) -> PasswordHasher:
        """Return the hasher of these settings."""
        return cls(rounds=config.bcrypt_rounds, secret=config.secret_key)

    def hashed(self, password: str) -> str:
        """Return the text to store. Slow on purpose: call it off the event loop."""
        raw = password.encode()
        is_long = len(raw) > LONGEST_BCRYPT_BYTES
        scheme = self._pre_hashed if is_long else PLAIN
        secret = self._shortened(raw) if is_long else raw
        return f"{scheme}:{bcrypt.hashpw(secret, bcrypt.gensalt(self._rounds)).decode()}"

    def matches(self, password: str, stored: str | None) -> bool:
        """Return whether this is the stored password; None (nobody's) takes as long and is False."""
        scheme, _, digest = (stored or self._nobody).rpartition(":")
        raw = password.encode()
        is_readable = self._is_readable(scheme, raw)
        secret = raw if is_readable and scheme != self._pre_hashed else self._shortened(raw)
        return _is_right(secret, digest.encode()) and is_readable and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Return whether the text has another cost than the one that is set now, or no scheme."""
        scheme, _, digest = stored.rpartition(":")
        return not scheme or not digest.startswith(f"$2b${self._rounds:02d}$")

    def _is_readable(self, scheme: str, raw: bytes) -> bool:
        if scheme == self._pre_hashed:
            return True
        # An imported hash has no scheme; it was made of the plain password.
        return scheme in {PLAIN, ""} and len(raw) <= LONGEST_BCRYPT_BYTES

    def _shortened(self, raw: bytes) -> bytes:
        return base64.b64encode(hmac.digest(self._key, raw, "sha256"))


def _is_right(secret: bytes, digest: bytes) -> bool:
    try:
        return bcrypt.checkpw(secret, digest)
    except ValueError:
        # What is stored is no bcrypt text: no password fits it.
        return False


def is_too_easy(password: str, *, own_words: Iterable[str]) -> bool:
    """Return whether the password repeats a few characters or is a word of its owner's, numbered."""
    folded = password.casefold()
    if len(set(folded)) < FEWEST_DIFFERENT_CHARACTERS:
        return True
    core = folded.strip("0123456789!?.-_# ")
    words = {word.strip().casefold() for word in (*own_words, "devguard")}
    words |= {word.partition("@")[0] for word in words if "@" in word}
    return folded in words or core in words
