"""One logged call becomes one row: canonical fields, price, histogram bins - as COPY text.

Pure and fast: this runs for every call of every batch. A row is two runs of columns, INPUT_COLUMNS
(what the caller said, which `payload_hash` covers) and PRICED_COLUMNS (what we made of it), so that a
retry after a price change is still the same call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from json import JSONEncoder
from operator import itemgetter
from typing import Any, NamedTuple

from app.api_gateway import picos
from app.api_gateway.histogram import bin_of
from app.api_gateway.price_book import PriceBook
from app.api_gateway.pricing import (
    PricedCall,
    PricingStatus,
    Resolution,
    StatedCost,
    price_call,
)
from app.api_gateway.usage import count_fault, usage_violations
from app.kit.errors import Fault
from app.kit.payload import rfc3339_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
US_PER_MS = 1000
TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
# Columns whose values are the caller's own texts: taken from an item by one C call.
TEXT_COLUMNS = (
    "id", "source", "request_model", "response_model", "response_id", "endpoint", "error_type",
    "operation_id", "trace_id", "span_id", "reservation_id",
)  # fmt: skip
ATTRIBUTION_COLUMNS = ("environment", "team", "user_id", "customer_id", "api_key_id")
INPUT_COLUMNS = (
    *TEXT_COLUMNS, *ATTRIBUTION_COLUMNS, *TOKEN_COLUMNS, "started_at", "status_code", "stream",
    "cache_hit", "attempt", "duration_us", "time_to_first_chunk_us", "operation", "outcome",
    "usage_source", "other_usage", "pricing_context", "tags",
)  # fmt: skip
PRICED_COLUMNS = (
    "provider", "model", "duration_bin", "first_chunk_bin", "pricing_status", "pricing_reason",
    "pricing_notes", "cost", "computed_cost", "stated_cost", "currency", "rate_card_id",
    "payload_hash", "group_id",
)  # fmt: skip
COLUMNS = INPUT_COLUMNS + PRICED_COLUMNS
# PostgreSQL's types of the columns that are not text.
COLUMN_TYPES = dict.fromkeys(
    (*TOKEN_COLUMNS, "duration_us", "time_to_first_chunk_us"), "bigint"
) | {
    "started_at": "timestamptz",
    "status_code": "smallint",
    "stream": "boolean",
    "cache_hit": "boolean",
    "attempt": "smallint",
    "other_usage": "jsonb",
    "pricing_context": "jsonb",
    "tags": "jsonb",
    "reservation_id": "uuid",
    "duration_bin": "smallint",
    "first_chunk_bin": "smallint",
    "cost": "numeric",
    "computed_cost": "numeric",
    "stated_cost": "numeric",
    "rate_card_id": "uuid",
    "payload_hash": "bigint",
    "group_id": "bigint",
}

# A hundred of the largest contexts. Sums of them are bigints in the rollups: a sum that did not fit
# would stop the compaction of everybody.
MAXIMUM_TOKENS = 10**9

_TOKEN_UNITS = frozenset(TOKEN_COLUMNS)
_texts_of = itemgetter(*TEXT_COLUMNS)
_attribution_of = itemgetter(*ATTRIBUTION_COLUMNS)
_tokens_of = itemgetter(*TOKEN_COLUMNS)
_NO_TEXTS = dict.fromkeys(TEXT_COLUMNS, "")
_NO_ATTRIBUTION = dict.fromkeys(ATTRIBUTION_COLUMNS, "")
_NO_TOKENS = dict.fromkeys(TOKEN_COLUMNS, "")
_TAB = "\t"
_NO_TOKENS_TEXT = _TAB * (len(TOKEN_COLUMNS) - 1)
_encode = JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


class Cell(NamedTuple):
    """The group of the rollup that a call belongs to; absent is the empty text."""

    provider: str
    model: str
    operation: str
    environment: str
    team: str
    outcome: str
    currency: str


class UnknownCell(LookupError):
    """A cell that has no group id yet."""


@dataclass(slots=True)
class LoggedCall:
    """One valid call, ready to be written once its cell has a group id."""

    index: int
    id: str
    started_us: int
    cell: Cell
    text: str
    payload_hash: int
    priced: PricedCall
    stated: StatedCost | None

    def started_at_text(self) -> str:
        """Return when the call started as RFC 3339 UTC."""
        return rfc3339_text(moment_of(self.started_us))

    def line(self, group_id: int) -> str:
        """Return the row as one line of COPY text, NULL being the empty text."""
        text = self.text
        if "\\" in text:
            text = text.replace("\\", "\\\\")
        return f"{text}\t{self.payload_hash}\t{group_id}\n"

    def values(self, group_id: int) -> list[str | None]:
        """Return the row as one text for each of COLUMNS."""
        texts = f"{self.text}\t{self.payload_hash}\t{group_id}".split("\t")
        return [text or None for text in texts]


class RefusedCall(Exception):
    """A call that breaks rules which its types cannot state."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class AcceptedTimes:
    """From when to when a call may have started, in microseconds since 1970."""

    earliest_us: int
    latest_us: int

    @classmethod
    def around(cls, now: datetime, *, retention: timedelta, ahead: timedelta) -> AcceptedTimes:
        return cls(microseconds(now - retention), microseconds(now + ahead))


