"""Rate cards: what a provider asks per unit. Immutable, and named by their content.

Rows of calls refer to a card by id and never copy rates, so a card must say the same for ever: its id
is made of everything that can change a cost, and is the same on every machine.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias
from uuid import UUID

from app.api_gateway.usage import UNIT_NAME

Rates: TypeAlias = Mapping[str, "Rate"]

MAX_PRICE: Final = Decimal(10**9)
MAX_PLACES: Final = 24
MAX_PER: Final = 10**12
MAX_TIERS: Final = 20


class InvalidRate(ValueError):
    """A price that no card may hold; `field` is where: price, per, minimum or tiers."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field} {detail}")
        self.field = field
        self.detail = detail


def _check_price(field: str, price: Decimal) -> None:
    # A huge exponent would be a small text and a number of gigabytes once it is scaled to an integer.
    if not price.is_finite() or not 0 <= price <= MAX_PRICE:
        raise InvalidRate(field, f"must be from 0 to {MAX_PRICE}")
    if abs(int(price.as_tuple().exponent)) > MAX_PLACES:
        raise InvalidRate(field, f"must have at most {MAX_PLACES} decimal places")


@dataclass(frozen=True, slots=True)
class Tier:
    """The price of all units of a call once its count is strictly over `over` (a cliff)."""

    over: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """`price` for every `per` units; a positive count below `minimum` is billed as `minimum`."""

    price: Decimal
    per: int = 1
    tiers: tuple[Tier, ...] = ()
    minimum: int = 0

    def __post_init__(self) -> None:
        """Raise InvalidRate when a number is out of range or the tiers do not ascend."""
        _check_price("price", self.price)
        if not 1 <= self.per <= MAX_PER:
            raise InvalidRate("per", f"must be from 1 to {MAX_PER}")
        if not 0 <= self.minimum <= MAX_PER:
            raise InvalidRate("minimum", f"must be from 0 to {MAX_PER}")
        thresholds = [tier.over for tier in self.tiers]
        if thresholds != sorted(set(thresholds)) or (thresholds and thresholds[0] < 0):
            raise InvalidRate("tiers", "must ascend by `over`, each once, from 0")
        if len(thresholds) > MAX_TIERS:
            raise InvalidRate("tiers", f"must be at most {MAX_TIERS}")
        for tier in self.tiers:
            _check_price("tiers", tier.price)

    def price_at(self, measure: int | Decimal) -> Decimal:
        """Return the price for a call whose tier measure is `measure`: strictly greater changes it."""
        price = self.price
        for tier in self.tiers:
            if measure > tier.over:
                price = tier.price
        return price

    def scaled(self, factor: Decimal) -> "Rate":
        """Return this rate with every price times `factor`, exactly (a discount of 10 % is 0.9)."""
        return Rate(
            price=_product(self.price, factor),
            per=self.per,
            tiers=tuple(Tier(tier.over, _product(tier.price, factor)) for tier in self.tiers),
            minimum=self.minimum,
        )


def _product(price: Decimal, factor: Decimal) -> Decimal:
    # Digits as integers, not the decimal context, so that no precision setting can round a price.
    (_, left, left_exponent), (_, right, right_exponent) = price.as_tuple(), factor.as_tuple()
    digits = str(int("".join(map(str, left))) * int("".join(map(str, right))))
    return Decimal((0, tuple(map(int, digits)), int(left_exponent) + int(right_exponent)))


@dataclass(frozen=True, slots=True)
class RateCard:
    """What one model of one provider costs per unit, in one currency, at one moment and context.

    `source` says whose card it is: `genai-prices`, or `organization:<id>` for a tenant's own. `rates`
    is sorted by unit. Build one with `rate_card`.
    """

    provider: str
    model: str
    currency: str
    source: str
    rates: tuple[tuple[str, Rate], ...]

    @property
    def id(self) -> UUID:
        """Return the name of this content (see `rate_card_id`)."""
        return rate_card_id(self)


def rate_card(provider: str, model: str, rates: Rates, *, source: str, currency: str) -> RateCard:
    """Return the card; raise InvalidRate for a unit that no usage could hold."""
    for unit in rates:
        if UNIT_NAME.fullmatch(unit) is None:
            raise InvalidRate("unit", f"must be [a-z][a-z0-9_]{{0,62}}, not {unit[:80]!r}")
    return RateCard(provider, model, currency, source, tuple(sorted(rates.items())))


def decimal_text(value: Decimal) -> str:
    """Return the shortest plain notation, one for each number: `3`, never `3.0`, `3E+0` or `-0`."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def rates_as_json(rates: Rates) -> dict[str, Any]:
    """Return the rates as JSON: `{unit: {price, per, tiers?: [{over, price}], minimum?}}`, prices as text."""
    return {unit: _rate_as_json(rate) for unit, rate in sorted(rates.items())}


def _rate_as_json(rate: Rate) -> dict[str, Any]:
    document: dict[str, Any] = {"price": decimal_text(rate.price), "per": rate.per}
    if rate.tiers:
        document["tiers"] = [
            {"over": tier.over, "price": decimal_text(tier.price)} for tier in rate.tiers
        ]
    if rate.minimum:
        document["minimum"] = rate.minimum
    return document


def rates_from_json(document: Mapping[str, Any]) -> dict[str, Rate]:
    """Return the rates that `rates_as_json` wrote; raise InvalidRate when it is not such a document."""
    return {unit: _rate_from_json(rate) for unit, rate in document.items()}


def _rate_from_json(document: Mapping[str, Any]) -> Rate:
    try:
        return Rate(
            price=Decimal(document["price"]),
            per=int(document.get("per", 1)),
            tiers=tuple(_tiers_from_json(document.get("tiers", ()))),
            minimum=int(document.get("minimum", 0)),
        )
    except (KeyError, TypeError, InvalidOperation) as problem:
        raise InvalidRate("price", "must be a decimal in text") from problem


def _tiers_from_json(documents: Iterable[Mapping[str, Any]]) -> Iterable[Tier]:
    return (Tier(over=int(tier["over"]), price=Decimal(tier["price"])) for tier in documents)


def rate_card_id(card: RateCard) -> UUID:
    """Return the UUID (version 8, RFC 9562) made of the SHA-256 of the card's canonical JSON."""
    content = {
        "provider": card.provider,
        "model": card.model,
        "currency": card.currency,
        "source": card.source,
        "rates": rates_as_json(dict(card.rates)),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    versioned = digest & ~(0xF << 76) | 0x8 << 76
    return UUID(int=versioned & ~(0x3 << 62) | 0x2 << 62)
