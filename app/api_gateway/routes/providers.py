"""Providers: the built-in catalogue with its models and prices, and the organization's own."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import Response

from app.api_gateway.queries import providers as queries
from app.api_gateway.queries.providers import ProviderFilter
from app.api_gateway.routes.blueprint import blueprint
from app.api_gateway.schemas.providers import (
    ModelArguments,
    ModelPage,
    ModelView,
    ProviderArguments,
    ProviderCreate,
    ProviderPage,
    ProviderView,
    model_view,
    provider_view,
)
from app.api_gateway.service import providers as service
from app.api_gateway.service.providers import NewPrice, NewProvider
from app.kit.endpoint import actor, body, created, endpoint, listed, ok, query, secret_key
from app.kit.pagination import CursorSigner, filters_of, page_of
from app.kit.rate_limits import RateClass

EXAMPLE = {
    "name": "acme-ocr",
    "display_name": "Acme OCR",
    "currency": "USD",
    "prices": [
        {
            "model": "*",
            "rates": {
                "requests": {"price": "0.001"},
                "pages": {"price": "0.002", "tiers": [{"over": 100, "price": "0.0015"}]},
            },
        }
    ],
}


@endpoint(
    blueprint,
    "GET",
    "/providers",
    scope="providers:read",
    rate=RateClass.READ,
    query=ProviderArguments,
    answers={200: ProviderPage},
)
def list_providers() -> Response:
    """List the providers that calls can be priced for, by name.

    Built-in ones come with the price list of this release, own ones with the prices you gave.
    With `model` each shows its models of this name and what they cost: who sells it, at what price.
    """
    wanted = query(ProviderArguments)
    signer = CursorSigner(key=secret_key(), name="providers", filters=filters_of(wanted))
    rows = queries.providers_page(
        organization_id=actor().organization_id,
        wanted=ProviderFilter(
            name_prefix=wanted.name,
            model_prefix=wanted.model,
            is_own=None if wanted.kind is None else wanted.kind == "own",
        ),
        after=signer.position_of(wanted.cursor) if wanted.cursor else None,
        limit=wanted.limit + 1,
    )
    page = page_of(
        rows,
        limit=wanted.limit,
        position=lambda row: (row.provider.name, str(row.provider.id)),
        signer=signer,
    )
    return listed(page.mapped(provider_view), ProviderView)


@endpoint(
    blueprint,
    "POST",
    "/providers",
    scope="providers:write",
    rate=RateClass.WRITE,
    body=ProviderCreate,
    answers={201: ProviderView},
    errors=(409,),
    audit="provider.created",
    examples={"per request and page": EXAMPLE},
)
def create_provider() -> Response:
    """Make an own provider: any HTTP API with prices per request, per unit or in tiers.

    Units are yours to name (`pages`, `gb`); calls log how many they used. A tier's price counts for
    all units of a call that has more than `over` of them; of token units, more than `over` input
    tokens. 409 `provider_exists` when the name is taken, by a built-in provider or its alias too.
    """
    wanted = body(ProviderCreate)
    organization_id = actor().organization_id
    provider = service.create_provider(
        organization_id=organization_id, wanted=_new_provider(wanted), now=datetime.now(UTC)
    )
    found = queries.get_provider(organization_id=organization_id, provider_id=provider.id)
    return created(provider_view(found), location=f"/api/v1/api-gateway/providers/{provider.id}")


@endpoint(
    blueprint,
    "GET",
    "/providers/<uuid:provider_id>",
    scope="providers:read",
    rate=RateClass.READ,
    answers={200: ProviderView},
)
def show_provider(provider_id: UUID) -> Response:
    """Show a provider; its models and prices are at `/models`."""
    found = queries.get_provider(organization_id=actor().organization_id, provider_id=provider_id)
    return ok(provider_view(found))


@endpoint(
    blueprint,
    "GET",
    "/providers/<uuid:provider_id>/models",
    scope="providers:read",
    rate=RateClass.READ,
    query=ModelArguments,
    answers={200: ModelPage},
)
def list_models(provider_id: UUID) -> Response:
    """List the models of a provider with their prices, by name."""
    wanted = query(ModelArguments)
    organization_id = actor().organization_id
    found = queries.get_provider(organization_id=organization_id, provider_id=provider_id)
    signer = CursorSigner(
        key=secret_key(), name=f"models:{provider_id}", filters=filters_of(wanted)
    )
    rows = queries.models_page(
        organization_id=organization_id,
        provider=found.provider,
        name_prefix=wanted.name,
        after=signer.position_of(wanted.cursor)[0] if wanted.cursor else None,
        limit=wanted.limit + 1,
    )
    page = page_of(rows, limit=wanted.limit, position=lambda row: (row.model.name,), signer=signer)
    return listed(page.mapped(model_view), ModelView)


def _new_provider(wanted: ProviderCreate) -> NewProvider:
    return NewProvider(
        name=wanted.name,
        display_name=wanted.display_name,
        base_url=wanted.base_url,
        currency=wanted.currency,
        prices=[
            NewPrice(
                model=price.model,
                effective_from=price.effective_from,
                effective_to=price.effective_to,
                rates={unit: rate.rate() for unit, rate in price.rates.items()},
                is_free=price.free,
            )
            for price in wanted.prices
        ],
    )