def microseconds(moment: datetime) -> int:
    """Return the whole microseconds since 1970 of an aware moment, without a float in between."""
    return (moment - EPOCH) // MICROSECOND


def moment_of(started_us: int) -> datetime:
    """Return the moment, aware, UTC."""
    return EPOCH + timedelta(microseconds=started_us)


class CallReader:
    """Reads the valid items of one batch into rows: one project, one price book, one moment."""

    def __init__(self, *, book: PriceBook, times: AcceptedTimes) -> None:
        self._resolve = book.resolve
        self._times = times

    def read(self, index: int, item: Mapping[str, Any]) -> LoggedCall:
        """Return the call as a row. Raises RefusedCall with every fault, pointers relative to the item."""
        get: Callable[..., Any] = item.get
        provider, usage, context = item["provider"], get("usage"), get("pricing_context")
        started_at = _moment(item["started_at"])
        started_us = microseconds(started_at)
        self._refuse_faults(started_us, usage)
        operation, outcome = get("operation") or "chat", get("outcome") or "success"
        stated = _stated(get("cost"))
        resolution = self._resolve(
            provider, get("request_model"), get("response_model"), started_at, context
        )
        is_unbilled = bool(get("cache_hit")) or operation == "fetch_response"
        priced = price_call(resolution, usage, outcome, is_unbilled, stated)
        attributed = _filled(_attribution_of(_NO_ATTRIBUTION | (get("attribution") or {})))
        cell = Cell(
            resolution.provider,
            resolution.model or "",
            operation,
            attributed[0],
            attributed[1],
            outcome,
            _currency(resolution, priced, stated),
        )
        said = (
            f"{_TAB.join(_filled(_texts_of({**_NO_TEXTS, **item})))}\t{_TAB.join(attributed)}"
            f"\t{_measured_text(get, started_at, usage, context, cell)}"
        )
        text = f"{said}\t{_priced_text(get, resolution, priced, stated, cell)}"
        return LoggedCall(
            index, item["id"], started_us, cell, text, _hash(said, provider, stated), priced, stated
        )

    def _refuse_faults(self, started_us: int, usage: Mapping[str, Any] | None) -> None:
        faults = _usage_faults(usage) if usage else []
        if not self._times.earliest_us <= started_us <= self._times.latest_us:
            faults.append(_outside(started_us, self._times))
        if faults:
            raise RefusedCall(faults)


def _moment(text: str) -> datetime:
    try:
        if len(text) <= 27 and text[-1] == "Z":
            return datetime.fromisoformat(text)
        return _any_moment(text)
    except (ValueError, OverflowError):
        detail = "is no time of the calendar between the years 1 and 9999"
        raise RefusedCall([Fault("/started_at", "invalid_time", detail)]) from None


def _any_moment(text: str) -> datetime:
    head, dot, tail = text.upper().partition(".")
    if dot:
        digits = tail.rstrip("Z").split("+")[0].split("-")[0]
        # More than six decimals are cut, not rounded: both deliveries of a call must give one key.
        head = f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}"
    return datetime.fromisoformat(head).astimezone(UTC)


def _outside(started_us: int, times: AcceptedTimes) -> Fault:
    if started_us < times.earliest_us:
        oldest = moment_of(times.earliest_us).isoformat(timespec="seconds")
        return Fault("/started_at", "too_old", f"calls are kept back to {oldest}; this is older")
    latest = moment_of(times.latest_us).isoformat(timespec="seconds")
    return Fault("/started_at", "in_the_future", f"may be at most {latest} (10 minutes ahead)")


