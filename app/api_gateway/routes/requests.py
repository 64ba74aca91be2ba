"""Calls come in, are listed and shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Response, current_app, request

from app.api_gateway.queries import requests as queries
from app.api_gateway.routes.blueprint import blueprint
from app.api_gateway.schemas import batches
from app.api_gateway.schemas.request_views import (
    created_view,
    fault_views,
    request_detail,
    request_view,
)
from app.api_gateway.schemas.requests import (
    ApiRequestArguments,
    ApiRequestBatch,
    ApiRequestDetailView,
    ApiRequestItem,
    ApiRequestPage,
    ApiRequestView,
    BatchResultView,
    ItemResultView,
    LogArguments,
    ShowRequestArguments,
    is_request_id,
)
from app.api_gateway.service.ingest import LoggedBatch, log_at_current_prices
from app.api_gateway.service.requests import cost_parts
from app.api_gateway.service.single_calls import SINGLE_CALLS
from app.kit.endpoint import JSON, answered, endpoint, listed, ok, query, raw_body, secret_key
from app.kit.errors import Conflict, Fault, InvalidPayload, NotFound
from app.kit.pagination import CursorSigner, filters_of, page_of
from app.kit.rate_limits import RateClass
from app.kit.time_window import TimeWindow
from app.projects.access import project_of_request

NDJSON = "application/x-ndjson"
TEN_MEGABYTES = 10 * 1024 * 1024
DEFAULT_WINDOW = timedelta(days=7)
EARLIEST = datetime.min.replace(tzinfo=UTC)
EXAMPLE = {
    "id": "01JD5Q8Z-1",
    "started_at": "2026-11-20T10:00:00.000000Z",
    "duration_ms": 812,
    "provider": "openai",
    "request_model": "gpt-4o",
    "usage": {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300},
    "attribution": {"team": "growth", "environment": "prod"},
}


@endpoint(
    blueprint,
    "POST",
    "/requests",
    scope="api_requests:write",
    rate=RateClass.INGEST,
    query=LogArguments,
    body=ApiRequestItem | ApiRequestBatch,
    answers={200: BatchResultView | ItemResultView, 201: BatchResultView | ItemResultView},
    errors=(404, 409),
    unaudited="a measurement: what was logged is itself the record, 60,000 times a second",
    accepts=(JSON, NDJSON),
    body_limit=TEN_MEGABYTES,
    examples={"one call": EXAMPLE, "a batch": {"requests": [EXAMPLE]}},
)
def log_requests() -> Response:
    """Log calls to paid APIs.

    One object, `{"requests": [...]}` with up to 5,000, or NDJSON; gzip accepted. Each call is priced
    and stored before this answers. `id` and `started_at` are the identity of a call: a retry must
    repeat both, then it counts once; another `started_at` is a new call. A bad item never fails the
    others: it is named in `results` by its index. Prompts and completions are not accepted.
    """
    arguments = query(LogArguments)
    project = project_of_request(arguments.project_id)
    raw = raw_body()
    read = batches.read_ndjson(raw) if request.mimetype == NDJSON else batches.read_json(raw)
    now, retention = datetime.now(UTC), _retention()
    # With a key the answer must be kept in the transaction of its effect, which is then the request's.
    if read.is_single and "Idempotency-Key" not in request.headers:
        ((_, item),) = read.items
        return _single_answer(
            SINGLE_CALLS.log(
                organization_id=project.organization_id,
                project_id=project.id,
                item=item,
                now=now,
                retention=retention,
            ),
            project_id=project.id,
        )
    batch = log_at_current_prices(
        organization_id=project.organization_id,
        project_id=project.id,
        items=read.items,
        now=now,
        retention=retention,
    )
    if read.is_single:
        return _single_answer(batch, project_id=project.id)
    return _batch_answer(batch, read=read, shows_all=arguments.results == "all")


@endpoint(
    blueprint,
    "GET",
    "/requests",
    scope="api_requests:read",
    rate=RateClass.READ,
    query=ApiRequestArguments,
    answers={200: ApiRequestPage},
    errors=(404,),
)
def list_requests() -> Response:
    """List logged calls, newest first; the last seven days when no range is given."""
    arguments = query(ApiRequestArguments)
    project = project_of_request(arguments.project_id)
    newest_first = arguments.sort.startswith("-")
    window = _window(arguments.from_, arguments.to)
    signer = CursorSigner(
        key=secret_key(), name=f"api_requests:{project.id}", filters=filters_of(arguments)
    )
    after = _position(signer, arguments.cursor)
    rows = queries.api_requests(
        project_id=project.id,
        window=window,
        filters=_filters(arguments),
        limit=arguments.limit + 1,
        after=after,
        newest_first=newest_first,
    )
    page = page_of(
        rows,
        limit=arguments.limit,
        position=lambda row: (row.started_at.isoformat(), row.id),
        signer=signer,
    )
    return listed(page.mapped(request_view), ApiRequestView)


@endpoint(
    blueprint,
    "GET",
    "/requests/<string:request_id>",
    scope="api_requests:read",
    rate=RateClass.READ,
    query=ShowRequestArguments,
    answers={200: ApiRequestDetailView},
)
def show_request(request_id: str) -> Response:
    """Show one call with the breakdown of its computed cost.

    `started_at` names the call exactly; without it the newest call with this id is shown.
    """
    arguments = query(ShowRequestArguments)
    project_id = project_of_request(arguments.project_id).id if arguments.project_id else None
    if not is_request_id(request_id):
        raise NotFound("no such call")
    now = datetime.now(UTC)
    row = queries.find_api_request(
        project_id=project_id,
        id_=request_id,
        started_at=arguments.started_at,
        window=TimeWindow(now - _retention() - timedelta(days=14), now + timedelta(days=1)),
    )
    if row is None:
        raise NotFound("no such call")
    return ok(request_detail(row, parts=cost_parts(row)))


def _single_answer(batch: LoggedBatch, *, project_id: UUID) -> Response:
    if batch.invalid:
        raise InvalidPayload("the call breaks the rules", faults=batch.invalid[0].faults)
    if batch.conflicts:
        raise Conflict("this call is stored with other values", code="payload_differs")
    if batch.duplicates:
        call = batch.duplicates[0]
        view = ItemResultView(index=0, id=call.id, status="duplicate")
        return answered(view, status=200, exclude_none=True)
    call = batch.created[0]
    location = (
        f"/api/v1/api-gateway/requests/{quote(call.id, safe='')}"
        f"?project_id={project_id}&started_at={quote(call.started_at_text(), safe='')}"
    )
    view = created_view(call)
    # Its index was its place among the calls that were written with it.
    view.index = 0
    return answered(view, status=201, location=location, exclude_none=True)


def _batch_answer(batch: LoggedBatch, *, read: batches.ReadCalls, shows_all: bool) -> Response:
    results = _problems(batch, read)
    if not batch.created and not batch.duplicates:
        faults = [
            Fault(fault.pointer, fault.code, fault.detail)
            for result in results
            for fault in result.errors or ()
        ]
        raise InvalidPayload("no item of the batch could be stored", faults=faults)
    if shows_all:
        results += [created_view(call) for call in batch.created]
    results.sort(key=lambda result: result.index)
    view = BatchResultView(
        accepted=len(batch.created),
        duplicates=len(batch.duplicates),
        rejected=len(batch.invalid) + len(batch.conflicts) + len(read.faults),
        pricing=batch.pricing(),
        results=results,
    )
    return answered(view, status=201 if batch.created else 200, exclude_none=True)


def _problems(batch: LoggedBatch, read: batches.ReadCalls) -> list[ItemResultView]:
    results = [
        ItemResultView(index=call.index, id=call.id, status="duplicate")
        for call in batch.duplicates
    ]
    for call in batch.conflicts:
        pointer = batches.BATCH_POINTER.format(index=call.index)
        fault = Fault(pointer, "payload_differs", "stored with other values")
        results.append(_problem(call.index, call.id, "conflict", [fault]))
    for item in batch.invalid:
        pointer = batches.BATCH_POINTER.format(index=item.index)
        faults = [Fault(pointer + f.pointer, f.code, f.detail) for f in item.faults]
        results.append(_problem(item.index, item.id, "invalid", faults))
    for index, faults in read.faults.items():
        results.append(_problem(index, read.ids[index], "invalid", faults))
    return results


def _problem(index: int, id_: str | None, status: Any, faults: list[Fault]) -> ItemResultView:
    return ItemResultView(index=index, id=id_, status=status, errors=fault_views(faults))


def _window(start: datetime | None, end: datetime | None) -> TimeWindow:
    end = end or datetime.now(UTC) + timedelta(minutes=10)
    if start is None:
        start = end - min(DEFAULT_WINDOW, end - EARLIEST)
    if end <= start:
        raise InvalidPayload(
            "the range is empty", faults=[Fault("/to", "empty_range", "`to` must be after `from`")]
        )
    return TimeWindow(start, end)


def _position(signer: CursorSigner, cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    started_at, id_ = signer.position_of(cursor)
    return datetime.fromisoformat(started_at), id_


def _filters(arguments: ApiRequestArguments) -> queries.RequestFilters:
    values = {
        name: chosen
        for name in queries.LIST_FILTERS
        if (chosen := getattr(arguments, name)) is not None
    }
    return queries.RequestFilters(
        values=values,
        least_cost=arguments.cost_gte,
        most_cost=arguments.cost_lte,
        least_duration_ms=arguments.duration_ms_gte,
        most_duration_ms=arguments.duration_ms_lte,
    )


def _retention() -> timedelta:
    return timedelta(days=current_app.extensions["devguard"].retention_days)
