"""What analytics are asked and what they answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api_gateway.covering import Interval
from app.api_gateway.schemas.requests import Currency, Label, Outcome
from app.kit.payload import Moment, MoneyText, QueryArguments, View

MAXIMUM_STEPS = 1_000
MAXIMUM_GROUPS = 1_000


class Dimension(StrEnum):
    """What calls can be grouped by."""

    PROVIDER = "provider"
    MODEL = "model"
    OPERATION = "operation"
    ENVIRONMENT = "environment"
    TEAM = "team"
    OUTCOME = "outcome"


class AnalyticsArguments(QueryArguments):
    """The range, the calendar and the filters of every analytics question; repeated means or.

    The range is half-open and widened to whole quarters of an hour; the last 30 days by default.
    """

    model_config = ConfigDict(populate_by_name=False)

    project_id: UUID | None = None
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None
    interval: Interval | None = None
    timezone: Annotated[str, Field(max_length=64)] = "UTC"
    group_by: Annotated[list[Dimension] | None, Field(max_length=2)] = None
    provider: list[Label] | None = None
    model: list[Label] | None = None
    operation: list[Label] | None = None
    environment: list[Label] | None = None
    team: list[Label] | None = None
    outcome: list[Outcome] | None = None
    limit: Annotated[int, Field(ge=1, le=MAXIMUM_GROUPS)] = 100


class CostArguments(AnalyticsArguments):
    """Costs are summed in one currency; coverage counts the calls in others."""

    currency: Currency = "USD"


class CostFiguresView(View):
    """Summed calls: money in the answer's currency, tokens as canonical totals."""

    cost: MoneyText
    computed: MoneyText
    requests: int
    failed_requests: int
    retries: int
    cache_hits: int
    input_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    output_tokens: int
    reasoning_output_tokens: int
    avoided_tokens: int


class CoverageView(View):
    """How much of the calls the sum of cost speaks for."""

    priced_requests: int
    reported_requests: int
    computed_requests: int
    free_requests: int
    unpriced_requests: int
    unmetered_requests: int
    approximate_requests: int
    other_currency_requests: int
    priced_token_share: MoneyText | None


class CostGroupView(CostFiguresView):
    """One group: `keys` names its value in each dimension asked for; absent is the empty text."""

    keys: dict[str, str]
    share: MoneyText | None


class CostStepView(CostFiguresView):
    """One step of the series, `start` in and `end` out, with its groups when groups were asked for."""

    start: Moment
    end: Moment
    groups: list[CostGroupView]


class PreviousView(CostFiguresView):
    """The window of the same length right before, and the change of cost against it."""

    start: Moment
    end: Moment
    cost_change: MoneyText
    cost_change_ratio: MoneyText | None


class RangeView(View):
    """The range that was answered, widened to whole quarters of an hour."""

    start: Moment
    end: Moment


class CostAnalyticsView(View):
    """What calls cost; groups are sorted by cost, and additive: they sum to the totals."""

    totals: CostFiguresView
    previous: PreviousView
    series: list[CostStepView]
    groups: list[CostGroupView]
    other_groups: int
    coverage: CoverageView
    currency: str
    timezone: str
    interval: Interval | None
    range: RangeView
    additive: bool
    data_as_of: Moment


class PercentilesView(View):
    """Milliseconds, each within 2 % of the exact nearest-rank percentile; None without calls."""

    count: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class LatencyFiguresView(View):
    """How fast calls were. `duration_ms` is of successful calls, `failed_duration_ms` of the others.

    `error_rate` = (error + timeout) / all calls. `output_tokens_per_second` = output tokens / seconds
    of the calls that gave both, the response cache left out.
    """

    requests: int
    failed_requests: int
    error_rate: float | None
    duration_ms: PercentilesView
    failed_duration_ms: PercentilesView
    time_to_first_chunk_ms: PercentilesView
    mean_duration_ms: float | None
    output_tokens_per_second: float | None


class LatencyGroupView(LatencyFiguresView):
    keys: dict[str, str]


class LatencyStepView(LatencyFiguresView):
    start: Moment
    end: Moment
    groups: list[LatencyGroupView]


class LatencyAnalyticsView(View):
    """How long calls took, merged from histograms: never an average of percentiles."""

    totals: LatencyFiguresView
    series: list[LatencyStepView]
    groups: list[LatencyGroupView]
    timezone: str
    interval: Interval | None
    range: RangeView
    relative_error: float
    data_as_of: Moment


Figures = dict[str, Any]
