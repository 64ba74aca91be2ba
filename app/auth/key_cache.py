"""What is known of an API key for two seconds, so that a hot key costs no database. Pure.

Another process hears of a revocation, a lost role or a deleted project when its entry ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.auth.places import Network, is_within

LIFETIME_S = 2.0
RENEWED_AFTER = 0.75
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
    # From where it is taken; none means from anywhere.
    networks: tuple[Network, ...] = ()

    def is_taken_from(self, ip: str | None) -> bool:
        """Return whether the key may be used from this address."""
        return not self.networks or is_within(ip, self.networks)


@dataclass(slots=True)
class _Entry:
    identity: KeyIdentity
    renews_at_s: float
    ends_at_s: float


class KeyCache:
    """Identities by the SHA-256 of their key, each for `lifetime_s`, at most `most_entries`."""

    def __init__(self, *, lifetime_s: float = LIFETIME_S, most_entries: int = MOST_ENTRIES) -> None:
        self._lifetime_s = lifetime_s
        self._most_entries = most_entries
        self._entries: dict[bytes, _Entry] = {}

    def find(self, digest: bytes, *, clock_s: float) -> KeyIdentity | None:
        """Return the identity that was kept less than a lifetime ago on this monotonic clock.

        In the last quarter of its life the first caller is told None and looks the key up anew,
        while the others go on: a hot key never sends all its requests to the database at once.
        """
        entry = self._entries.get(digest)
        if entry is None or clock_s >= entry.ends_at_s:
            return None
        if clock_s >= entry.renews_at_s:
            entry.renews_at_s = entry.ends_at_s
            return None
        return entry.identity

    def keep(self, digest: bytes, identity: KeyIdentity, *, clock_s: float) -> None:
        """Keep the identity for a lifetime; the oldest entry leaves when there is no room."""
        self._entries.pop(digest, None)
        while len(self._entries) >= self._most_entries:
            self._entries.pop(next(iter(self._entries)), None)
        renews_at_s = clock_s + self._lifetime_s * RENEWED_AFTER
        self._entries[digest] = _Entry(identity, renews_at_s, clock_s + self._lifetime_s)

    def drop(self, digest: bytes) -> None:
        """Forget what was kept of this digest: its key is alive no longer."""
        self._entries.pop(digest, None)

    def forget(self, key_id: UUID) -> None:
        """Forget a key at once, in this process."""
        for digest, entry in list(self._entries.items()):
            if entry.identity.key_id == key_id:
                self._entries.pop(digest, None)

    def forget_project(self, project_id: UUID) -> None:
        """Forget the keys that are bound to a project at once, in this process."""
        for digest, entry in list(self._entries.items()):
            project = entry.identity.project
            if project is not None and project.id == project_id:
                self._entries.pop(digest, None)

    def clear(self) -> None:
        """Forget every key."""
        self._entries.clear()


KEYS = KeyCache()
