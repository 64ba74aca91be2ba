"""What a usage costs on a rate card: the leaf rule, exactly, and fast.

The leaf rule (api-gateway.md 3.2, as in genai-prices): of the units that a card prices, the most specific
come first; each is billed for its count less what the priced units below it were billed for. A unit
without an own rate is so carried by its nearest priced ancestor; without any, the usage has no price.

All rates of a card are scaled to integers over one common denominator, so a cost is a sum of integer
products, rounded once, half even, to 10^-12. Almost every call is text, which has a short way of its own
(`plain_costs.py`). Everything else takes the general way, which `breakdown` shares.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from fractions import Fraction
from itertools import combinations
from math import lcm
from typing import Final, NamedTuple
from uuid import UUID

from app.api_gateway import picos
from app.api_gateway.plain_costs import Steps, plain_cost, plain_rates
from app.api_gateway.rate_cards import Rate, RateCard
from app.api_gateway.usage import (
    ANCESTORS,
    KNOWN_UNITS,
    TOKEN_UNITS,
    Count,
    Usage,
    usage_violations,
)

_EXACT: Final = Context(prec=100, traps=[Inexact])


class PricingReason(StrEnum):
    """Why a call has no computed cost, or what a cost rests on."""

    unknown_provider = "unknown_provider"
    unknown_model = "unknown_model"
    no_rates = "no_rates"
    no_active_price = "no_active_price"
    unit_without_rate = "unit_without_rate"
    usage_inconsistent = "usage_inconsistent"
    usage_ambiguous = "usage_ambiguous"
    cost_out_of_range = "cost_out_of_range"
    client_estimate = "client_estimate"


class UnpricedUsage(Exception):
    """The card cannot tell what this usage costs; `unit` is the one that it fails on."""

    def __init__(self, reason: PricingReason, unit: str) -> None:
        super().__init__(reason, unit)
        self.reason = reason
        self.unit = unit


class BreakdownRow(NamedTuple):
    """One unit of a call: `quantity` at `rate` for every `per` is `amount`, before any rounding."""

    unit: str
    quantity: Count
    rate: Decimal
    per: int
    amount: Fraction


class _PricedUnit(NamedTuple):
    unit: str
    rate: Rate
    below: tuple[str, ...]


class CompiledCard:
    """A rate card made ready to price calls: `picos(usage)` is the cost in 10^-12, rounded half even.

    `picos` and the other prices raise UnpricedUsage: `usage_inconsistent`, `unit_without_rate` or
    `usage_ambiguous`, in this order.
    """

    __slots__ = (
        "_denominator",
        "_joins",
        "_priced",
        "_rates",
        "_steps",
        "card",
        "currency",
        "id",
        "needs_usage",
        "picos",
    )

    def __init__(self, card: RateCard) -> None:
        self.card = card
        self.id: UUID = card.id
        self.currency = card.currency
        self._rates = dict(card.rates)
        self.needs_usage = self._rates.keys() != {"requests"}
        """False when the call itself is all that is billed, so no count is needed to price it."""
        self._priced = tuple(_most_specific_first(self._rates))
        self._joins = tuple(_joins_that_matter(self._rates))
        self._denominator, self._steps = _scaled(self._rates)
        plain = plain_rates(self._rates, self._steps)
        self.picos: Callable[[Usage], int] = (
            plain_cost(plain, self._denominator, self._picos_of_any)
            if plain
            else self._picos_of_any
        )

    def cost(self, usage: Usage) -> Decimal:
        """Return the cost with 12 places; raise UnpricedUsage."""
        return picos.as_decimal(self.picos(usage))

    def breakdown(self, usage: Usage) -> list[BreakdownRow]:
        """Return what each unit adds; the exact sum, rounded once, is the cost. Raise UnpricedUsage."""
        rows = []
        for unit, quantity in self._leaves(usage).items():
            if quantity:
                rate = self._rates[unit]
                price = rate.price_at(_measure(unit, usage))
                amount = Fraction(quantity) * Fraction(price) / rate.per
                rows.append(BreakdownRow(unit, quantity, price, rate.per, amount))
        return rows

    def _picos_of_any(self, usage: Usage) -> int:
        total: int | Fraction = 0
        for unit, quantity in self._leaves(usage).items():
            if quantity:
                overs, prices = self._steps[unit]
                price = prices[bisect_left(overs, _measure(unit, usage))] if overs else prices[0]
                total += price * (quantity if isinstance(quantity, int) else Fraction(quantity))
        return picos.rounded(total.numerator, total.denominator * self._denominator)

    def _leaves(self, usage: Usage) -> dict[str, Count]:
        self._refuse_what_has_no_answer(usage)
        leaves: dict[str, Count] = {}
        for unit, rate, below in self._priced:
            quantity = _less(_billed(unit, rate, usage), [leaves[part] for part in below])
            if quantity < 0:
                raise UnpricedUsage(PricingReason.usage_inconsistent, unit)
            leaves[unit] = quantity
        return leaves

    def _refuse_what_has_no_answer(self, usage: Usage) -> None:
        for violation in usage_violations(usage):
            raise UnpricedUsage(PricingReason.usage_inconsistent, violation.unit)
        for unit, count in usage.items():
            if count < 0:
                raise UnpricedUsage(PricingReason.usage_inconsistent, unit)
            if count and not self._carries(unit):
                raise UnpricedUsage(PricingReason.unit_without_rate, unit)
        for left, right, join in self._joins:
            if usage.get(left) and usage.get(right):
                overlap = usage.get(join)
                if overlap is None or (overlap and join not in self._rates):
                    raise UnpricedUsage(PricingReason.usage_ambiguous, join)

    def _carries(self, unit: str) -> bool:
        # Every call is a request; only a card that asks for it makes it cost something.
        return (
            unit in self._rates
            or unit == "requests"
            or not ANCESTORS.get(unit, frozenset()).isdisjoint(self._rates)
        )


def compile_card(card: RateCard) -> CompiledCard:
    """Return the card ready to price calls; keep it, it costs some 50 microseconds to make."""
    return CompiledCard(card)


def breakdown(card: RateCard, usage: Usage) -> list[BreakdownRow]:
    """Return the rows of the cost of one call by unit (see `CompiledCard.breakdown`)."""
    return CompiledCard(card).breakdown(usage)


def _measure(unit: str, usage: Usage) -> Count:
    """Return what a tier's threshold is held against: total input for tokens, else the unit's own count."""
    if unit in TOKEN_UNITS:
        return usage.get("input_tokens", 0)
    return usage.get(unit, 1 if unit == "requests" else 0)


def _billed(unit: str, rate: Rate, usage: Usage) -> Count:
    count = usage.get(unit, 1 if unit == "requests" else 0)
    return rate.minimum if 0 < count < rate.minimum else count


def _less(count: Count, parts: list[Count]) -> Count:
    for part in parts:
        if isinstance(count, int) and isinstance(part, int):
            count -= part
        else:
            count = _EXACT.subtract(count, part)
    return count


def _most_specific_first(rates: Mapping[str, Rate]) -> Iterator[_PricedUnit]:
    for unit in sorted(rates, key=lambda name: (-len(ANCESTORS.get(name, ())), name)):
        below = tuple(other for other in rates if unit in ANCESTORS.get(other, ()))
        yield _PricedUnit(unit, rates[unit], below)


def _all_joins() -> Iterator[tuple[str, str, str]]:
    """Yield (left, right, join) for all known units that may overlap without one being part of the other."""
    by_traits = {unit.traits: unit.name for unit in KNOWN_UNITS.values()}
    for left, right in combinations(KNOWN_UNITS.values(), 2):
        traits = left.traits | right.traits
        if len(dict(traits)) == len(traits) and traits not in {left.traits, right.traits}:
            yield from ((left.name, right.name, by_traits[t]) for t in (traits,) if t in by_traits)


_JOINS: Final = tuple(_all_joins())


def _joins_that_matter(rates: Mapping[str, Rate]) -> Iterator[tuple[str, str, str]]:
    """Yield (left, right, join) where a call that has both needs the count of their overlap.

    That is so when both are priced, or when the overlap is (cached and audio on gpt-realtime).
    """
    for left, right, join in _JOINS:
        if join in rates or (left in rates and right in rates):
            yield left, right, join


def _scaled(rates: Mapping[str, Rate]) -> tuple[int, dict[str, Steps]]:
    """Return (denominator, {unit: (thresholds, picos per unit times the denominator)})."""
    exact = {
        unit: [
            Fraction(price) * picos.ONE / rate.per
            for price in (rate.price, *(tier.price for tier in rate.tiers))
        ]
        for unit, rate in rates.items()
    }
    denominator = lcm(*(price.denominator for prices in exact.values() for price in prices))
    steps = {
        unit: (
            tuple(tier.over for tier in rates[unit].tiers),
            tuple(int(price * denominator) for price in prices),
        )
        for unit, prices in exact.items()
    }
    return denominator, steps
