"""A second computation of what analytics answer, from the logged payloads alone.

Nothing of `app/` is imported, and each rule is written the slow and plain way: prices are read from the
wire form of the providers, steps of a series by asking each quarter of an hour for its local date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

QUARTER = timedelta(minutes=15)
QUANTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
TOKENS = (
    "input_tokens", "cache_read_input_tokens", "cache_write_input_tokens", "output_tokens",
    "reasoning_output_tokens",
)  # fmt: skip

Call = Mapping[str, Any]
Providers = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Judged:
    """A call and what it costs; None is "not known"."""

    call: Call
    status: str
    cost: Fraction | None
    computed: Fraction | None
    currency: str

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.call["started_at"])

    @property
    def usage(self) -> Mapping[str, int]:
        return self.call.get("usage") or {}

    @property
    def is_hit(self) -> bool:
        return bool(self.call.get("cache_hit"))

    @property
    def outcome(self) -> str:
        return self.call.get("outcome") or "success"

    @property
    def tokens(self) -> int:
        return self.usage.get("input_tokens", 0) + self.usage.get("output_tokens", 0)

    def dimension(self, name: str) -> str:
        if name in {"team", "environment"}:
            return (self.call.get("attribution") or {}).get(name) or ""
        if name == "model":
            return self.call.get("request_model") or ""
        if name == "operation":
            return self.call.get("operation") or "chat"
        return self.outcome if name == "outcome" else self.call[name]


@dataclass(frozen=True)
class Asked:
    """One question, as its query string says it."""

    start: datetime
    end: datetime
    timezone: str = "UTC"
    interval: str | None = None
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, Sequence[str]] | None = None
    currency: str = "USD"

    def query(self) -> str:
        pairs = [("from", wire(self.start)), ("to", wire(self.end)), ("timezone", self.timezone)]
        pairs += [("interval", self.interval)] if self.interval else []
        pairs += [("group_by", name) for name in self.group_by]
        for name, values in (self.filters or {}).items():
            pairs += [(name, value) for value in values]
        return urlencode(pairs)


def judged(calls: Iterable[Call], providers: Providers) -> list[Judged]:
    """Return each call with its price."""
    prices = {
        (provider["name"], price["model"]): (provider.get("currency", "USD"), price)
        for provider in providers
        for price in provider["prices"]
    }
    return [_judge(call, prices) for call in calls]


def cost_answer(calls: Sequence[Judged], asked: Asked) -> dict[str, Any]:
    """Return the whole answer of GET /analytics/cost but `data_as_of`, numbers of money as Decimal."""
    start, end = widened(asked.start, asked.end)
    chosen = [call for call in calls if _passes(call, asked)]
    within = [call for call in chosen if start <= call.at < end]
    own = [call for call in within if call.currency == asked.currency]
    total = _figures(own)
    before = start - (end - start)
    previous = [c for c in chosen if before <= c.at < start and c.currency == asked.currency]
    earlier = _figures(previous)
    change = total["cost"] - earlier["cost"]
    return {
        "totals": total,
        "previous": {
            **earlier,
            "start": before,
            "end": start,
            "cost_change": change,
            "cost_change_ratio": _ratio(change, earlier["cost"]),
        },
        "series": [
            {
                "start": first,
                "end": last,
                "groups": _groups(part, asked),
                **_figures(part),
            }
            for first, last in steps(start, end, asked)
            for part in [[call for call in own if first <= call.at < last]]
        ],
        "groups": _groups(own, asked),
        "other_groups": 0,
        "coverage": _coverage(own, others=len(within) - len(own)),
        "currency": asked.currency,
        "timezone": asked.timezone,
        "interval": asked.interval,
        "range": {"start": start, "end": end},
        "additive": True,
    }


def latency_figures(calls: Iterable[Judged]) -> dict[str, Any]:
    """Return the figures of GET /analytics/latency, percentiles exact by nearest rank."""
    calls = list(calls)
    timed = [call for call in calls if call.call.get("duration_ms") is not None]
    succeeded = [c.call["duration_ms"] for c in timed if c.outcome == "success"]
    failed = [c.call["duration_ms"] for c in timed if c.outcome != "success"]
    chunks = [
        call.call["time_to_first_chunk_ms"]
        for call in calls
        if call.call.get("stream") and call.call.get("time_to_first_chunk_ms") is not None
    ]
    errors = sum(call.outcome in {"error", "timeout"} for call in calls)
    generating = [
        call
        for call in timed
        if call.call["duration_ms"] > 0 and call.usage.get("output_tokens") and not call.is_hit
    ]
    seconds = sum(call.call["duration_ms"] for call in generating) / 1000
    written = sum(call.usage["output_tokens"] for call in generating)
    mean = sum(call.call["duration_ms"] for call in timed) / len(timed) if timed else None
    return {
        "requests": len(calls),
        "failed_requests": errors,
        "error_rate": errors / len(calls) if calls else None,
        "duration_ms": percentiles(succeeded),
        "failed_duration_ms": percentiles(failed),
        "time_to_first_chunk_ms": percentiles(chunks),
        "mean_duration_ms": mean,
        "output_tokens_per_second": written / seconds if generating else None,
    }


def within(calls: Iterable[Judged], asked: Asked) -> list[Judged]:
    """Return the calls that a question is about, in every currency."""
    start, end = widened(asked.start, asked.end)
    return [call for call in calls if start <= call.at < end and _passes(call, asked)]


def percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return the exact nearest-rank percentiles."""
    ordered = sorted(values)
    ranks = {name: max(1, ceil(len(ordered) * q / 100)) for name, q in QUANTILES.items()}
    named = {name: ordered[rank - 1] if ordered else None for name, rank in ranks.items()}
    return {"count": len(ordered), **named}


