"""One batch of lines of a file: stored or only judged, and counted, each refusal with its line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from app.api_gateway.call_files import CallLine
from app.api_gateway.logged_calls import CallReader, LoggedCall, RefusedCall
from app.api_gateway.schemas.batches import BATCH_POINTER, ReadCalls, read_ndjson
from app.api_gateway.service.import_tally import Refusal, Tally, tally_of
from app.api_gateway.service.ingest import LoggedBatch, RefusedItem, log_api_requests
from app.api_gateway.service.prices import price_book_of_project
from app.kit.errors import Fault


def store_lines(
    *,
    organization_id: UUID,
    project_id: UUID,
    lines: Sequence[CallLine],
    now: datetime,
    retention: timedelta,
) -> Tally:
    """Store the calls of up to 5,000 lines in the transaction of the caller; return what became of them."""
    good = [line for line in lines if not line.faults]
    read = _read(good)
    batch = log_api_requests(
        organization_id=organization_id,
        project_id=project_id,
        items=read.items,
        book=price_book_of_project(project_id),
        now=now,
        retention=retention,
    )
    return _tallied(lines, good, read, batch)


def judge_lines(*, reader: CallReader, lines: Sequence[CallLine]) -> Tally:
    """Return what would become of the lines where nothing is stored yet; writes nothing."""
    good = [line for line in lines if not line.faults]
    read = _read(good)
    batch = LoggedBatch()
    for index, item in read.items:
        try:
            batch.created.append(reader.read(index, item))
        except RefusedCall as refusal:
            batch.invalid.append(RefusedItem(index, item["id"], refusal.faults))
    return _tallied(lines, good, read, batch)


def field_of(fault: Fault, *, index: int) -> str:
    """Return the field that a fault of the item points at, as files name it: `usage.input_tokens`."""
    pointer = fault.pointer.removeprefix(BATCH_POINTER.format(index=index))
    return pointer.removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")


def _read(lines: Sequence[CallLine]) -> ReadCalls:
    if not lines:
        return ReadCalls(is_single=False, items=[])
    return read_ndjson(b"\n".join([line.item for line in lines]))


def _tallied(
    lines: Sequence[CallLine], good: Sequence[CallLine], read: ReadCalls, batch: LoggedBatch
) -> Tally:
    refusals = [_refusal(line.line, line.faults) for line in lines if line.faults]
    refusals += [
        _refusal(good[index].line, faults, index=index) for index, faults in read.faults.items()
    ]
    refusals += [_refusal(good[item.index].line, item.faults) for item in batch.invalid]
    refusals += [_conflict(good[call.index].line, call) for call in batch.conflicts]
    return tally_of(created=batch.created, duplicates=batch.duplicates, refusals=refusals)


def _refusal(line: int, faults: Sequence[Fault], *, index: int = 0) -> Refusal:
    return Refusal(
        line, tuple((field_of(fault, index=index), fault.code, fault.detail) for fault in faults)
    )


def _conflict(line: int, call: LoggedCall) -> Refusal:
    return _refusal(line, [Fault("/id", "payload_differs", f"{call.id} is stored otherwise")])
