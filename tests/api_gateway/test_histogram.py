from decimal import Decimal
from fractions import Fraction
from math import ceil, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api_gateway.histogram import (
    HIGHEST_BIN,
    LONGEST_MS,
    LOWEST_BIN,
    SHORTEST_MS,
    bin_of,
    merged,
    percentile,
    value_of,
)

TIMES = st.floats(SHORTEST_MS, LONGEST_MS)
QUANTILES = st.integers(0, 1000).map(lambda thousandths: Decimal(thousandths) / 1000)
TWO_PERCENT = 0.02 + 1e-9


def histogram_of(times):
    bins = {}
    for ms in times:
        bins[bin_of(ms)] = bins.get(bin_of(ms), 0) + 1
    return bins


class TestBinOf:
    @given(TIMES)
    def test_stands_within_two_percent_of_the_time(self, ms):
        assert abs(value_of(bin_of(ms)) - ms) <= TWO_PERCENT * ms

    @given(TIMES, TIMES)
    def test_keeps_the_order(self, one, other):
        assert (bin_of(one) <= bin_of(other)) == (one <= other) or bin_of(one) == bin_of(other)

    @pytest.mark.parametrize(
        ("ms", "number"), [(1, 0), (1.0001, 1), (0.5, -17), (812, 168), (3_600_000, 378)]
    )
    def test_is_the_rounded_up_logarithm(self, ms, number):
        assert bin_of(ms) == number

    @pytest.mark.parametrize("ms", [0, 1e-9, SHORTEST_MS])
    def test_puts_zero_and_the_very_short_in_the_lowest(self, ms):
        assert bin_of(ms) == LOWEST_BIN == -172

    @pytest.mark.parametrize("ms", [LONGEST_MS, 1e12, inf])
    def test_puts_a_day_and_more_in_the_highest(self, ms):
        assert bin_of(ms) == HIGHEST_BIN == 457

    @pytest.mark.parametrize("ms", [-1, -0.0001, nan])
    def test_refuses_what_is_no_time(self, ms):
        with pytest.raises(ValueError, match="a time is"):
            bin_of(ms)


class TestPercentile:
    @given(st.lists(TIMES, min_size=1, max_size=60), QUANTILES)
    def test_is_within_two_percent_of_the_exact_one(self, times, q):
        exact = sorted(times)[max(1, ceil(Fraction(q) * len(times))) - 1]

        assert abs(percentile(histogram_of(times), q) - exact) <= TWO_PERCENT * exact

    @pytest.mark.parametrize(
        ("q", "rank"), [(0, 1), (0.25, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.95, 4), (1, 4)]
    )
    def test_is_the_nearest_rank(self, q, rank):
        times = [1, 10, 100, 1000]

        assert percentile(histogram_of(times), q) == value_of(bin_of(times[rank - 1]))

    def test_reads_a_quantile_as_it_is_written(self):
        times = [float(n) for n in range(1, 101)]

        # 0.07 * 100 is 7.000000000000001 in floats, which would be the 8th
        assert percentile(histogram_of(times), 0.07) == value_of(bin_of(7))

    def test_of_nothing_is_none(self):
        assert percentile({}, 0.5) is None
        assert percentile({3: 0}, 0.5) is None

    @pytest.mark.parametrize("q", [-0.1, 1.1, 95])
    def test_refuses_what_is_no_quantile(self, q):
        with pytest.raises(ValueError, match="quantile"):
            percentile({1: 1}, q)


class TestMerged:
    @given(st.lists(st.lists(TIMES, max_size=20), max_size=5), QUANTILES)
    def test_is_the_histogram_of_all_times_together(self, groups, q):
        together = histogram_of([ms for times in groups for ms in times])

        assert merged(map(histogram_of, groups)) == together
        assert percentile(merged(map(histogram_of, groups)), q) == percentile(together, q)