def steps(start: datetime, end: datetime, asked: Asked) -> Iterator[tuple[datetime, datetime]]:
    """Yield the steps of the series: a new one where a quarter of an hour is of another local period."""
    if asked.interval is None:
        return
    zone, name_of = ZoneInfo(asked.timezone), _PERIODS[asked.interval]
    first, moment = start, start + QUARTER
    while moment < end:
        local = moment.astimezone(zone)
        before = (moment - QUARTER).astimezone(zone)
        if local.minute == 0 if asked.interval == "hour" else name_of(local) != name_of(before):
            yield first, moment
            first = moment
        moment += QUARTER
    yield first, end


_PERIODS: dict[str, Callable[[datetime], object]] = {
    "hour": lambda local: local.hour,
    "day": lambda local: local.date(),
    "week": lambda local: local.isocalendar()[:2],
    "month": lambda local: (local.year, local.month),
}


def _judge(call: Call, prices: Mapping[Any, Any]) -> Judged:
    key = (call["provider"], call.get("request_model"))
    currency, price = prices.get(key, ("USD", None))
    status, cost = _our_price(call, price)
    stated = call.get("cost")
    if stated and (stated.get("source", "provider") == "provider" or status == "unpriced"):
        amount = Fraction(Decimal(stated["amount"]))
        is_comparable = stated.get("currency", "USD") == currency
        return Judged(
            call,
            "reported",
            amount,
            cost if is_comparable else None,
            stated.get("currency", "USD"),
        )
    return Judged(call, status, cost, cost, currency)


def _our_price(call: Call, price: Mapping[str, Any] | None) -> tuple[str, Fraction | None]:
    usage = call.get("usage") or {}
    rates = (price or {}).get("rates") or {}
    failed = call.get("outcome") == "error"
    if call.get("cache_hit") or call.get("operation") == "fetch_response" or _is_free(price):
        return "free", Fraction(0)
    if not usage.keys() - {"requests"}:
        if rates.keys() == {"requests"} and (usage or not failed):
            return "computed", _cost(usage, rates)
        return ("free", Fraction(0)) if failed else ("unmetered", None)
    if rates and all(_has_rate(unit, rates) for unit, count in usage.items() if count):
        return "computed", _cost(usage, rates)
    if not rates and failed and not any(usage.values()):
        return "free", Fraction(0)
    return "unpriced", None


