from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api_gateway import picos
from app.api_gateway.pricing import (
    PricingReason,
    PricingStatus,
    Rate,
    Resolution,
    StatedCost,
    Tier,
    UnpricedUsage,
    breakdown,
    compile_card,
    price_call,
    rate_card,
)
from app.api_gateway.usage import ANCESTORS, KNOWN_UNITS, TOKEN_UNITS

MILLION = 10**6
PLAIN = [
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
]
TEXT_AND_AUDIO = [
    *PLAIN,
    "cache_write_5m_input_tokens",
    "audio_input_tokens",
    "cache_read_audio_input_tokens",
    "audio_output_tokens",
]
OTHERS = [
    "web_searches",
    "audio_seconds",
    "audio_input_seconds",
    "document_pages",
    "requests",
    "gb",
]


def card(currency="USD", **rates):
    return rate_card("acme", "one", rates, source="genai-prices", currency=currency)


def mtok(price, **tiers):
    steps = tuple(Tier(over, Decimal(text)) for over, text in tiers.get("tiers", ()))
    return Rate(Decimal(price), MILLION, steps)


SONNET = compile_card(
    card(
        input_tokens=mtok("3", tiers=[(200_000, "6")]),
        cache_read_input_tokens=mtok("0.3", tiers=[(200_000, "0.6")]),
        cache_write_input_tokens=mtok("3.75", tiers=[(200_000, "7.5")]),
        cache_write_1h_input_tokens=mtok("6", tiers=[(200_000, "12")]),
        output_tokens=mtok("15", tiers=[(200_000, "22.5")]),
        web_searches=Rate(Decimal(10), 1000),
    )
)
GPT = compile_card(
    card(
        input_tokens=mtok("1.25"),
        cache_read_input_tokens=mtok("0.125"),
        output_tokens=mtok("10"),
    )
)
REALTIME = compile_card(
    card(
        input_tokens=mtok("4"),
        cache_read_input_tokens=mtok("0.4"),
        audio_input_tokens=mtok("32"),
        cache_read_audio_input_tokens=mtok("0.5"),
        output_tokens=mtok("16"),
    )
)
PER_REQUEST = compile_card(card(requests=Rate(Decimal("0.005"))))


def slices(units, **counts):
    return st.dictionaries(st.sampled_from(units), st.integers(0, 10**7), **counts)


def totals_of(parts):
    usage = {}
    for unit, count in parts.items():
        for whole in (unit, *ANCESTORS.get(unit, ())):
            usage[whole] = usage.get(whole, 0) + count
    return usage


def prices():
    return st.decimals(0, 1000, places=6, allow_nan=False)


def rates(units):
    tiers = st.lists(
        st.tuples(st.integers(0, 10**7), prices()), max_size=2, unique_by=lambda tier: tier[0]
    ).map(lambda found: tuple(Tier(over, price) for over, price in sorted(found)))
    rate = st.builds(Rate, prices(), st.sampled_from([1, 7, 1000, 3600, MILLION]), tiers)
    return st.dictionaries(st.sampled_from(units), rate, max_size=len(units))


def cost_by_slices(rates_by_unit, parts, usage):
    """Return the cost the long way round: every slice at the rate of its nearest priced whole."""
    total = Fraction(0)
    for unit, count in parts.items():
        wholes = [w for w in (unit, *ANCESTORS.get(unit, ())) if w in rates_by_unit]
        nearest = [w for w in wholes if not any(w in ANCESTORS.get(o, ()) for o in wholes)]
        if count and not nearest:
            return PricingReason.unit_without_rate
        if count and len(nearest) > 1:
            return PricingReason.usage_ambiguous
        if count:
            rate = rates_by_unit[nearest[0]]
            measure = (
                usage["input_tokens"]
                if nearest[0] in TOKEN_UNITS and "input_tokens" in usage
                else 0
            )
            if nearest[0] not in TOKEN_UNITS:
                measure = usage[nearest[0]]
            price = rate.price
            for tier in rate.tiers:
                price = tier.price if measure > tier.over else price
            total += Fraction(price) * count / rate.per
    return total


def cost_or_reason(compiled, usage):
    try:
        return compiled.cost(usage)
    except UnpricedUsage as problem:
        return problem.reason


