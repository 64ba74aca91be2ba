"""Exact money as integers of 10^-12, the last place of NUMERIC(20,12).

On the path of ingest a cost is such an integer: sums and products are exact, and PostgreSQL reads its
text without a Decimal in between.
"""

from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Final

PLACES: Final = 12
ONE: Final = 10**PLACES
LIMIT: Final = 10**20
"""Costs are below this: NUMERIC(20,12) holds no more."""

_PICO: Final = Decimal("1e-12")
_CONTEXT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX)


def rounded(numerator: int, denominator: int) -> int:
    """Return the quotient of non-negative integers rounded half even to an integer."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def from_fraction(amount: Fraction) -> int:
    """Return a non-negative amount of money in picos, rounded half even."""
    return rounded(amount.numerator * ONE, amount.denominator)


def from_decimal(amount: Decimal) -> int:
    """Return an amount in picos, rounded half even; raise ValueError unless 0 <= amount < 10**8."""
    if amount.is_finite() and 0 <= amount < 10**8:
        rounded_amount = amount.quantize(_PICO, context=_CONTEXT)
        picos = int(rounded_amount.scaleb(PLACES, context=_CONTEXT))
        if picos < LIMIT:
            return picos
    raise ValueError("an amount of money must be from 0 to below 100000000")


def as_decimal(picos: int) -> Decimal:
    """Return the amount with 12 places, exactly."""
    return Decimal((int(picos < 0), tuple(map(int, str(abs(picos)))), -PLACES))


def as_text(picos: int) -> str:
    """Return the shortest decimal notation, for answers: `0.0033475`."""
    whole, fraction = divmod(abs(picos), ONE)
    text = f"{whole}.{fraction:012d}".rstrip("0").rstrip(".")
    return f"-{text}" if picos < 0 else text


def as_copy_text(picos: int) -> str:
    """Return what PostgreSQL reads as the exact NUMERIC, at a fifth of the price of `as_text`."""
    return f"{picos}e-12"
