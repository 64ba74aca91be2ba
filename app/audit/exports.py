"""The audit log as a file: CSV for people with spreadsheets, NDJSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from app.audit.schemas import AuditEventView
from app.kit.payload import rfc3339_text

COLUMNS = (
    "id", "occurred_at", "event", "actor_kind", "actor_id", "actor_label", "target_kind",
    "target_id", "target_label", "ip", "request_id", "before", "after", "position", "seal",
)  # fmt: skip
# A spreadsheet runs a cell that begins so as a formula (OWASP, CSV injection); the wide forms too.
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def csv_text(events: Iterable[AuditEventView]) -> str:
    """Return the events as CSV (RFC 4180) with a header; no cell is a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for event in events:
        writer.writerow([harmless(cell) for cell in _cells(event)])
    return buffer.getvalue()


def ndjson_text(events: Iterable[AuditEventView]) -> str:
    """Return the events as one JSON object per line."""
    return "".join(f"{event.model_dump_json()}\n" for event in events)


def harmless(cell: str) -> str:
    """Return the cell so that a spreadsheet shows it: an apostrophe goes before a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA_STARTS) else cell


def _cells(event: AuditEventView) -> list[str]:
    cells = [
        event.id, rfc3339_text(event.occurred_at), event.event,
        event.actor.kind, event.actor.id, event.actor.label,
        event.target.kind, event.target.id, event.target.label,
        event.ip, event.request_id, _json(event.before), _json(event.after),
        event.seal and event.seal.position, event.seal and event.seal.seal,
    ]  # fmt: skip
    return ["" if cell is None else str(cell) for cell in cells]


def _json(fields: dict[str, Any] | None) -> str | None:
    return None if fields is None else json.dumps(fields, ensure_ascii=False, sort_keys=True)
