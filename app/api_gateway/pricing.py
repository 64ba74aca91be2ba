"""What is written beside a call: its status, its cost and why (api-gateway.md 3.2).

An unknown cost is None, never 0; every cost is an integer of 10^-12 of its currency (`picos.py`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from app.api_gateway import picos
from app.api_gateway.card_costs import (
    BreakdownRow,
    CompiledCard,
    PricingReason,
    UnpricedUsage,
    breakdown,
    compile_card,
)
from app.api_gateway.rate_cards import Rate, RateCard, Tier, rate_card, rate_card_id
from app.api_gateway.usage import Usage

__all__ = [
    "BreakdownRow",
    "CompiledCard",
    "PriceNote",
    "PricedCall",
    "PricingReason",
    "PricingStatus",
    "Rate",
    "RateCard",
    "Resolution",
    "StatedCost",
    "Tier",
    "UnpricedUsage",
    "breakdown",
    "compile_card",
    "price_call",
    "rate_card",
    "rate_card_id",
]


class PricingStatus(StrEnum):
    """What kind of figure the cost of a call is."""

    reported = "reported"
    computed = "computed"
    free = "free"
    unmetered = "unmetered"
    unpriced = "unpriced"


class PriceNote(StrEnum):
    """What makes a price approximate; coverage counts such calls."""

    context_not_priced = "context_not_priced"
    undated = "undated"
    inexact_name = "inexact_name"


class StatedCost(NamedTuple):
    """The cost that a call came with; a provider's is the bill, a client library's an estimate."""

    picos: int
    is_from_provider: bool
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the price book knows of a provider, a model and a moment.

    Exactly one of these holds: `compiled` prices the call, `is_free`, or `reason` says why neither.
    `price_list` is the provider whose list has the model: `openai` for an OpenAI model on Azure.
    """

    provider: str
    model: str | None
    compiled: CompiledCard | None = None
    reason: PricingReason | None = None
    is_free: bool = False
    notes: tuple[PriceNote, ...] = ()
    price_list: str | None = None

    @property
    def rate_card_id(self) -> UUID | None:
        """Return the card that a row refers to."""
        return self.compiled.id if self.compiled else None

    @property
    def currency(self) -> str:
        """Return the currency of a computed cost."""
        return self.compiled.currency if self.compiled else "USD"


PricedCall: TypeAlias = tuple[PricingStatus, int | None, int | None, PricingReason | None]
"""(status, cost, computed cost, reason); costs in picos. A plain tuple: one is made for every call."""

_COMPUTED: Final = PricingStatus.computed
_FREE: Final[PricedCall] = (PricingStatus.free, 0, 0, None)
_UNMETERED: Final[PricedCall] = (PricingStatus.unmetered, None, None, None)


def price_call(
    resolution: Resolution,
    usage: Usage | None,
    outcome: str = "success",
    is_unbilled: bool = False,
    stated: StatedCost | None = None,
) -> PricedCall:
    """Return (status, cost, computed cost, reason) of one call, costs in picos. Never raises.

    `outcome` is success, error, timeout or cancelled. `is_unbilled` marks what nobody bills whatever it
    used: an answer from the response cache, a stored response read again. `usage` None, empty or with
    nothing but `requests` is missing usage, unless the card bills requests only; a 0 is a value.

    A provider's stated cost wins, with ours beside it (None when the currencies differ). A client
    library's estimate counts only where ours is unpriced: it is then `reported`, for the reason
    `client_estimate`. Table and order: api-gateway.md 3.2.
    """
    compiled = resolution.compiled
    # Two or more units on a card: the table has nothing to decide, and almost every call is such.
    if compiled is None or stated is not None or is_unbilled or not usage or len(usage) == 1:
        return _priced_by_the_table(resolution, usage, outcome, is_unbilled, stated)
    return _computed(compiled, usage)


def _priced_by_the_table(
    resolution: Resolution,
    usage: Usage | None,
    outcome: str,
    is_unbilled: bool,
    stated: StatedCost | None,
) -> PricedCall:
    ours = _FREE if is_unbilled else _our_price(resolution, usage, outcome)
    if stated is None:
        return ours
    status, _, computed, _ = ours
    if stated.is_from_provider:
        is_comparable = stated.currency == resolution.currency or not computed
        return PricingStatus.reported, stated.picos, computed if is_comparable else None, None
    if status is PricingStatus.unpriced:
        return PricingStatus.reported, stated.picos, None, PricingReason.client_estimate
    return ours


def _our_price(resolution: Resolution, usage: Usage | None, outcome: str) -> PricedCall:
    if resolution.is_free:
        return _FREE
    compiled = resolution.compiled
    usage = usage or {}
    if usage.keys() <= {"requests"}:
        if compiled and not compiled.needs_usage and (usage or outcome != "error"):
            return _computed(compiled, usage)
        return _FREE if outcome == "error" else _UNMETERED
    if compiled:
        return _computed(compiled, usage)
    if outcome == "error" and not any(usage.values()):
        return _FREE
    return PricingStatus.unpriced, None, None, resolution.reason


def _computed(compiled: CompiledCard, usage: Usage) -> PricedCall:
    try:
        cost = compiled.picos(usage)
    except UnpricedUsage as problem:
        return PricingStatus.unpriced, None, None, problem.reason
    if cost >= picos.LIMIT:
        return PricingStatus.unpriced, None, None, PricingReason.cost_out_of_range
    return _COMPUTED, cost, cost, None