def rounded(cost):
    if isinstance(cost, PricingReason):
        return cost
    with localcontext(prec=100):
        exact = Decimal(cost.numerator) / Decimal(cost.denominator)
        return exact.quantize(Decimal("1e-12"), ROUND_HALF_EVEN)


class TestCost:
    @pytest.mark.parametrize(("input_tokens", "cost"), [(200_000, "0.615"), (200_001, "1.222506")])
    def test_jumps_strictly_over_the_threshold_for_all_tokens(self, input_tokens, cost):
        assert SONNET.cost({"input_tokens": input_tokens, "output_tokens": 1000}) == Decimal(cost)

    def test_holds_the_threshold_against_input_with_its_cache(self):
        usage = {
            "input_tokens": 200_001,
            "cache_read_input_tokens": 200_000,
            "output_tokens": 1000,
        }

        assert SONNET.cost(usage) == Decimal("0.142506")

    def test_bills_cached_input_once(self):
        usage = {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300}

        assert GPT.cost(usage) == Decimal("0.0033475")
        assert str(GPT.cost(usage)) == "0.003347500000"

    def test_tells_the_two_lives_of_a_cache_apart(self):
        used = {"input_tokens": 1120, "output_tokens": 5}
        cached = {"cache_read_input_tokens": 1000, "cache_write_input_tokens": 100}

        assert SONNET.cost({**used, **cached, "cache_write_1h_input_tokens": 60}) == Decimal(
            "0.000945"
        )
        assert SONNET.cost({**used, **cached}) == Decimal("0.000810")
        assert SONNET.cost(used) == Decimal("0.003435")

    def test_bills_reasoning_inside_the_output(self):
        assert GPT.cost({"output_tokens": 300, "reasoning_output_tokens": 299}) == Decimal("0.003")

    def test_adds_searches(self):
        usage = {"input_tokens": 1, "output_tokens": 0, "web_searches": 3}

        assert SONNET.cost(usage) == Decimal("0.030003")

    @given(rates(TEXT_AND_AUDIO), slices(TEXT_AND_AUDIO))
    @settings(max_examples=400)
    def test_is_the_sum_of_all_slices_at_the_rate_of_their_nearest_whole(
        self, rates_by_unit, parts
    ):
        # Every overlap is said, so that no figure may be missing for want of it.
        usage = dict.fromkeys(TOKEN_UNITS, 0) | totals_of(parts)
        compiled = compile_card(card(**rates_by_unit))
        expected = cost_by_slices(rates_by_unit, parts, usage)

        answer = cost_or_reason(compiled, usage)

        # A whole may be without rate though all its slices have one: no figure then either.
        if answer is not PricingReason.unit_without_rate:
            assert answer == rounded(expected)

    @given(rates(PLAIN), slices(PLAIN))
    @settings(max_examples=400)
    def test_of_text_is_never_refused_when_input_and_output_have_rates(self, rates_by_unit, parts):
        rates_by_unit = {"input_tokens": mtok("1"), "output_tokens": mtok("2"), **rates_by_unit}
        usage = totals_of(parts)

        cost = compile_card(card(**rates_by_unit)).cost(usage)

        assert cost == rounded(cost_by_slices(rates_by_unit, parts, usage))

    @given(rates(PLAIN), st.dictionaries(st.sampled_from(PLAIN), st.integers(-5, 40)))
    def test_is_refused_for_the_same_usage_on_the_short_way_and_the_long(
        self, rates_by_unit, usage
    ):
        compiled = compile_card(card(**{"input_tokens": mtok("1"), **rates_by_unit}))

        def answer(way):
            try:
                return way(usage)
            except UnpricedUsage as problem:
                return problem.reason

        assert answer(compiled.picos) == answer(compiled._picos_of_any)

    @given(rates(OTHERS), slices(OTHERS))
    def test_of_other_units_follows_their_own_count(self, rates_by_unit, parts):
        parts.setdefault("requests", 1)
        usage = totals_of(parts)
        expected = cost_by_slices({"requests": Rate(Decimal(0)), **rates_by_unit}, parts, usage)

        answer = cost_or_reason(compile_card(card(**rates_by_unit)), usage)

        if answer is not PricingReason.unit_without_rate:
            assert answer == rounded(expected)

    @given(st.decimals(0, 10**6, places=9), st.decimals(0, 10**6, places=9))
    def test_takes_fractions_of_a_tenants_unit(self, price, gigabytes):
        compiled = compile_card(card(gb=Rate(price, 3)))

        assert compiled.cost({"gb": gigabytes}) == rounded(
            Fraction(price) * Fraction(gigabytes) / 3
        )

    def test_rounds_half_to_even_once(self):
        compiled = compile_card(
            card(pages=Rate(Decimal("0.0000000000005")), gb=Rate(Decimal("1e-13")))
        )

        assert compiled.picos({"pages": 1}) == 0
        assert compiled.picos({"pages": 3}) == 2
        assert compiled.picos({"pages": 1, "gb": 1}) == 1

    def test_moves_a_tenants_unit_by_its_own_count(self):
        compiled = compile_card(
            card(pages=Rate(Decimal("0.01"), 1, (Tier(100, Decimal("0.005")),)))
        )

        assert compiled.cost({"pages": 100, "input_tokens": 0}) == Decimal(1)
        assert compiled.cost({"pages": 101}) == Decimal("0.505")

    def test_counts_a_call_as_one_request_unless_told_otherwise(self):
        assert PER_REQUEST.cost({}) == Decimal("0.005")
        assert PER_REQUEST.cost({"requests": 3}) == Decimal("0.015")
        assert PER_REQUEST.cost({"requests": 0}) == 0

    def test_moves_requests_by_their_own_count_too(self):
        compiled = compile_card(card(requests=Rate(Decimal(2), 1, (Tier(0, Decimal(1)),))))

        assert compiled.cost({}) == 1
        assert compiled.breakdown({})[0].rate == 1
        assert compiled.cost({"requests": 5}) == 5

    def test_bills_a_minimum_but_only_when_there_is_something(self):
        compiled = compile_card(card(audio_seconds=Rate(Decimal("0.111"), 3600, minimum=10)))

        assert compiled.cost({"audio_seconds": 0}) == 0
        assert compiled.cost({"audio_seconds": Decimal("0.5")}) == rounded(Fraction(111, 360_000))
        assert compiled.cost({"audio_seconds": 11}) == rounded(Fraction(1221, 3_600_000))

    @pytest.mark.parametrize(
        ("compiled", "usage", "reason", "unit"),
        [
            (GPT, {"web_searches": 1}, PricingReason.unit_without_rate, "web_searches"),
            (GPT, {"pages": 1}, PricingReason.unit_without_rate, "pages"),
            (
                GPT,
                {"input_tokens": 86, "cache_read_input_tokens": 1920},
                PricingReason.usage_inconsistent,
                "cache_read_input_tokens",
            ),
            (
                REALTIME,
                {"input_tokens": 90, "cache_read_input_tokens": 50, "audio_input_tokens": 60},
                PricingReason.usage_ambiguous,
                "cache_read_audio_input_tokens",
            ),
            (
                REALTIME,
                {
                    "input_tokens": 90,
                    "cache_read_input_tokens": 50,
                    "audio_input_tokens": 60,
                    "cache_read_audio_input_tokens": 10,
                },
                PricingReason.usage_inconsistent,
                "input_tokens",
            ),
        ],
    )
    def test_is_refused_by_name(self, compiled, usage, reason, unit):
        with pytest.raises(UnpricedUsage) as refusal:
            compiled.picos(usage)

        assert (refusal.value.reason, refusal.value.unit) == (reason, unit)

    def test_of_cached_audio_needs_the_overlap(self):
        usage = {
            "input_tokens": 100,
            "cache_read_input_tokens": 50,
            "audio_input_tokens": 60,
            "cache_read_audio_input_tokens": 20,
        }

        # 10 text, 30 cached text, 40 audio, 20 cached audio
        expected = 10 * 4 + Decimal("0.4") * 30 + 40 * 32 + Decimal("0.5") * 20
        assert REALTIME.cost(usage) == expected / MILLION

    def test_of_two_overlapping_rates_without_a_joint_rate_is_ambiguous(self):
        compiled = compile_card(
            card(
                input_tokens=mtok("4"),
                cache_read_input_tokens=mtok("0.4"),
                audio_input_tokens=mtok("32"),
            )
        )
        usage = {"input_tokens": 100, "cache_read_input_tokens": 50, "audio_input_tokens": 30}

        with pytest.raises(UnpricedUsage):
            compiled.picos(usage)
        with pytest.raises(UnpricedUsage):
            compiled.picos({**usage, "cache_read_audio_input_tokens": 1})
        assert compiled.cost({**usage, "cache_read_audio_input_tokens": 0}) == Decimal("0.00106")


