"""The chain of seals: each covers one row and the seal before it; heads say how far a chain goes. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.audit.entries import AuditEntry, canonical_bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far the chain of one organization goes: its last position, and the seal there."""

    organization_id: UUID
    position: int
    seal: bytes

    def statement(self) -> str:
        """Return what is signed of a head."""
        return f"devguard audit head 1|{self.organization_id}|{self.position}|{self.seal.hex()}"


class SealKey:
    """A key that lives outside the database: who holds only the database can forge no seal."""

    def __init__(self, secret: str) -> None:
        self._sealing = _derived(secret, "seal")
        self._signing = _derived(secret, "head")
        self.id = hashlib.sha256(_derived(secret, "name")).hexdigest()[:8]

    def seal(self, previous: bytes, entry: AuditEntry) -> bytes:
        """Return the seal of the row that follows the seal `previous`."""
        return hmac.digest(self._sealing, previous + canonical_bytes(entry), "sha256")

    def signature(self, head: Head) -> str:
        """Return our signature under the head, as hexadecimal text."""
        return hmac.digest(self._signing, head.statement().encode(), "sha256").hex()

    def __repr__(self) -> str:
        return f"SealKey({self.id})"


@dataclass(frozen=True, slots=True)
class SealKeys:
    """The key that seals now, and with it the former ones, by which old seals are verified."""

    current: SealKey
    by_id: Mapping[str, SealKey]

    @classmethod
    def of(cls, secrets: Sequence[str]) -> SealKeys:
        """Return the keys of these secrets; the first one seals."""
        keys = [SealKey(secret) for secret in secrets]
        return cls(keys[0], {key.id: key for key in keys})


def beginning(organization_id: UUID) -> bytes:
    """Return what the first seal of an organization follows: no row of another one fits there."""
    return hashlib.sha256(b"devguard audit chain 1|" + organization_id.bytes).digest()


def head_line(head: Head, key: SealKey) -> str:
    """Return a signed head as one line of JSON."""
    fields = {
        "organization_id": str(head.organization_id),
        "position": head.position,
        "seal": head.seal.hex(),
        "key_id": key.id,
        "signature": key.signature(head),
    }
    return json.dumps(fields, separators=(",", ":"))


def read_head_line(line: str, keys: SealKeys) -> Head:
    """Return the head of a line. Raises ValueError for what is broken or was not signed by us."""
    try:
        fields = json.loads(line)
        head = Head(
            UUID(fields["organization_id"]), int(fields["position"]), bytes.fromhex(fields["seal"])
        )
        key = keys.by_id[fields["key_id"]]
        signature = str(fields["signature"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no head of ours: {error!r}") from None
    if not hmac.compare_digest(signature, key.signature(head)):
        raise ValueError("the signature under the head is not ours")
    return head


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), f"devguard audit {purpose}".encode(), "sha256")
