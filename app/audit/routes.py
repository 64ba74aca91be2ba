"""Reading the audit log: list, export, and how far its chain goes."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import Blueprint, Response, current_app

from app.audit import queries
from app.audit.exports import csv_text, ndjson_text
from app.audit.queries import SealedEntry
from app.audit.schemas import (
    AuditEventArguments,
    AuditEventPage,
    AuditEventView,
    AuditExportArguments,
    AuditHeadView,
    event_view,
    head_view,
)
from app.audit.seals import SealKeys
from app.audit.service import record
from app.kit.endpoint import actor, endpoint, listed, ok, query, secret_key
from app.kit.pagination import CursorSigner, Page, filters_of, page_of
from app.kit.query_string import next_link
from app.kit.rate_limits import RateClass
from config import Config

blueprint = Blueprint("audit", __name__)
CSV = "text/csv"
NDJSON = "application/x-ndjson"


@endpoint(
    blueprint,
    "GET",
    "/events",
    scope="audit:read",
    rate=RateClass.READ,
    query=AuditEventArguments,
    answers={200: AuditEventPage},
)
def list_events() -> Response:
    """List what was done in the organization, newest first.

    Each event is kept for ever and cannot be changed; `seal` is its place in the chain.
    """
    arguments = query(AuditEventArguments)
    return listed(_page(arguments).mapped(event_view), AuditEventView)


@endpoint(
    blueprint,
    "GET",
    "/export",
    scope="audit:read",
    rate=RateClass.WRITE,
    query=AuditExportArguments,
    answers={200: f"{CSV}, {NDJSON}"},
    audit="audit.exported",
)
def export_events() -> Response:
    """Export events as CSV or NDJSON, newest first, up to 10,000 at once.

    `Link: rel="next"` names the rest. Cells that a spreadsheet would run as a formula begin with an
    apostrophe. The export is itself an event.
    """
    arguments = query(AuditExportArguments)
    page = _page(arguments)
    events = [event_view(row) for row in page.items]
    is_csv = arguments.format == "csv"
    response = Response(
        csv_text(events) if is_csv else ndjson_text(events),
        content_type=f"{CSV}; charset=utf-8" if is_csv else NDJSON,
    )
    name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{arguments.format}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if page.next_cursor:
        response.headers["Link"] = next_link(page.next_cursor)
    record(
        event="audit.exported",
        target_kind="audit_log",
        target_id=actor().organization_id,
        target_label=name,
        after={"rows": len(events), "filters": filters_of(arguments)},
    )
    return response


@endpoint(
    blueprint,
    "GET",
    "/head",
    scope="audit:read",
    rate=RateClass.READ,
    answers={200: AuditHeadView},
)
def show_head() -> Response:
    """Show how far the sealed chain of the organization goes, signed.

    Each seal is HMAC-SHA256 of the seal before it and the row, with a key that is not in the
    database. Who keeps a head can prove later that rows up to it were there.
    """
    config: Config = current_app.extensions["devguard"]
    chain = queries.chain_head(organization_id=actor().organization_id)
    return ok(head_view(chain, SealKeys.of(config.audit_keys)))


def _page(arguments: AuditEventArguments | AuditExportArguments) -> Page[SealedEntry]:
    signer = CursorSigner(key=secret_key(), name="audit_events", filters=filters_of(arguments))
    rows = queries.events_page(
        organization_id=actor().organization_id,
        wanted=arguments.wanted(),
        after=_position(signer, arguments.cursor),
        limit=arguments.limit + 1,
    )
    return page_of(
        rows,
        limit=arguments.limit,
        position=lambda row: (row.entry.occurred_at.isoformat(), str(row.entry.id)),
        signer=signer,
    )


def _position(signer: CursorSigner, cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    occurred_at, row_id = signer.position_of(cursor)
    return datetime.fromisoformat(occurred_at), UUID(row_id)
