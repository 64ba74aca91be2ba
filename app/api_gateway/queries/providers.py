"""Questions to providers and their models, built-in ones and the organization's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.api_gateway.models.prices import ApiModel, ApiPrice, ApiProvider
from app.extensions import db
from app.kit.errors import NotFound

# As many models as are shown with a provider when it was found by one of its models.
MOST_MODELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ProviderFilter:
    """Which providers to list; None does not filter. Texts are beginnings, in any case."""

    name_prefix: str | None = None
    model_prefix: str | None = None
    is_own: bool | None = None


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model with the prices that stand in its list now, in order."""

    model: ApiModel
    prices: tuple[ApiPrice, ...]


@dataclass(frozen=True, slots=True)
class ListedProvider:
    """A provider, how many models it has, and those that were asked for."""

    provider: ApiProvider
    models_count: int
    models: tuple[PricedModel, ...] | None


def providers_page(
    *, organization_id: UUID, wanted: ProviderFilter, after: Sequence[str] | None, limit: int
) -> list[ListedProvider]:
    """Return up to `limit` providers by name, behind `after` (name, id), with matching models if asked."""
    statement = select(ApiProvider).where(
        _visible(ApiProvider.organization_id, organization_id), *_conditions(wanted)
    )
    place = (ApiProvider.name, ApiProvider.id)
    if after is not None:
        statement = statement.where(tuple_(*place) > tuple_(after[0], UUID(after[1])))
    providers = db.session.scalars(statement.order_by(*place).limit(limit)).all()
    return _listed(providers, organization_id=organization_id, model_prefix=wanted.model_prefix)


def get_provider(*, organization_id: UUID, provider_id: UUID) -> ListedProvider:
    """Return the provider, built-in or the organization's own. Raises NotFound."""
    provider = db.session.scalar(
        select(ApiProvider).where(
            ApiProvider.id == provider_id, _visible(ApiProvider.organization_id, organization_id)
        )
    )
    if provider is None:
        raise NotFound("no such provider")
    return _listed([provider], organization_id=organization_id, model_prefix=None)[0]


def models_page(
    *,
    organization_id: UUID,
    provider: ApiProvider,
    name_prefix: str | None,
    after: str | None,
    limit: int,
) -> list[PricedModel]:
    """Return up to `limit` models of the provider by name, behind `after`, with their prices."""
    statement = select(ApiModel).where(
        ApiModel.provider_id == provider.id, ApiModel.withdrawn_at.is_(None)
    )
    if name_prefix is not None:
        statement = statement.where(_begins(ApiModel.name, name_prefix))
    if after is not None:
        statement = statement.where(ApiModel.name > after)
    models = db.session.scalars(statement.order_by(ApiModel.name).limit(limit)).all()
    return _priced(models, names={provider.id: provider.name}, organization_id=organization_id)


def count_own_providers(*, organization_id: UUID) -> int:
    """Return how many providers the organization defined."""
    statement = select(func.count()).where(ApiProvider.organization_id == organization_id)
    return db.session.scalar(statement) or 0


def _listed(
    providers: Sequence[ApiProvider], *, organization_id: UUID, model_prefix: str | None
) -> list[ListedProvider]:
    names = {provider.id: provider.name for provider in providers}
    counts = _model_counts(list(names))
    matching: dict[UUID, list[PricedModel]] = {provider_id: [] for provider_id in names}
    if model_prefix is not None:
        models = _first_matching_models(list(names), model_prefix)
        for priced in _priced(models, names=names, organization_id=organization_id):
            matching[priced.model.provider_id].append(priced)
    return [
        ListedProvider(
            provider,
            counts.get(provider.id, 0),
            None if model_prefix is None else tuple(matching[provider.id]),
        )
        for provider in providers
    ]


def _model_counts(provider_ids: list[UUID]) -> dict[UUID, int]:
    rows = db.session.execute(
        select(ApiModel.provider_id, func.count())
        .where(ApiModel.provider_id.in_(provider_ids), ApiModel.withdrawn_at.is_(None))
        .group_by(ApiModel.provider_id)
    )
    return {owner: value for owner, value in rows}  # noqa: C416 - rows are no pairs to mypy


def _first_matching_models(provider_ids: list[UUID], prefix: str) -> Sequence[ApiModel]:
    place = func.row_number().over(partition_by=ApiModel.provider_id, order_by=ApiModel.name)
    numbered = (
        select(ApiModel.id, place.label("place"))
        .where(
            ApiModel.provider_id.in_(provider_ids),
            ApiModel.withdrawn_at.is_(None),
            _begins(ApiModel.name, prefix),
        )
        .subquery()
    )
    statement = (
        select(ApiModel)
        .join(numbered, numbered.c.id == ApiModel.id)
        .where(numbered.c.place <= MOST_MODELS_SHOWN)
        .order_by(ApiModel.name)
    )
    return db.session.scalars(statement).all()


def _priced(
    models: Sequence[ApiModel], *, names: dict[UUID, str], organization_id: UUID
) -> list[PricedModel]:
    wanted = {(names[model.provider_id], model.name) for model in models}
    statement = (
        select(ApiPrice)
        .where(
            _visible(ApiPrice.organization_id, organization_id),
            ApiPrice.superseded_at.is_(None),
            tuple_(ApiPrice.provider, ApiPrice.model).in_(wanted),
        )
        .order_by(ApiPrice.organization_id.nulls_last(), ApiPrice.position, ApiPrice.id)
    )
    prices: dict[tuple[str, str], list[ApiPrice]] = {}
    for price in db.session.scalars(statement) if wanted else ():
        prices.setdefault((price.provider, price.model), []).append(price)
    return [
        PricedModel(model, tuple(prices.get((names[model.provider_id], model.name), ())))
        for model in models
    ]


def _visible(
    owner: InstrumentedAttribute[UUID | None], organization_id: UUID
) -> ColumnElement[bool]:
    return or_(owner.is_(None), owner == organization_id)


def _begins(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    return func.starts_with(func.lower(column), prefix.lower())


def _conditions(wanted: ProviderFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name_prefix is not None:
        conditions.append(_begins(ApiProvider.name, wanted.name_prefix))
    if wanted.is_own is not None:
        is_built_in = ApiProvider.organization_id.is_(None)
        conditions.append(~is_built_in if wanted.is_own else is_built_in)
    if wanted.model_prefix is not None:
        matching = select(ApiModel.id).where(
            ApiModel.provider_id == ApiProvider.id,
            ApiModel.withdrawn_at.is_(None),
            _begins(ApiModel.name, wanted.model_prefix),
        )
        conditions.append(matching.exists())
    return conditions
