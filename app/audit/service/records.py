"""Writing the audit log: in the transaction of the deed, so that neither is without the other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.audit.context import current_doer
from app.audit.events import AuditEvent
from app.audit.models import AuditLog
from app.audit.redaction import canonical_text
from app.extensions import db
from app.kit.ids import new_id
from app.kit.logging import bound_request_id
from app.kit.tenancy import current_organization_id

LONGEST_LABEL = 300


def record(
    *,
    event: str,
    target_kind: str,
    target_id: UUID | str,
    target_label: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write down what the current doer did to the target, in the current organization.

    `before` and `after` hold the fields that matter; those named like a secret are replaced.
    Raises ValueError for an event that is not in the catalogue.
    """
    doer = current_doer()
    db.session.add(
        AuditLog(
            id=new_id(),
            organization_id=current_organization_id(),
            occurred_at=datetime.now(UTC),
            event=AuditEvent(event).value,
            actor_kind=doer.kind,
            actor_id=doer.id,
            actor_label=doer.label[:LONGEST_LABEL],
            target_kind=target_kind,
            target_id=str(target_id),
            target_label=target_label[:LONGEST_LABEL],
            ip=doer.ip,
            request_id=bound_request_id(),
            before=canonical_text(before),
            after=canonical_text(after),
        )
    )


def changes(
    *, before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both sides with only the fields that differ, for `before` and `after` of record()."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}
