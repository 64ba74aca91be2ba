"""Own providers: any HTTP API that a tenant pays for, with his prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from app.api_gateway.catalogue import canonical_provider
from app.api_gateway.models.prices import ApiModel, ApiPrice, ApiProvider
from app.api_gateway.price_choice import reachable_cards
from app.api_gateway.price_rows import PriceRow
from app.api_gateway.queries.providers import count_own_providers
from app.api_gateway.rate_cards import Rate, rates_as_json
from app.api_gateway.service.catalogue_import import price_columns
from app.api_gateway.service.prices import store_rate_cards
from app.audit.service import record
from app.extensions import db
from app.kit.errors import Conflict
from app.kit.ids import new_id

SOURCE = "own"
MOST_OWN_PROVIDERS = 200


class ProviderExists(Conflict):
    """The name is another own provider's, a built-in one's or an alias of one."""

    code = "provider_exists"


class TooManyProviders(Conflict):
    """The organization has as many own providers as it may have."""

    code = "too_many_providers"


@dataclass(frozen=True, slots=True)
class NewPrice:
    """A price as somebody wants it; `model` may hold `*` for any text."""

    model: str
    effective_from: date | None
    effective_to: date | None
    rates: Mapping[str, Rate]
    is_free: bool


@dataclass(frozen=True, slots=True)
class NewProvider:
    """A provider as somebody wants it; the prices of a model do not overlap in time."""

    name: str
    display_name: str
    base_url: str | None
    currency: str
    prices: Sequence[NewPrice]


def create_provider(*, organization_id: UUID, wanted: NewProvider, now: datetime) -> ApiProvider:
    """Return the new provider; its prices hold for calls that are logged from now on.

    Raises ProviderExists, TooManyProviders.
    """
    if canonical_provider(wanted.name) is not None:
        raise ProviderExists(f"{wanted.name} is the name of a built-in provider")
    if count_own_providers(organization_id=organization_id) >= MOST_OWN_PROVIDERS:
        raise TooManyProviders(f"an organization has at most {MOST_OWN_PROVIDERS} own providers")
    provider = _added_provider(organization_id, wanted, now)
    rows = _price_rows(organization_id, wanted)
    _add_models(provider, rows, now)
    if rows:
        db.session.execute(insert(ApiPrice), [price_columns(row, recorded_at=now) for row in rows])
    store_rate_cards(
        session=db.session(),
        cards=reachable_cards(rows),
        organization_id=organization_id,
        recorded_at=now,
    )
    record(
        event="provider.created",
        target_kind="provider",
        target_id=provider.id,
        target_label=provider.name,
        after=_audited(provider, rows),
    )
    return provider


def _added_provider(organization_id: UUID, wanted: NewProvider, now: datetime) -> ApiProvider:
    provider = ApiProvider(
        id=new_id(),
        organization_id=organization_id,
        name=wanted.name,
        display_name=wanted.display_name,
        base_url=wanted.base_url,
        api_pattern=None,
        pricing_urls=[],
        currency=wanted.currency,
        version=1,
        created_at=now,
        updated_at=now,
    )
    try:
        db.session.add(provider)
        db.session.flush()
    except IntegrityError as error:
        if "uq_api_providers_organization_id_name" not in str(error.orig):
            raise
        raise ProviderExists(f"there is a provider {wanted.name} already") from None
    return provider


def _price_rows(organization_id: UUID, wanted: NewProvider) -> list[PriceRow]:
    """Return the prices as rows; those of one model follow each other in time, under one spelling."""
    by_model: dict[str, list[NewPrice]] = {}
    for price in wanted.prices:
        by_model.setdefault(price.model.lower(), []).append(price)
    rows = []
    for prices in by_model.values():
        in_time = sorted(prices, key=lambda price: price.effective_from or date.min)
        rows += [
            PriceRow(
                provider=wanted.name,
                model=prices[0].model,
                position=position,
                source=SOURCE,
                currency=wanted.currency,
                rates=tuple(sorted(price.rates.items())),
                is_free=price.is_free,
                effective_from=price.effective_from,
                effective_to=price.effective_to,
                organization_id=organization_id,
            )
            for position, price in enumerate(in_time)
        ]
    return rows


def _add_models(provider: ApiProvider, rows: Sequence[PriceRow], now: datetime) -> None:
    models = [
        {
            "id": new_id(),
            "organization_id": provider.organization_id,
            "provider_id": provider.id,
            "name": name,
            "is_deprecated": False,
            "recorded_at": now,
        }
        for name in sorted({row.model for row in rows})
    ]
    if models:
        db.session.execute(insert(ApiModel), models)


def _audited(provider: ApiProvider, rows: Sequence[PriceRow]) -> dict[str, object]:
    return {
        "name": provider.name,
        "display_name": provider.display_name,
        "base_url": provider.base_url,
        "currency": provider.currency,
        "prices": [
            {
                "model": row.model,
                "effective_from": row.effective_from and row.effective_from.isoformat(),
                "effective_to": row.effective_to and row.effective_to.isoformat(),
                "rates": rates_as_json(dict(row.rates)),
                "free": row.is_free,
            }
            for row in rows
        ],
    }
