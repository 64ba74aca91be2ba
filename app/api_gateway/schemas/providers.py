"""Providers, their models and prices: what comes in and goes out."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from itertools import combinations
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, field_validator, model_validator

from app.api_gateway.models.prices import ApiPrice
from app.api_gateway.queries.providers import ListedProvider, PricedModel
from app.api_gateway.rate_cards import MAX_PER, MAX_TIERS, Rate, Tier, rates_from_json
from app.api_gateway.usage import MAX_COUNT, UNIT_NAME
from app.kit.pagination import PageArguments
from app.kit.payload import Moment, MoneyText, Name, Payload, Text, View

MOST_PRICES = 200
MOST_UNITS = 50
MOST_STARS = 3

# One text for each price; the range and the places of rate_cards.py.
PriceText = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,24})?$"),
    Field(examples=["0.002"], description="A decimal number as text, exact to the last digit"),
]
ProviderName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"), Field(examples=["acme-ocr"])
]
ModelText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Field(
        description="A model's name in any case; `*` in it stands for any text, alone for any model"
    ),
]
UnitName = Annotated[str, StringConstraints(pattern=f"^{UNIT_NAME.pattern}$")]
BaseUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=2000)]
CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Prefix = Annotated[Text, Field(min_length=1, max_length=200)]


class TierBody(Payload):
    """The price of all units of a call that has more than `over` of them."""

    over: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    price: PriceText


class RateBody(Payload):
    """`price` for every `per` units; below `minimum` units the minimum is billed."""

    price: PriceText
    per: Annotated[int, Field(ge=1, le=MAX_PER)] = 1
    tiers: Annotated[list[TierBody], Field(max_length=MAX_TIERS)] = []
    minimum: Annotated[int, Field(ge=0, le=MAX_PER)] = 0

    @model_validator(mode="after")
    def _is_a_rate(self) -> Self:
        self.rate()
        return self

    def rate(self) -> Rate:
        """Return the rate. Raises InvalidRate when the tiers do not ascend."""
        tiers = tuple(Tier(tier.over, Decimal(tier.price)) for tier in self.tiers)
        return Rate(Decimal(self.price), self.per, tiers, self.minimum)


class PriceBody(Payload):
    """What a model costs from one date (UTC) to another, exclusive; open where none is given."""

    model: ModelText = "*"
    effective_from: date | None = None
    effective_to: date | None = None
    rates: Annotated[dict[UnitName, RateBody], Field(max_length=MOST_UNITS)] = {}
    free: Annotated[
        bool, Field(description="The model is known to cost nothing; no rates then")
    ] = False

    @model_validator(mode="after")
    def _is_a_price(self) -> Self:
        if self.free == bool(self.rates):
            raise ValueError("must have rates, or be free without any")
        if self.effective_from and self.effective_to and self.effective_from >= self.effective_to:
            raise ValueError("effective_to must be after effective_from")
        if self.model.count("*") > MOST_STARS:
            raise ValueError(f"model must have at most {MOST_STARS} stars")
        return self

    def overlaps(self, other: PriceBody) -> bool:
        """Return whether both are for one model on some day."""
        return (
            self.model.lower() == other.model.lower()
            and (self.effective_from or date.min) < (other.effective_to or date.max)
            and (other.effective_from or date.min) < (self.effective_to or date.max)
        )


class ProviderCreate(Payload):
    """Any HTTP API with prices per request, per unit or in tiers."""

    name: ProviderName
    display_name: Name
    base_url: BaseUrl | None = None
    currency: CurrencyCode = "USD"
    prices: Annotated[list[PriceBody], Field(max_length=MOST_PRICES)] = []

    @field_validator("prices")
    @classmethod
    def _do_not_overlap(cls, prices: list[PriceBody]) -> list[PriceBody]:
        for (first, price), (second, other) in combinations(enumerate(prices), 2):
            if price.overlaps(other):
                raise ValueError(f"{first} and {second} are for one model at the same time")
        return prices


class ProviderArguments(PageArguments):
    """Which providers to list."""

    name: Annotated[Prefix | None, Field(description="The name begins with this, in any case")] = (
        None
    )
    kind: Literal["builtin", "own"] | None = None
    model: Annotated[
        Prefix | None,
        Field(description="Has a model whose name begins with this; such models are shown"),
    ] = None


class ModelArguments(PageArguments):
    """Which models of a provider to list."""

    name: Annotated[Prefix | None, Field(description="The name begins with this, in any case")] = (
        None
    )


class TierView(View):
    over: int
    price: MoneyText


class RateView(View):
    """`price` for every `per` units, or that of the last tier whose `over` is exceeded."""

    price: MoneyText
    per: int
    tiers: list[TierView]
    minimum: int


class PriceView(View):
    """One entry of a model's price list. The last entry in force without context holds; entries with

    a context (service tier, batch) replace its rates unit by unit. Dates and times of day are UTC.
    """

    id: UUID
    kind: Literal["builtin", "own"]
    context: dict[str, str]
    effective_from: date | None
    effective_to: date | None
    daily_from: time | None
    daily_to: time | None
    rates: dict[str, RateView]
    free: bool
    currency: str
    source: str
    recorded_at: Moment


class ModelView(View):
    """A model of a provider with its prices."""

    name: str
    display_name: str | None
    context_window: int | None
    deprecated: bool
    prices: list[PriceView]


class ModelPage(View):
    """One page of models."""

    items: list[ModelView]
    next_cursor: str | None


class ProviderView(View):
    """A provider; `models` are those that `model` asked for, at most 20: all are at its `/models`."""

    id: UUID
    kind: Literal["builtin", "own"]
    name: str
    display_name: str
    base_url: str | None
    currency: str
    pricing_urls: list[str]
    models_count: int
    models: list[ModelView] | None
    version: int
    created_at: Moment
    updated_at: Moment


class ProviderPage(View):
    """One page of providers."""

    items: list[ProviderView]
    next_cursor: str | None


def provider_view(listed: ListedProvider) -> ProviderView:
    """Return the provider as it is answered."""
    provider = listed.provider
    return ProviderView(
        id=provider.id,
        kind=_kind(provider.organization_id),
        name=provider.name,
        display_name=provider.display_name,
        base_url=provider.base_url,
        currency=provider.currency,
        pricing_urls=provider.pricing_urls,
        models_count=listed.models_count,
        models=None if listed.models is None else [model_view(model) for model in listed.models],
        version=provider.version,
        created_at=provider.created_at,
        updated_at=provider.updated_at,
    )


def model_view(priced: PricedModel) -> ModelView:
    """Return the model as it is answered."""
    model = priced.model
    return ModelView(
        name=model.name,
        display_name=model.display_name,
        context_window=model.context_window,
        deprecated=model.is_deprecated,
        prices=[_price_view(price) for price in priced.prices],
    )


def _price_view(price: ApiPrice) -> PriceView:
    return PriceView(
        id=price.id,
        kind=_kind(price.organization_id),
        context=price.context,
        effective_from=price.effective_from,
        effective_to=price.effective_to,
        daily_from=price.daily_from,
        daily_to=price.daily_to,
        rates={unit: _rate_view(rate) for unit, rate in rates_from_json(price.rates).items()},
        free=price.is_free,
        currency=price.currency,
        source=price.source,
        recorded_at=price.recorded_at,
    )


def _rate_view(rate: Rate) -> RateView:
    tiers = [TierView(over=tier.over, price=tier.price) for tier in rate.tiers]
    return RateView(price=rate.price, per=rate.per, tiers=tiers, minimum=rate.minimum)


def _kind(organization_id: UUID | None) -> Literal["builtin", "own"]:
    return "builtin" if organization_id is None else "own"
