"""What is known of an API key for two seconds, so that a hot key costs no database. Pure.

Another process hears of a revocation, a lost role or a deleted project when its entry ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

LIFETIME_S = 2.0
MOST_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class BoundProject:
    """The one project that an ingest key speaks for."""

    id: UUID
    organization_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """What a key is and may do."""

    key_id: UUID
    organization_id: UUID
    user_id: UUID | None
    role: str
    scopes: frozenset[str]
    project: BoundProject | None
    label: str
    expires_at: datetime


class KeyCache:
    """Identities by the SHA-256 of their key, each for `lifetime_s`, at most `most_entries`."""

    def __init__(self, *, lifetime_s: float = LIFETIME_S, most_entries: int = MOST_ENTRIES) -> None:
        self._lifetime_s = lifetime_s
        self._most_entries = most_entries
        self._entries: dict[bytes, tuple[float, KeyIdentity]] = {}

    def find(self, digest: bytes, *, clock_s: float) -> KeyIdentity | None:
        """Return the identity that was kept less than a lifetime ago on this monotonic clock."""
        entry = self._entries.get(digest)
        if entry is None or clock_s >= entry[0]:
            return None
        return entry[1]

    def keep(self, digest: bytes, identity: KeyIdentity, *, clock_s: float) -> None:
        """Keep the identity for a lifetime; the oldest entry leaves when there is no room."""
        self._entries.pop(digest, None)
        while len(self._entries) >= self._most_entries:
            self._entries.pop(next(iter(self._entries)), None)
        self._entries[digest] = (clock_s + self._lifetime_s, identity)

    def forget(self, key_id: UUID) -> None:
        """Forget a key at once, in this process."""
        for digest, (_, identity) in list(self._entries.items()):
            if identity.key_id == key_id:
                self._entries.pop(digest, None)

    def forget_project(self, project_id: UUID) -> None:
        """Forget the keys that are bound to a project at once, in this process."""
        for digest, (_, identity) in list(self._entries.items()):
            if identity.project is not None and identity.project.id == project_id:
                self._entries.pop(digest, None)

    def clear(self) -> None:
        """Forget every key."""
        self._entries.clear()


KEYS = KeyCache()
