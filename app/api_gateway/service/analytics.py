"""Analytics: the sums of the rollups become totals, steps, groups, the previous period and coverage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from app.api_gateway import histogram
from app.api_gateway.covering import Interval, aligned, slots
from app.api_gateway.queries.rollups import CellSums, cell_histograms, cell_sums
from app.api_gateway.schemas.analytics import (
    MAXIMUM_STEPS,
    CostAnalyticsView,
    CostFiguresView,
    CostGroupView,
    CostStepView,
    CoverageView,
    LatencyAnalyticsView,
    LatencyFiguresView,
    LatencyGroupView,
    LatencyStepView,
    PercentilesView,
    PreviousView,
    RangeView,
)
from app.kit.errors import Fault, InvalidPayload
from app.kit.time_window import TimeWindow, zone_named

PREVIOUS = -1
SHARE_PLACES = Decimal("0.000001")
RATIOS = Context(prec=100)
FAILURES = frozenset({"error", "timeout"})
QUANTILES = {
    "p50": Decimal("0.5"),
    "p90": Decimal("0.9"),
    "p95": Decimal("0.95"),
    "p99": Decimal("0.99"),
}
RELATIVE_ERROR = 0.02
US_PER_MS = 1000
US_PER_S = 1_000_000

COST_FIGURES = (
    "requests", "retries", "cache_hits", "input_tokens", "cache_read_input_tokens",
    "cache_write_input_tokens", "output_tokens", "reasoning_output_tokens", "avoided_tokens",
    "priced_tokens", "reported", "computed", "free", "unmetered", "unpriced", "approximate", "cost",
    "computed_cost",
)  # fmt: skip
LATENCY_FIGURES = ("requests", "timed", "duration_us", "generated_tokens", "generation_us")

Keys = tuple[str, ...]
Figures = dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Question:
    """What both analytics are asked: whose calls, when, in which steps, by what."""

    project_id: UUID | None
    window: TimeWindow
    interval: Interval | None
    timezone: str
    group_by: tuple[str, ...]
    filters: Mapping[str, Sequence[str]]
    limit: int
    now: datetime


@dataclass(slots=True)
class Tally:
    """Figures added up; a figure that never came is 0."""

    figures: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    failed: Decimal = Decimal(0)

    def add(self, figures: Figures, *, outcome: str) -> None:
        for name, value in figures.items():
            self.figures[name] += value
        if outcome in FAILURES:
            self.failed += figures["requests"]


def cost_analytics(*, question: Question, currency: str) -> CostAnalyticsView:
    """Return what the calls of the question cost; every sum is exact at this moment."""
    window, steps = _steps(question)
    numbered = _numbered(window, steps) | {PREVIOUS: window.previous()}
    cells = cell_sums(
        project_id=question.project_id,
        slots=numbered,
        by=(*question.group_by, "outcome", "currency"),
        filters=question.filters,
        figures=COST_FIGURES,
    )
    own = [cell for cell in cells if cell.dimensions[-1] == currency]
    foreign = [cell for cell in cells if cell.dimensions[-1] != currency]
    now_cells = [cell for cell in own if cell.slot != PREVIOUS]
    totals = _tally(now_cells)
    groups = _cost_groups(now_cells, question, total=totals.figures["cost"])
    return CostAnalyticsView(
        totals=CostFiguresView(**_cost_figures(totals)),
        previous=_previous(
            [cell for cell in own if cell.slot == PREVIOUS], totals, window.previous()
        ),
        series=_cost_series(now_cells, steps, question) if question.interval else [],
        groups=groups[: question.limit],
        other_groups=max(0, len(groups) - question.limit),
        coverage=_coverage(totals, [cell for cell in foreign if cell.slot != PREVIOUS]),
        currency=currency,
        timezone=question.timezone,
        interval=question.interval,
        range=RangeView(start=window.start, end=window.end),
        additive=True,
        data_as_of=question.now,
    )


def latency_analytics(*, question: Question) -> LatencyAnalyticsView:
    """Return how long the calls of the question took, from merged histograms."""
    window, steps = _steps(question)
    latencies = _Latencies(question, _numbered(window, steps))
    groups = [
        LatencyGroupView(keys=_named(question, keys), **latencies.figures(keys=keys))
        for keys in latencies.groups()
    ]
    groups.sort(key=lambda group: (-group.requests, sorted(group.keys.items())))
    series = [
        LatencyStepView(
            start=step.start,
            end=step.end,
            groups=[
                LatencyGroupView(
                    keys=_named(question, keys), **latencies.figures(keys=keys, slot=number)
                )
                for keys in latencies.groups(slot=number)
            ],
            **latencies.figures(slot=number),
        )
        for number, step in enumerate(steps if question.interval else ())
    ]
    return LatencyAnalyticsView(
        totals=LatencyFiguresView(**latencies.figures()),
        series=series,
        groups=groups[: question.limit] if question.group_by else [],
        timezone=question.timezone,
        interval=question.interval,
        range=RangeView(start=window.start, end=window.end),
        relative_error=RELATIVE_ERROR,
        data_as_of=question.now,
    )


def _steps(question: Question) -> tuple[TimeWindow, list[TimeWindow]]:
    window = aligned(question.window)
    zone = zone_named(question.timezone)
    if question.interval is None:
        return window, [window]
    steps = []
    for step in slots(window, interval=question.interval, zone=zone):
        steps.append(step)
        if len(steps) > MAXIMUM_STEPS:
            detail = f"this range has more than {MAXIMUM_STEPS} steps; take a longer interval"
            raise InvalidPayload(detail, faults=[Fault("/interval", "too_many_steps", detail)])
    return window, steps


def _numbered(window: TimeWindow, steps: Sequence[TimeWindow]) -> dict[int, TimeWindow]:
    return dict(enumerate(steps or [window]))


def _tally(cells: Iterable[CellSums]) -> Tally:
    tally = Tally()
    for cell in cells:
        tally.add(cell.figures, outcome=cell.dimensions[-2])
    return tally


def _cost_figures(tally: Tally) -> dict[str, Any]:
    figures = tally.figures
    return {
        "cost": figures["cost"],
        "computed": figures["computed_cost"],
        "failed_requests": int(tally.failed),
        **{
            name: int(figures[name])
            for name in CostFiguresView.model_fields
            if name not in {"cost", "computed", "failed_requests"}
        },
    }


def _cost_groups(
    cells: Sequence[CellSums], question: Question, *, total: Decimal
) -> list[CostGroupView]:
    if not question.group_by:
        return []
    by_keys: dict[Keys, list[CellSums]] = defaultdict(list)
    for cell in cells:
        by_keys[cell.dimensions[:-2]].append(cell)
    groups = [
        CostGroupView(
            keys=_named(question, keys),
            share=_ratio(tally.figures["cost"], total),
            **_cost_figures(tally),
        )
        for keys, same in by_keys.items()
        for tally in [_tally(same)]
    ]
    groups.sort(key=lambda group: (-group.cost, -group.requests, sorted(group.keys.items())))
    return groups


def _cost_series(
    cells: Sequence[CellSums], steps: Sequence[TimeWindow], question: Question
) -> list[CostStepView]:
    by_slot: dict[int, list[CellSums]] = defaultdict(list)
    for cell in cells:
        by_slot[cell.slot].append(cell)
    series = []
    for number, step in enumerate(steps):
        tally = _tally(by_slot[number])
        groups = _cost_groups(by_slot[number], question, total=tally.figures["cost"])
        series.append(
            CostStepView(start=step.start, end=step.end, groups=groups, **_cost_figures(tally))
        )
    return series


def _previous(cells: Sequence[CellSums], totals: Tally, window: TimeWindow) -> PreviousView:
    tally = _tally(cells)
    change = totals.figures["cost"] - tally.figures["cost"]
    return PreviousView(
        start=window.start,
        end=window.end,
        cost_change=change,
        cost_change_ratio=_ratio(change, tally.figures["cost"]),
        **_cost_figures(tally),
    )


def _coverage(totals: Tally, foreign: Sequence[CellSums]) -> CoverageView:
    figures = totals.figures
    count = {name: int(figures[name]) for name in ("reported", "computed", "free")}
    return CoverageView(
        priced_requests=sum(count.values()),
        reported_requests=count["reported"],
        computed_requests=count["computed"],
        free_requests=count["free"],
        unpriced_requests=int(figures["unpriced"]),
        unmetered_requests=int(figures["unmetered"]),
        approximate_requests=int(figures["approximate"]),
        other_currency_requests=int(sum(cell.figures["requests"] for cell in foreign)),
        priced_token_share=_ratio(
            figures["priced_tokens"], figures["input_tokens"] + figures["output_tokens"]
        ),
    )


def _ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    if not whole:
        return None
    # The change against a tiny cost has more digits than the 28 of the default context.
    return (part / whole).quantize(SHARE_PLACES, context=RATIOS)


def _named(question: Question, keys: Keys) -> dict[str, str]:
    return dict(zip(question.group_by, keys, strict=True))


Cells = dict[tuple[int | None, Keys | None], list[Any]]


class _Latencies:
    """The sums and histograms of one question, merged over any one slot and group or all of them."""

    def __init__(self, question: Question, numbered: Mapping[int, TimeWindow]) -> None:
        shared: dict[str, Any] = {
            "project_id": question.project_id,
            "slots": numbered,
            "by": (*question.group_by, "outcome"),
            "filters": question.filters,
        }
        self._sums = _indexed(cell_sums(figures=LATENCY_FIGURES, **shared))
        self._durations = _indexed(cell_histograms(name="duration", **shared))
        self._first_chunks = _indexed(cell_histograms(name="first_chunk", **shared))

    def groups(self, *, slot: int | None = None) -> list[Keys]:
        """Return the groups that have calls, in this slot or in any."""
        return sorted({cell.dimensions[:-1] for cell in self._sums.get((slot, None), ())})

    def figures(self, *, keys: Keys | None = None, slot: int | None = None) -> dict[str, Any]:
        """Return the figures of LatencyFiguresView; None means all groups, all slots."""
        chosen = (slot, keys)
        tally = Tally()
        for cell in self._sums.get(chosen, ()):
            tally.add(cell.figures, outcome=cell.dimensions[-1])
        durations = self._durations.get(chosen, ())
        succeeded = [cell.bins for cell in durations if cell.dimensions[-1] == "success"]
        failed = [cell.bins for cell in durations if cell.dimensions[-1] != "success"]
        first_chunks = [cell.bins for cell in self._first_chunks.get(chosen, ())]
        figures = tally.figures
        return {
            "requests": int(figures["requests"]),
            "failed_requests": int(tally.failed),
            "error_rate": _quotient(tally.failed, figures["requests"]),
            "duration_ms": _percentiles(succeeded),
            "failed_duration_ms": _percentiles(failed),
            "time_to_first_chunk_ms": _percentiles(first_chunks),
            "mean_duration_ms": _quotient(figures["duration_us"], figures["timed"] * US_PER_MS),
            "output_tokens_per_second": _quotient(
                figures["generated_tokens"] * US_PER_S, figures["generation_us"]
            ),
        }


def _indexed(cells: Iterable[Any]) -> Cells:
    """Return the cells by (slot, group), None standing for all of them."""
    index: Cells = defaultdict(list)
    for cell in cells:
        keys = cell.dimensions[:-1]
        for place in ((cell.slot, keys), (cell.slot, None), (None, keys), (None, None)):
            index[place].append(cell)
    return dict(index)


def _quotient(part: Decimal, whole: Decimal) -> float | None:
    return float(part / whole) if whole else None


def _percentiles(histograms: Iterable[Mapping[int, int]]) -> PercentilesView:
    bins = histogram.merged(histograms)
    values = {name: histogram.percentile(bins, q) for name, q in QUANTILES.items()}
    return PercentilesView(count=sum(bins.values()), **values)
