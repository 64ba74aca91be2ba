"""Latency histograms: log-spaced bins that add up, and percentiles within 2 % (api-gateway.md 3.7).

Bin b holds the values in (gamma^(b-1), gamma^b] milliseconds, gamma = 1.02/0.98, and answers with
2 gamma^b / (gamma + 1), which is at most 2 % from every value in it (DDSketch, Masson, Rim and Lee 2019,
section 2). Bins of a shorter time than a millisecond are negative.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil, isnan, log
from typing import Final

GAMMA: Final = 1.02 / 0.98
_LOG_GAMMA: Final = log(GAMMA)

SHORTEST_MS: Final = 0.001
LONGEST_MS: Final = 86_400_000.0
LOWEST_BIN: Final = ceil(log(SHORTEST_MS) / _LOG_GAMMA)
HIGHEST_BIN: Final = ceil(log(LONGEST_MS) / _LOG_GAMMA)


def bin_of(ms: float) -> int:
    """Return the bin of a time in milliseconds: from LOWEST_BIN (1 microsecond or less) to HIGHEST_BIN (24 h).

    Times outside, 0 included, go to the nearest end. Raises ValueError for a negative time and for NaN.
    """
    if ms <= SHORTEST_MS:
        if ms < 0:
            raise ValueError(f"a time is not negative: {ms}")
        return LOWEST_BIN
    if ms >= LONGEST_MS:
        return HIGHEST_BIN
    if isnan(ms):
        raise ValueError("a time is a number")
    return ceil(log(ms) / _LOG_GAMMA)


def value_of(number: int) -> float:
    """Return the time in milliseconds that stands for all times of a bin."""
    return float(2 * GAMMA**number / (GAMMA + 1))


def percentile(bins: Mapping[int, int], q: float | Decimal) -> float | None:
    """Return the time (ms) at the nearest rank of quantile `q`, within 2 %; None when there are no values.

    `bins` maps bins to counts. Of n values in ascending order the rank is max(1, ceil(q n)), with q read
    as the decimal it is written as: q 0.5 of 4 is the 2nd, q 0 the smallest, q 1 the largest. Raises
    ValueError for a q outside 0 to 1.
    """
    exact_q = Fraction(str(q))
    if not 0 <= exact_q <= 1:
        raise ValueError(f"a quantile is from 0 to 1, not {q}")
    total = sum(bins.values())
    if total == 0:
        return None
    rank = max(1, ceil(exact_q * total))
    for number in sorted(bins):
        rank -= bins[number]
        if rank <= 0:
            return value_of(number)
    raise ValueError("a count is not negative")


def merged(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Return one histogram of all values: counts of equal bins added."""
    total: dict[int, int] = {}
    for bins in histograms:
        for number, count in bins.items():
            total[number] = total.get(number, 0) + count
    return total
