from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api_gateway import picos


def rounded(amount):
    with localcontext(prec=100):
        return amount.quantize(Decimal("1e-12"), ROUND_HALF_EVEN)


class TestPicos:
    @given(st.decimals(0, Decimal("99999999.999999999998"), allow_nan=False))
    def test_are_the_amount_rounded_half_even(self, amount):
        number = picos.from_decimal(amount)

        assert picos.as_decimal(number) == rounded(amount)
        assert number == picos.from_fraction(Fraction(amount))

    @given(st.integers(0, picos.LIMIT - 1))
    def test_survive_their_own_text(self, number):
        assert picos.from_decimal(picos.as_decimal(number)) == number
        assert Decimal(picos.as_text(number)) == picos.as_decimal(number)
        assert Decimal(picos.as_copy_text(number)) == picos.as_decimal(number)

    def test_are_written_short_for_people(self):
        assert picos.as_text(3_347_500_000) == "0.0033475"
        assert picos.as_text(0) == "0"
        assert picos.as_text(2 * 10**12) == "2"
        assert picos.as_text(-(10**11)) == "-0.1"

    @pytest.mark.parametrize(
        "amount", ["-1e-12", "1e8", "1e999999", "NaN", "Infinity", "99999999.9999999999999"]
    )
    def test_refuse_what_no_column_holds(self, amount):
        with pytest.raises(ValueError, match="amount of money"):
            picos.from_decimal(Decimal(amount))