class TestBreakdown:
    @given(rates(TEXT_AND_AUDIO + OTHERS), slices(TEXT_AND_AUDIO + OTHERS))
    @settings(max_examples=300)
    def test_adds_up_to_the_cost_before_it_is_rounded(self, rates_by_unit, parts):
        usage = totals_of(parts)
        compiled = compile_card(card(**rates_by_unit))
        cost = cost_or_reason(compiled, usage)
        if isinstance(cost, PricingReason):
            with pytest.raises(UnpricedUsage, match=cost):
                compiled.breakdown(usage)
            return

        rows = compiled.breakdown(usage)

        assert cost == rounded(sum((row.amount for row in rows), Fraction(0)))
        assert all(
            row.amount == Fraction(row.quantity) * Fraction(row.rate) / row.per for row in rows
        )

    def test_names_unit_quantity_rate_and_amount(self):
        usage = {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300}

        rows = {row.unit: row for row in breakdown(GPT.card, usage)}

        assert rows["input_tokens"][1:] == (86, Decimal("1.25"), MILLION, Fraction("0.0001075"))
        assert rows["cache_read_input_tokens"].quantity == 1920
        assert rows["output_tokens"].amount == Fraction("0.003")
        assert len(rows) == 3


class TestPriceCall:
    PRICED = Resolution("acme", "one", GPT)
    UNKNOWN = Resolution("acme", "one", reason=PricingReason.unknown_model)
    FREE = Resolution("acme", "one:free", is_free=True)
    USED = {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300}
    COST = 3_347_500_000
    BILL = StatedCost(4_000_000_000, is_from_provider=True)
    ESTIMATE = StatedCost(5_000_000_000, is_from_provider=False)

    def test_computes_what_was_used(self):
        assert price_call(self.PRICED, self.USED) == ("computed", self.COST, self.COST, None)

    @pytest.mark.parametrize("outcome", ["success", "error", "timeout", "cancelled"])
    def test_computes_used_tokens_whatever_the_outcome(self, outcome):
        assert price_call(self.PRICED, self.USED, outcome)[:2] == ("computed", self.COST)

    def test_keeps_a_zero_as_a_value(self):
        usage = {"input_tokens": 0, "output_tokens": 0}

        assert price_call(self.PRICED, usage) == ("computed", 0, 0, None)
        assert price_call(self.PRICED, {"input_tokens": 0}) == ("computed", 0, 0, None)

    def test_lets_the_provider_state_the_cost_and_keeps_ours_beside_it(self):
        priced = price_call(self.PRICED, self.USED, "success", False, self.BILL)

        assert priced == ("reported", self.BILL.picos, self.COST, None)

    def test_keeps_no_figure_in_another_currency_beside_the_bill(self):
        bill = StatedCost(1, is_from_provider=True, currency="EUR")

        assert price_call(self.PRICED, self.USED, "success", False, bill) == (
            "reported",
            1,
            None,
            None,
        )

    @pytest.mark.parametrize("usage", [None, USED])
    def test_believes_a_bill_without_a_price_of_ours(self, usage):
        priced = price_call(self.UNKNOWN, usage, "success", False, self.BILL)

        assert priced == ("reported", self.BILL.picos, None, None)

    def test_believes_a_bill_of_zero(self):
        bill = StatedCost(0, is_from_provider=True)

        assert price_call(self.PRICED, self.USED, "success", False, bill)[:2] == ("reported", 0)

    def test_prefers_our_price_to_a_clients_estimate(self):
        priced = price_call(self.PRICED, self.USED, "success", False, self.ESTIMATE)

        assert priced == ("computed", self.COST, self.COST, None)

    def test_takes_a_clients_estimate_when_we_have_no_price(self):
        priced = price_call(self.UNKNOWN, self.USED, "success", False, self.ESTIMATE)

        assert priced == ("reported", self.ESTIMATE.picos, None, "client_estimate")

    def test_takes_no_estimate_for_a_call_that_was_not_metered(self):
        priced = price_call(self.PRICED, None, "success", False, self.ESTIMATE)

        assert priced == ("unmetered", None, None, None)

    @pytest.mark.parametrize("resolution", [PRICED, UNKNOWN])
    def test_makes_an_answer_from_the_cache_free(self, resolution):
        assert price_call(resolution, self.USED, "success", True) == ("free", 0, 0, None)

    def test_makes_a_free_model_free_even_without_usage(self):
        assert price_call(self.FREE, None) == ("free", 0, 0, None)
        assert price_call(self.FREE, self.USED) == ("free", 0, 0, None)

    @pytest.mark.parametrize("resolution", [PRICED, UNKNOWN])
    @pytest.mark.parametrize("usage", [None, {}, {"requests": 1}])
    def test_makes_a_failed_call_without_usage_free(self, resolution, usage):
        assert price_call(resolution, usage, "error") == ("free", 0, 0, None)

    @pytest.mark.parametrize("resolution", [PRICED, UNKNOWN])
    @pytest.mark.parametrize("usage", [None, {}, {"requests": 1}])
    @pytest.mark.parametrize("outcome", ["success", "timeout", "cancelled"])
    def test_never_makes_missing_usage_a_zero(self, resolution, usage, outcome):
        assert price_call(resolution, usage, outcome) == ("unmetered", None, None, None)

    def test_never_makes_an_unknown_price_a_zero(self):
        expected = ("unpriced", None, None, "unknown_model")

        assert price_call(self.UNKNOWN, self.USED) == expected
        assert price_call(self.UNKNOWN, {"input_tokens": 0}) == expected

    def test_makes_a_failed_call_that_used_nothing_free_without_a_price(self):
        usage = {"input_tokens": 0, "output_tokens": 0}

        assert price_call(self.UNKNOWN, usage, "error") == ("free", 0, 0, None)

    def test_says_which_usage_has_no_price(self):
        priced = price_call(self.PRICED, {**self.USED, "web_searches": 1})

        assert priced == ("unpriced", None, None, "unit_without_rate")

    def test_needs_no_usage_where_the_call_itself_is_billed(self):
        resolution = Resolution("acme", "one", PER_REQUEST)

        assert price_call(resolution, None)[:2] == ("computed", 5 * 10**9)
        assert price_call(resolution, None, "timeout")[:2] == ("computed", 5 * 10**9)
        assert price_call(resolution, {"requests": 2}, "error")[:2] == ("computed", 10**10)
        assert price_call(resolution, None, "error")[:2] == ("free", 0)

    def test_does_not_answer_more_than_the_column_holds(self):
        resolution = Resolution("acme", "one", compile_card(card(gb=Rate(Decimal(10**8)))))

        assert price_call(resolution, {"gb": 1}) == ("unpriced", None, None, "cost_out_of_range")
        assert price_call(resolution, {"gb": Decimal("0.9")})[1] == 9 * 10**19

    @given(
        st.sampled_from([PRICED, UNKNOWN, FREE, Resolution("acme", "one", PER_REQUEST)]),
        st.none() | st.dictionaries(st.sampled_from([*PLAIN, "requests", "gb"]), st.integers(0, 9)),
        st.sampled_from(["success", "error", "timeout", "cancelled"]),
        st.booleans(),
        st.sampled_from([None, BILL, ESTIMATE]),
    )
    def test_has_a_cost_exactly_when_its_status_says_so(self, found, usage, outcome, free, stated):
        status, cost, computed, reason = price_call(found, usage, outcome, free, stated)

        assert (cost is None) == (status in {PricingStatus.unmetered, PricingStatus.unpriced})
        assert (reason is None) == (
            status is not PricingStatus.unpriced and cost is not self.ESTIMATE.picos
        )
        assert status is not PricingStatus.computed or cost == computed
        assert status is not PricingStatus.free or cost == 0


def test_every_known_unit_is_a_unit_of_a_card():
    assert (
        compile_card(card(**{unit: Rate(Decimal(1)) for unit in KNOWN_UNITS})).picos({})
        == picos.ONE
    )
