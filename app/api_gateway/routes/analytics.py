"""What calls cost and how long they took, over any range, in any time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flask import Response

from app.api_gateway.routes.blueprint import blueprint
from app.api_gateway.schemas.analytics import (
    AnalyticsArguments,
    CostAnalyticsView,
    CostArguments,
    LatencyAnalyticsView,
)
from app.api_gateway.service.analytics import Question, cost_analytics, latency_analytics
from app.kit.endpoint import endpoint, ok, query
from app.kit.errors import Fault, InvalidPayload
from app.kit.rate_limits import RateClass
from app.kit.time_window import TimeWindow
from app.projects.access import project_of_request

DEFAULT_WINDOW = timedelta(days=30)
LONGEST_WINDOW = timedelta(days=800)
FILTERS = ("provider", "model", "operation", "environment", "team", "outcome")


@endpoint(
    blueprint,
    "GET",
    "/analytics/cost",
    scope="analytics:read",
    rate=RateClass.READ,
    query=CostArguments,
    answers={200: CostAnalyticsView},
    errors=(404,),
)
def show_cost() -> Response:
    """Show what calls cost: totals, steps, groups, the previous period and coverage.

    Without `project_id` all projects of the organization. Sums are exact at once, late calls
    included; steps follow the calendar of `timezone`. Cost is what the provider stated, else what
    our price list computes; calls without a known price are not 0: `coverage` counts them.
    """
    arguments = query(CostArguments)
    return ok(cost_analytics(question=_question(arguments), currency=arguments.currency))


@endpoint(
    blueprint,
    "GET",
    "/analytics/latency",
    scope="analytics:read",
    rate=RateClass.READ,
    query=AnalyticsArguments,
    answers={200: LatencyAnalyticsView},
    errors=(404,),
)
def show_latency() -> Response:
    """Show how long calls took: percentiles of duration and time to first chunk, errors, tokens per second.

    Percentiles are merged from log-spaced histograms: each is within 2 % of the exact one.
    """
    return ok(latency_analytics(question=_question(query(AnalyticsArguments))))


def _question(arguments: AnalyticsArguments) -> Question:
    now = datetime.now(UTC)
    project_id = project_of_request(arguments.project_id).id if arguments.project_id else None
    return Question(
        project_id=project_id,
        window=_window(arguments, now=now),
        interval=arguments.interval,
        timezone=arguments.timezone,
        group_by=tuple(dict.fromkeys(arguments.group_by or ())),
        filters={
            name: chosen for name in FILTERS if (chosen := getattr(arguments, name)) is not None
        },
        limit=arguments.limit,
        now=now,
    )


def _window(arguments: AnalyticsArguments, *, now: datetime) -> TimeWindow:
    try:
        end = arguments.to or now
        start = arguments.from_ or end - DEFAULT_WINDOW
    except OverflowError:
        raise _bad_range("the range begins before the year 1") from None
    if end <= start:
        raise _bad_range("`to` must be after `from`")
    if end - start > LONGEST_WINDOW:
        raise _bad_range(f"the range may have at most {LONGEST_WINDOW.days} days")
    if start.year < 2000 or end.year > 2100:
        raise _bad_range("the range must lie between the years 2000 and 2100")
    return TimeWindow(start, end)


def _bad_range(detail: str) -> InvalidPayload:
    return InvalidPayload(detail, faults=[Fault("/from", "invalid_range", detail)])
