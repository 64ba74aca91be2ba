"""Calls as they are logged, and what is answered: the wire form of api_requests.

The items of a batch are TypedDicts, not models: a batch of 1,000 becomes plain dicts in half the time,
and the ingest path reads each field once.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

from pydantic import ConfigDict, FailFast, Field, StringConstraints, TypeAdapter, with_config
from typing_extensions import TypedDict

from app.api_gateway.pricing import PricingStatus
from app.api_gateway.usage import MAX_COUNT, UNIT_NAME
from app.kit.pagination import PageArguments
from app.kit.payload import RFC3339, Moment, MoneyText, QueryArguments, View

MAXIMUM_BATCH = 5_000
MAXIMUM_TAGS = 32
ONE_DAY_MS = 86_400_000

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
# Names of things are one line: control characters are refused, NUL among them.
ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:~-]{1,128}")


def is_request_id(text: str) -> bool:
    """Return whether a call may have this id."""
    return REQUEST_ID.fullmatch(text) is not None


RequestId = Annotated[str, StringConstraints(pattern=f"^{REQUEST_ID.pattern}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=ONE_LINE)]
Line = Annotated[str, StringConstraints(max_length=500, pattern=ONE_LINE)]
# Checked as text here and read by the ingest path: a datetime object is made only once.
MomentText = Annotated[
    str,
    StringConstraints(pattern=f"^{RFC3339.pattern}$"),
    Field(json_schema_extra={"format": "date-time"}),
]
Milliseconds = Annotated[float, Field(ge=0, le=ONE_DAY_MS)]
StatusCode = Annotated[int, Field(ge=100, le=599)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
# May come in quotes: a number of JSON goes through a float.
Fraction = Annotated[Decimal, Field(ge=0, le=MAX_COUNT, max_digits=27, decimal_places=12)]
UnitName = Annotated[str, StringConstraints(pattern=f"^{UNIT_NAME.pattern}$")]
Money = Annotated[Decimal, Field(ge=0, lt=100_000_000, max_digits=20, decimal_places=12)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Outcome = Literal["success", "error", "timeout", "cancelled"]


@with_config(STRICT)
class StatedCostItem(TypedDict):
    """What the call is said to have cost; only a biller (`provider`) is believed over our price."""

    amount: Money
    currency: NotRequired[Currency]
    source: NotRequired[Literal["provider", "client"]]


@with_config(STRICT)
class AttributionItem(TypedDict):
    """Who the call was made for."""

    team: NotRequired[Label | None]
    user_id: NotRequired[Label | None]
    customer_id: NotRequired[Label | None]
    api_key_id: NotRequired[Label | None]
    environment: NotRequired[Label | None]


@with_config(STRICT)
class ApiRequestItem(TypedDict):
    """One call to a paid API. `id` and `started_at` are its identity: a retry repeats both."""

    id: RequestId
    started_at: MomentText
    provider: Label
    duration_ms: NotRequired[Milliseconds | None]
    time_to_first_chunk_ms: NotRequired[Milliseconds | None]
    source: NotRequired[Label | None]
    operation: NotRequired[Label | None]
    request_model: NotRequired[Label | None]
    response_model: NotRequired[Label | None]
    response_id: NotRequired[Label | None]
    endpoint: NotRequired[Line | None]
    status_code: NotRequired[StatusCode | None]
    outcome: NotRequired[Outcome]
    error_type: NotRequired[Label | None]
    stream: NotRequired[bool | None]
    cache_hit: NotRequired[bool | None]
    operation_id: NotRequired[Label | None]
    attempt: NotRequired[Annotated[int, Field(ge=1, le=1000)] | None]
    trace_id: NotRequired[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None]
    span_id: NotRequired[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None]
    reservation_id: NotRequired[
        Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
        | None
    ]
    usage: NotRequired[Annotated[dict[UnitName, Count | Fraction], Field(max_length=64)] | None]
    usage_source: NotRequired[Literal["provider", "estimated"] | None]
    pricing_context: NotRequired[Annotated[dict[Label, Label], Field(max_length=16)] | None]
    cost: NotRequired[StatedCostItem | None]
    attribution: NotRequired[AttributionItem | None]
    tags: NotRequired[Annotated[dict[Label, Line], Field(max_length=MAXIMUM_TAGS)] | None]


@with_config(STRICT)
class ApiRequestBatch(TypedDict):
    """Up to 5,000 calls; a bad one never fails the others."""

    requests: Annotated[
        list[ApiRequestItem], Field(min_length=1, max_length=MAXIMUM_BATCH), FailFast()
    ]


@with_config(STRICT)
class RawBatch(TypedDict):
    """The frame of a batch alone: its items are judged one by one."""

    requests: Annotated[list[Any], Field(min_length=1, max_length=MAXIMUM_BATCH)]


ONE_ITEM: TypeAdapter[ApiRequestItem] = TypeAdapter(ApiRequestItem)
ITEMS: TypeAdapter[list[ApiRequestItem]] = TypeAdapter(Annotated[list[ApiRequestItem], FailFast()])
BATCH: TypeAdapter[ApiRequestBatch] = TypeAdapter(ApiRequestBatch)
FRAME: TypeAdapter[RawBatch] = TypeAdapter(RawBatch)


class LogArguments(QueryArguments):
    """How a log call is answered, and for which project (an ingest key knows its own)."""

    project_id: UUID | None = None
    results: Literal["problems", "all"] = "problems"


class CostView(View):
    """What a call cost: by the pricing order, and what our own price list says beside it."""

    amount: MoneyText | None
    currency: str
    source: Literal["provider", "client", "computed", "none"]
    computed: MoneyText | None


class FaultView(View):
    pointer: str
    code: str
    detail: str


class ItemResultView(View):
    """What became of one item of a batch."""

    index: int
    id: str | None = None
    status: Literal["created", "duplicate", "conflict", "invalid"]
    cost: CostView | None = None
    pricing_status: PricingStatus | None = None
    pricing_reason: str | None = None
    errors: list[FaultView] | None = None


class BatchResultView(View):
    """What became of a batch; `results` lists problems and duplicates, or every item on demand."""

    accepted: int
    duplicates: int
    rejected: int
    pricing: dict[PricingStatus, int]
    results: list[ItemResultView]


class ApiRequestArguments(PageArguments):
    """The filters of the list of calls; repeated arguments mean or."""

    model_config = ConfigDict(populate_by_name=False)

    project_id: UUID | None = None
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None
    provider: list[Label] | None = None
    model: list[Label] | None = None
    operation: list[Label] | None = None
    status_code: list[StatusCode] | None = None
    outcome: list[Outcome] | None = None
    environment: list[Label] | None = None
    source: list[Label] | None = None
    team: list[Label] | None = None
    user_id: list[Label] | None = None
    customer_id: list[Label] | None = None
    pricing_status: list[PricingStatus] | None = None
    cost_gte: Annotated[Money | None, Field(alias="cost[gte]")] = None
    cost_lte: Annotated[Money | None, Field(alias="cost[lte]")] = None
    duration_ms_gte: Annotated[Milliseconds | None, Field(alias="duration_ms[gte]")] = None
    duration_ms_lte: Annotated[Milliseconds | None, Field(alias="duration_ms[lte]")] = None
    sort: Literal["-started_at", "started_at"] = "-started_at"


class ShowRequestArguments(QueryArguments):
    """Which call is meant: its id may occur in several projects and at several moments."""

    project_id: UUID | None = None
    started_at: Moment | None = None


class ApiRequestView(View):
    """One logged call."""

    id: str
    project_id: str
    started_at: Moment
    ingested_at: Moment
    provider: str
    model: str | None
    operation: str
    outcome: str
    environment: str | None
    source: str | None
    request_model: str | None
    response_model: str | None
    response_id: str | None
    endpoint: str | None
    status_code: int | None
    error_type: str | None
    stream: bool
    cache_hit: bool
    operation_id: str | None
    attempt: int
    trace_id: str | None
    span_id: str | None
    duration_ms: float | None
    time_to_first_chunk_ms: float | None
    usage: dict[str, int | MoneyText]
    usage_source: str
    pricing_context: dict[str, str]
    attribution: dict[str, str]
    tags: dict[str, str]
    cost: CostView
    pricing_status: PricingStatus
    pricing_reason: str | None
    pricing_notes: list[str]


class ApiRequestPage(View):
    """One page of calls."""

    items: list[ApiRequestView]
    next_cursor: str | None


class CostPartView(View):
    """One unit of a call's cost: quantity times rate, before the one rounding of the whole."""

    unit: str
    quantity: MoneyText
    rate: MoneyText
    per: int
    amount: MoneyText


class ApiRequestDetailView(ApiRequestView):
    """One logged call with the breakdown of its computed cost; `parts` sum to it before rounding."""

    rate_card_id: str | None
    breakdown: list[CostPartView]
