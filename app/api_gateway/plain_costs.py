"""The short way for calls of text, which is almost every call: the leaf rule as one fixed sum.

A text call has six numbers (cached input, output and so on) and perhaps some searches. For them the leaf
rule of `card_costs.py` is the same for every card; what differs is which rate carries which number, and
that is settled once, when the card is compiled.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, NamedTuple, TypeAlias

from app.api_gateway import picos
from app.api_gateway.rate_cards import Rate
from app.api_gateway.usage import ANCESTORS, KNOWN_UNITS, Usage

Steps: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""(thresholds, prices): one price more than thresholds."""

_PLAIN_UNITS: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
_SEARCH_UNITS: Final = tuple(
    u for u in KNOWN_UNITS.values() if u.family in {"tool_calls", "rerank"}
)


class PlainRates(NamedTuple):
    """The six rates of a text call for each range of total input."""

    overs: tuple[int, ...]
    by_range: tuple[tuple[int, ...], ...]
    has_output: bool
    alone: Mapping[str, int]
    """Rates of units that nothing is part of and that have no tiers: searches."""


def plain_rates(rates: Mapping[str, Rate], steps: Mapping[str, Steps]) -> PlainRates | None:
    """Return the rates of a text call, each unit with its own or its ancestor's; None when it is not so plain."""
    if (
        "input_tokens" not in rates
        or not rates.keys().isdisjoint({"requests", "cache_write_5m_input_tokens"})
        or any(rates[unit].minimum for unit in _PLAIN_UNITS if unit in rates)
    ):
        return None
    carriers = [_carrier(unit, rates) for unit in _PLAIN_UNITS]
    overs = sorted({over for unit in carriers if unit for over in steps[unit][0]})
    by_range = tuple(
        tuple(_price_over(steps[unit], floor) if unit else 0 for unit in carriers)
        for floor in (-1, *overs)
    )
    alone = {
        unit: prices[0]
        for unit, (tiers, prices) in steps.items()
        if KNOWN_UNITS.get(unit) in _SEARCH_UNITS and not tiers and not rates[unit].minimum
    }
    return PlainRates(tuple(overs), by_range, "output_tokens" in rates, alone)


def _carrier(unit: str, rates: Mapping[str, Rate]) -> str | None:
    candidates = [name for name in (unit, *ANCESTORS[unit]) if name in rates]
    return max(candidates, key=lambda name: len(ANCESTORS[name]), default=None)


def _price_over(steps: Steps, floor: int) -> int:
    """Return the price of a total just above `floor`: the last threshold not above it decides."""
    overs, prices = steps
    return prices[sum(over <= floor for over in overs)]


def plain_cost(
    plain: PlainRates, denominator: int, general: Callable[[Usage], int]
) -> Callable[[Usage], int]:
    """Return the price of text calls as one closure: locals, because it runs once for every call."""
    overs, by_range, has_output, alone = plain
    first_over: float = overs[0] if overs else inf
    base = by_range[0]
    plain_units = frozenset((*_PLAIN_UNITS, "requests"))

    def cost(usage: Usage) -> int:
        count: Callable[[str, int], int] = usage.get  # type: ignore[assignment]
        total = 0
        for unit in usage:
            if unit not in plain_units and (quantity := count(unit, 0)):
                if unit not in alone or quantity < 0:
                    return general(usage)
                total += quantity * alone[unit]
        total_input = count("input_tokens", 0)
        cached = count("cache_read_input_tokens", 0)
        written = count("cache_write_input_tokens", 0)
        written_1h = count("cache_write_1h_input_tokens", 0)
        total_output = count("output_tokens", 0)
        reasoning = count("reasoning_output_tokens", 0)
        fresh = total_input - cached - written
        written_5m = written - written_1h
        answer = total_output - reasoning
        # The sign bit of any of them survives the or; six comparisons would cost twice as much.
        if (fresh | cached | written_5m | written_1h | answer | reasoning) < 0 or (
            total_output and not has_output
        ):
            return general(usage)
        rates = base if total_input <= first_over else by_range[bisect_left(overs, total_input)]
        total += (
            fresh * rates[0]
            + cached * rates[1]
            + written_5m * rates[2]
            + written_1h * rates[3]
            + answer * rates[4]
            + reasoning * rates[5]
        )
        return total if denominator == 1 else picos.rounded(total, denominator)

    return cost
