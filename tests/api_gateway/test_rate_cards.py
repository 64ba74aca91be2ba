from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api_gateway.rate_cards import (
    InvalidRate,
    Rate,
    Tier,
    decimal_text,
    rate_card,
    rate_card_id,
    rates_as_json,
    rates_from_json,
)

PRICES = st.decimals(0, 10**6, allow_nan=False, places=9)
RATES = st.builds(
    lambda price, per, overs, tier_prices, minimum: Rate(
        price,
        per,
        tuple(Tier(o, p) for o, p in zip(sorted(overs), tier_prices, strict=False)),
        minimum,
    ),
    PRICES,
    st.sampled_from([1, 7, 60, 1000, 3600, 10**6]),
    st.sets(st.integers(0, 10**6), max_size=3),
    st.lists(PRICES, min_size=3, max_size=3),
    st.sampled_from([0, 10]),
)
RATE_MAPS = st.dictionaries(
    st.sampled_from(["input_tokens", "output_tokens", "pages", "requests"]), RATES, max_size=4
)


def card(rates, **changes):
    named = {"source": "genai-prices", "currency": "USD", **changes}
    return rate_card(named.pop("provider", "acme"), named.pop("model", "one"), rates, **named)


class TestRateCardId:
    def test_is_the_same_on_every_machine(self):
        rates = {
            "input_tokens": Rate(Decimal(3), 10**6, (Tier(200_000, Decimal(6)),)),
            "output_tokens": Rate(Decimal(15), 10**6),
        }

        card_id = rate_card_id(card(rates, provider="anthropic", model="claude-sonnet-4-5"))

        assert card_id == UUID("b990c6b7-b8fb-8b6f-abdf-06bc5406a30a")
        assert card_id.version == 8

    @given(RATE_MAPS)
    def test_does_not_depend_on_order_or_notation(self, rates):
        noted = {
            unit: Rate(
                rate.price.normalize(),
                rate.per,
                tuple(Tier(t.over, t.price * Decimal("1.000")) for t in rate.tiers),
                rate.minimum,
            )
            for unit, rate in reversed(rates.items())
        }

        assert card(noted).id == card(rates).id

    @given(RATE_MAPS.filter(bool), st.data())
    def test_changes_with_everything_that_can_change_a_cost(self, rates, data):
        unit = data.draw(st.sampled_from(sorted(rates)))
        rate = rates[unit]
        others = [
            card({**rates, unit: Rate(rate.price + 1, rate.per, rate.tiers, rate.minimum)}),
            card({**rates, unit: Rate(rate.price, rate.per + 1, rate.tiers, rate.minimum)}),
            card({**rates, unit: Rate(rate.price, rate.per, rate.tiers, rate.minimum + 1)}),
            card({**rates, unit: Rate(rate.price, rate.per, (Tier(1, Decimal("0.77")),))}),
            card({k: v for k, v in rates.items() if k != unit}),
            card(rates, currency="EUR"),
            card(rates, provider="other"),
            card(rates, model="other"),
            card(rates, source="organization:1"),
        ]

        assert len({card(rates).id, *(other.id for other in others)}) == 10


class TestRatesAsJson:
    @given(RATE_MAPS)
    def test_is_read_back_unchanged(self, rates):
        assert rates_from_json(rates_as_json(rates)) == rates

    def test_writes_prices_as_text(self):
        rates = {"pages": Rate(Decimal("0.0020"), 1, (Tier(100, Decimal("0.001")),))}

        assert rates_as_json(rates) == {
            "pages": {"price": "0.002", "per": 1, "tiers": [{"over": 100, "price": "0.001"}]}
        }

    @pytest.mark.parametrize(
        "document",
        [
            {"pages": {"per": 1}},
            {"pages": {"price": "free"}},
            {"pages": {"price": None}},
            {"pages": {"price": "1", "tiers": [{"over": 1}]}},
        ],
    )
    def test_refuses_what_is_no_rate(self, document):
        with pytest.raises(InvalidRate):
            rates_from_json(document)


class TestDecimalText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [("3.0", "3"), ("3E+2", "300"), ("-0", "0"), ("0.000", "0"), ("1E-7", "0.0000001")],
    )
    def test_is_plain_and_short(self, value, text):
        assert decimal_text(Decimal(value)) == text


class TestRate:
    def test_takes_the_smallest_and_the_largest_price(self):
        assert Rate(Decimal("1e-24")).price > 0
        assert Rate(Decimal("1e9"), 10**12).per == 10**12
        assert len(Rate(Decimal(1), 1, tuple(Tier(n, Decimal(1)) for n in range(20))).tiers) == 20

    @pytest.mark.parametrize(
        "arguments",
        [
            {"price": Decimal(-1)},
            {"price": Decimal("NaN")},
            {"price": Decimal("1e-25")},
            {"price": Decimal("1e-1000000")},
            {"price": Decimal("0e1000000")},
            {"price": Decimal("1e10")},
            {"price": Decimal(1), "per": 0},
            {"price": Decimal(1), "minimum": -1},
            {"price": Decimal(1), "tiers": (Tier(2, Decimal(1)), Tier(1, Decimal(1)))},
            {"price": Decimal(1), "tiers": (Tier(1, Decimal(1)), Tier(1, Decimal(2)))},
            {"price": Decimal(1), "tiers": (Tier(-1, Decimal(1)),)},
            {"price": Decimal(1), "tiers": (Tier(1, Decimal(-1)),)},
            {"price": Decimal(1), "tiers": tuple(Tier(n, Decimal(1)) for n in range(21))},
        ],
    )
    def test_refuses_numbers_that_cannot_be_a_price(self, arguments):
        with pytest.raises(InvalidRate):
            Rate(**arguments)

    def test_changes_its_price_strictly_over_a_threshold(self):
        rate = Rate(Decimal(3), 1, (Tier(10, Decimal(2)), Tier(20, Decimal(1))))

        assert [rate.price_at(n) for n in (0, 10, 11, 20, 21)] == [3, 3, 2, 2, 1]

    def test_is_discounted_exactly(self):
        rate = Rate(Decimal("123456789.123456789"), 7, (Tier(1, Decimal("0.000000001")),))

        discounted = rate.scaled(Decimal("0.85123456789"))

        assert discounted.price == Decimal("105090686.54259259164750190521")
        assert discounted.tiers[0].price == Decimal("0.00000000085123456789")


class TestCardOfAnImpossibleUnit:
    @pytest.mark.parametrize("unit", ["", "Pages", "a b", "x" * 64])
    def test_is_refused(self, unit):
        with pytest.raises(InvalidRate, match="unit"):
            card({unit: Rate(Decimal(1))})