def _is_free(price: Mapping[str, Any] | None) -> bool:
    return bool(price and price.get("free"))


def _has_rate(unit: str, rates: Mapping[str, Any]) -> bool:
    whole = "input_tokens" if unit.endswith("input_tokens") else "output_tokens"
    return unit in rates or unit == "requests" or (unit.endswith("_tokens") and whole in rates)


def _cost(usage: Mapping[str, int], rates: Mapping[str, Any]) -> Fraction:
    counts = {"requests": 1, **usage}
    cached = counts.get("cache_read_input_tokens", 0) if "cache_read_input_tokens" in rates else 0
    billed = {
        **counts,
        "input_tokens": counts.get("input_tokens", 0) - cached,
        "cache_read_input_tokens": cached,
    }
    total = Fraction(0)
    for unit, rate in rates.items():
        measure = counts.get("input_tokens", 0) if unit.endswith("_tokens") else counts.get(unit, 0)
        amount = Decimal(rate["price"])
        for tier in rate.get("tiers", ()):
            if measure > tier["over"]:
                amount = Decimal(tier["price"])
        total += Fraction(amount) * billed.get(unit, 0) / rate.get("per", 1)
    return round(total, 12)


def _passes(call: Judged, asked: Asked) -> bool:
    filters = asked.filters or {}
    return all(call.dimension(name) in values for name, values in filters.items())


def _figures(calls: Sequence[Judged]) -> dict[str, Any]:
    billed = [call for call in calls if not call.is_hit]
    return {
        "cost": _money(sum((call.cost or Fraction(0) for call in calls), Fraction(0))),
        "computed": _money(sum((call.computed or Fraction(0) for call in calls), Fraction(0))),
        "requests": len(calls),
        "failed_requests": sum(call.outcome in {"error", "timeout"} for call in calls),
        "retries": sum((call.call.get("attempt") or 1) > 1 for call in calls),
        "cache_hits": len(calls) - len(billed),
        "avoided_tokens": sum(call.tokens for call in calls if call.is_hit),
        **{name: sum(call.usage.get(name, 0) for call in billed) for name in TOKENS},
    }


def _groups(calls: Sequence[Judged], asked: Asked) -> list[dict[str, Any]]:
    if not asked.group_by:
        return []
    by_keys: dict[tuple[str, ...], list[Judged]] = {}
    for call in calls:
        by_keys.setdefault(tuple(map(call.dimension, asked.group_by)), []).append(call)
    total = _figures(calls)["cost"]
    groups = [
        {
            "keys": dict(zip(asked.group_by, keys, strict=True)),
            **figures,
            "share": _ratio(figures["cost"], total),
        }
        for keys, same in by_keys.items()
        for figures in [_figures(same)]
    ]
    return sorted(groups, key=lambda g: (-g["cost"], -g["requests"], sorted(g["keys"].items())))


def _coverage(own: Sequence[Judged], *, others: int) -> dict[str, Any]:
    count = {
        status: sum(call.status == status for call in own)
        for status in ("reported", "computed", "free", "unpriced", "unmetered")
    }
    billed = [call for call in own if not call.is_hit]
    priced = sum(call.tokens for call in billed if call.cost is not None)
    return {
        "priced_requests": count["reported"] + count["computed"] + count["free"],
        **{f"{status}_requests": number for status, number in count.items()},
        "approximate_requests": sum("pricing_context" in call.call for call in own),
        "other_currency_requests": others,
        "priced_token_share": _ratio(Decimal(priced), Decimal(sum(c.tokens for c in billed))),
    }


def _money(amount: Fraction) -> Decimal:
    return Decimal(int(amount * 10**12)).scaleb(-12)


def _ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    if not whole:
        return None
    return Decimal(int(round(Fraction(part) / Fraction(whole), 6) * 10**6)).scaleb(-6)


def widened(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the range widened to whole quarters of an hour."""
    midnight = datetime(1970, 1, 1, tzinfo=UTC)
    return (
        start - (start - midnight) % QUARTER,
        end + (midnight - end) % QUARTER,
    )


def wire(moment: datetime) -> str:
    """Return the moment as the API writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
