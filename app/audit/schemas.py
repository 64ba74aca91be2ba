"""What the audit log takes and answers."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from app.audit.events import AuditEvent
from app.audit.queries import AuditFilter, ChainHead, SealedEntry
from app.audit.seals import SealKeys
from app.kit.pagination import PageArguments
from app.kit.payload import Moment, QueryArguments, Text, View

MOST_EXPORTED = 10_000


class AuditArguments(QueryArguments):
    """Which events; several of one name mean any of them."""

    event: Annotated[list[AuditEvent], Field(max_length=50)] = []
    actor_kind: Literal["user", "api_key", "system", "operator"] | None = None
    actor_id: UUID | None = None
    target_kind: Annotated[Text | None, Field(max_length=100)] = None
    target_id: Annotated[Text | None, Field(max_length=300)] = None
    request_id: Annotated[Text | None, Field(max_length=64)] = None
    label: Annotated[
        Text | None,
        Field(
            max_length=300,
            description="The label of the actor or of the target begins with this, in any case",
        ),
    ] = None
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None

    def wanted(self) -> AuditFilter:
        """Return the arguments as the filter of a query."""
        return AuditFilter(
            events=[event.value for event in self.event],
            actor_kind=self.actor_kind,
            actor_id=self.actor_id,
            target_kind=self.target_kind,
            target_id=self.target_id,
            request_id=self.request_id,
            label_prefix=self.label,
            start=self.from_,
            end=self.to,
        )


class AuditEventArguments(PageArguments, AuditArguments):
    """Which events to list."""


class AuditExportArguments(AuditArguments):
    """Which events to export, in which form; `cursor` goes on where the last export ended."""

    format: Literal["csv", "ndjson"] = "csv"
    limit: Annotated[int, Field(ge=1, le=MOST_EXPORTED)] = MOST_EXPORTED
    cursor: Annotated[str, Field(max_length=2000)] | None = None


class AuditActorView(View):
    """Who did it; the label is that of the time and stays when he is gone."""

    kind: str
    id: UUID | None
    label: str


class AuditTargetView(View):
    """To what it was done."""

    kind: str
    id: str
    label: str


class AuditSealView(View):
    """The row's place in the chain of the organization."""

    position: int
    seal: str


class AuditEventView(View):
    """One deed. `before` and `after` hold what changed, secrets replaced by `[redacted]`."""

    id: UUID
    occurred_at: Moment
    event: str
    actor: AuditActorView
    target: AuditTargetView
    ip: str | None
    request_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    seal: Annotated[
        AuditSealView | None, Field(description="null for the seconds until the row is sealed")
    ]


class AuditEventPage(View):
    """One page of events."""

    items: list[AuditEventView]
    next_cursor: str | None


class AuditHeadView(View):
    """How far the chain of the organization goes, signed: keep it, and a cut tail cannot be denied."""

    position: int
    seal: str
    sealed_at: Moment | None
    key_id: str
    statement: Annotated[str, Field(description="What is signed")]
    signature: Annotated[str, Field(description="HMAC-SHA256 of the statement, hexadecimal")]


def event_view(row: SealedEntry) -> AuditEventView:
    """Return what the outside sees of a row."""
    entry = row.entry
    seal = None
    if row.position is not None and row.seal is not None:
        seal = AuditSealView(position=row.position, seal=row.seal.hex())
    return AuditEventView(
        id=entry.id,
        occurred_at=entry.occurred_at,
        event=entry.event,
        actor=AuditActorView(kind=entry.actor_kind, id=entry.actor_id, label=entry.actor_label),
        target=AuditTargetView(
            kind=entry.target_kind, id=entry.target_id, label=entry.target_label
        ),
        ip=entry.ip.partition("/")[0] if entry.ip else None,
        request_id=entry.request_id,
        before=_fields(entry.before),
        after=_fields(entry.after),
        seal=seal,
    )


def head_view(chain: ChainHead, keys: SealKeys) -> AuditHeadView:
    """Return the head as it is published."""
    return AuditHeadView(
        position=chain.head.position,
        seal=chain.head.seal.hex(),
        sealed_at=chain.sealed_at,
        key_id=keys.current.id,
        statement=chain.head.statement(),
        signature=keys.current.signature(chain.head),
    )


def _fields(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    # A row that somebody broke past us must not hide the rest of the log.
    return fields if isinstance(fields, dict) else {"unreadable": text}