def _usage_faults(usage: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for unit, count in usage.items():
        if type(count) is not int and (detail := count_fault(unit, count)):
            faults.append(Fault(f"/usage/{unit}", "invalid_count", detail))
        elif count > MAXIMUM_TOKENS and unit in _TOKEN_UNITS:
            detail = f"must be at most {MAXIMUM_TOKENS}"
            faults.append(Fault(f"/usage/{unit}", "invalid_count", detail))
    if not faults:
        faults = [
            Fault(f"/usage/{violation.unit}", "subset_exceeds_total", str(violation))
            for violation in usage_violations(usage)
        ]
    return faults


def _stated(cost: Mapping[str, Any] | None) -> StatedCost | None:
    if not cost:
        return None
    return StatedCost(
        picos.from_decimal(cost["amount"]),
        cost.get("source", "provider") == "provider",
        cost.get("currency", "USD"),
    )


def _filled(texts: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple([text or "" for text in texts]) if None in texts else texts  # type: ignore[return-value]


def _currency(resolution: Resolution, priced: PricedCall, stated: StatedCost | None) -> str:
    if stated is not None and priced[0] is PricingStatus.reported:
        return stated.currency
    return resolution.currency


def _measured_text(
    get: Callable[..., Any],
    started_at: datetime,
    usage: Mapping[str, Any] | None,
    context: Mapping[str, str] | None,
    cell: Cell,
) -> str:
    duration_ms, first_chunk_ms, tags = (
        get("duration_ms"),
        get("time_to_first_chunk_ms"),
        get("tags"),
    )
    if usage:
        tokens = "\t".join(map(str, _tokens_of({**_NO_TOKENS, **usage})))
        other = "" if usage.keys() <= _TOKEN_UNITS else _other_usage(usage)
    else:
        tokens, other = _NO_TOKENS_TEXT, ""
    source = "missing" if usage is None else get("usage_source") or "provider"
    return (
        f"{tokens}\t{started_at.isoformat()}\t{get('status_code') or ''}"
        f"\t{'t' if get('stream') else 'f'}\t{'t' if get('cache_hit') else 'f'}"
        f"\t{get('attempt') or 1}"
        f"\t{'' if duration_ms is None else round(duration_ms * US_PER_MS)}"
        f"\t{'' if first_chunk_ms is None else round(first_chunk_ms * US_PER_MS)}"
        f"\t{cell.operation}\t{cell.outcome}\t{source}\t{other}"
        f"\t{_json(tuple(context.items())) if context else ''}"
        f"\t{_json(tuple(tags.items())) if tags else ''}"
    )


def _other_usage(usage: Mapping[str, Any]) -> str:
    # A Decimal goes in as text, so that it stays what the caller said digit by digit.
    return _encode(
        {
            unit: count if type(count) is int else str(count)
            for unit, count in usage.items()
            if unit not in _TOKEN_UNITS
        }
    )


def _json(pairs: tuple[tuple[str, str], ...]) -> str:
    # What is kept is the caller's: 32 tags of 700 characters each would be 90 MB of them.
    return _short_json(pairs) if len(pairs) <= 4 else _encode(dict(pairs))


@lru_cache(maxsize=4096)
def _short_json(pairs: tuple[tuple[str, str], ...]) -> str:
    return _encode(dict(pairs))


def _priced_text(
    get: Callable[..., Any],
    resolution: Resolution,
    priced: PricedCall,
    stated: StatedCost | None,
    cell: Cell,
) -> str:
    status, cost, computed, reason = priced
    duration_ms, first_chunk_ms = get("duration_ms"), get("time_to_first_chunk_ms")
    card_id = resolution.rate_card_id
    return "\t".join(
        (
            cell.provider,
            cell.model,
            "" if duration_ms is None else str(bin_of(duration_ms)),
            str(bin_of(first_chunk_ms)) if first_chunk_ms is not None and get("stream") else "",
            status,
            reason or "",
            ",".join(resolution.notes),
            "" if cost is None else f"{cost}e-12",
            "" if computed is None else f"{computed}e-12",
            "" if stated is None else f"{stated.picos}e-12",
            cell.currency,
            "" if card_id is None else str(card_id),
        )
    )


def _hash(said: str, provider: str, stated: StatedCost | None) -> int:
    content = f"{said}\t{provider}\t{stated}".encode()
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)
