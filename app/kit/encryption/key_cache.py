"""Opened data keys for two seconds, so that a busy organization costs no database. Pure.

Another process hears of a retired or shredded key when its entry ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LIFETIME_S = 2.0
MOST_KEYS = 2048


@dataclass(frozen=True, slots=True)
class OpenKey:
    """A data key, ready for use."""

    id: UUID
    organization_id: UUID
    cipher: AESGCM
    is_active: bool


class OpenKeyCache:
    """Keys by organization and id, each for `lifetime_s`, at most `most_keys`."""

    def __init__(self, *, lifetime_s: float = LIFETIME_S, most_keys: int = MOST_KEYS) -> None:
        self._lifetime_s = lifetime_s
        self._most_keys = most_keys
        # The entry of kid None is the organization's active key.
        self._entries: dict[tuple[UUID, UUID | None], tuple[OpenKey, float]] = {}

    def find(self, organization_id: UUID, kid: UUID | None, *, clock_s: float) -> OpenKey | None:
        """Return the key (the active one for None) when it was read less than a lifetime ago."""
        key, ends_at_s = self._entries.get((organization_id, kid), (None, 0.0))
        return key if clock_s < ends_at_s else None

    def keep(self, key: OpenKey, *, clock_s: float) -> None:
        """Keep a key that was read from the database not before `clock_s`."""
        self._put((key.organization_id, key.id), key, clock_s)
        if key.is_active:
            self._put((key.organization_id, None), key, clock_s)

    def forget(self, organization_id: UUID) -> None:
        """Forget an organization's keys at once, in this process."""
        for place in [place for place in list(self._entries) if place[0] == organization_id]:
            self._entries.pop(place, None)

    def clear(self) -> None:
        """Forget every key."""
        self._entries.clear()

    def _put(self, place: tuple[UUID, UUID | None], key: OpenKey, clock_s: float) -> None:
        self._entries.pop(place, None)
        while len(self._entries) >= self._most_keys:
            self._entries.pop(next(iter(self._entries)), None)
        self._entries[place] = (key, clock_s + self._lifetime_s)


OPEN_KEYS = OpenKeyCache()
