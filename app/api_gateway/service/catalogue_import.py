"""The built-in price list goes into the database: what is new is added, what is gone superseded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.api_gateway.catalogue import (
    CatalogueModel,
    CatalogueProvider,
    catalogue_models,
    catalogue_providers,
    price_rows,
)
from app.api_gateway.models.prices import ApiModel, ApiPrice, ApiProvider
from app.api_gateway.price_choice import reachable_cards
from app.api_gateway.price_rows import PriceRow
from app.api_gateway.queries.prices import current_prices
from app.api_gateway.rate_cards import rates_as_json
from app.api_gateway.service.prices import store_rate_cards
from app.kit.ids import new_id
from app.kit.tenancy import system_session

# Any constant will do; two hosts that import at once take turns by it.
IMPORT_LOCK = 7_235_012


@dataclass(frozen=True, slots=True)
class CatalogueImport:
    """What an import changed."""

    added: int
    superseded: int
    unchanged: int
    rate_cards: int


def import_catalogue(
    *,
    now: datetime,
    rows: Sequence[PriceRow] | None = None,
    providers: Sequence[CatalogueProvider] | None = None,
    models: Sequence[CatalogueModel] | None = None,
) -> CatalogueImport:
    """Bring the global rows to the bundled price list (or the given one); return what changed.

    In a transaction of its own as dg_system. A second run changes nothing. A price that reads the
    same keeps its row, whatever release it came with; no row is ever edited.
    """
    rows = price_rows() if rows is None else rows
    with system_session() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": IMPORT_LOCK})
        ids = _bring_providers(session, providers or catalogue_providers(), now)
        _bring_models(session, models or catalogue_models(), ids, now)
        added, superseded, unchanged = _bring_prices(session, rows, now)
        cards = store_rate_cards(
            session=session, cards=reachable_cards(rows), organization_id=None, recorded_at=now
        )
    return CatalogueImport(added, superseded, unchanged, cards)


def _bring_providers(
    session: Session, providers: Iterable[CatalogueProvider], now: datetime
) -> dict[str, UUID]:
    stored = {
        row.name: row
        for row in session.scalars(select(ApiProvider).where(ApiProvider.organization_id.is_(None)))
    }
    for provider in providers:
        row = stored.get(provider.id)
        if row is None:
            row = ApiProvider(
                id=new_id(), name=provider.id, currency="USD", version=1, created_at=now
            )
            row.updated_at = now
            stored[provider.id] = row
            session.add(row)
        described = (provider.name, provider.api_pattern, list(provider.pricing_urls))
        if (row.display_name, row.api_pattern, row.pricing_urls) != described:
            row.display_name, row.api_pattern, row.pricing_urls = described
            row.updated_at = now
    session.flush()
    return {name: row.id for name, row in stored.items()}


def _bring_models(
    session: Session, models: Iterable[CatalogueModel], ids: dict[str, UUID], now: datetime
) -> None:
    described = ("display_name", "context_window", "is_deprecated", "withdrawn_at")
    columns = [ApiModel.id, ApiModel.provider_id, ApiModel.name, *map(_model_column, described)]
    rows = session.execute(select(*columns).where(ApiModel.organization_id.is_(None)))
    stored = {(row.provider_id, row.name): row for row in rows}
    fresh: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for model in models:
        wanted = (model.name, model.context_window, model.is_deprecated, None)
        key = (ids[model.provider], model.id)
        row = stored.pop(key, None)
        values = dict(zip(described, wanted, strict=True))
        if row is None:
            named = {"id": new_id(), "provider_id": key[0], "name": key[1], "recorded_at": now}
            fresh.append(named | values)
        elif tuple(row[3:]) != wanted:
            changed.append({"id": row.id} | values)
    gone = [row.id for row in stored.values() if row.withdrawn_at is None]
    changed += [{"id": model_id, "withdrawn_at": now} for model_id in gone]
    if fresh:
        session.execute(insert(ApiModel), fresh)
    if changed:
        session.execute(update(ApiModel), changed)


def _model_column(name: str) -> InstrumentedAttribute[Any]:
    column: InstrumentedAttribute[Any] = getattr(ApiModel, name)
    return column


def _bring_prices(
    session: Session, rows: Iterable[PriceRow], now: datetime
) -> tuple[int, int, int]:
    stored = {
        _content(row): row_id
        for row_id, row in current_prices(organization_id=None, session=session)
    }
    wanted = {_content(row): row for row in rows}
    gone = [row_id for content, row_id in stored.items() if content not in wanted]
    fresh = [row for content, row in wanted.items() if content not in stored]
    if gone:
        session.execute(
            update(ApiPrice).where(ApiPrice.id.in_(gone)).values(superseded_at=now),
            execution_options={"synchronize_session": False},
        )
    if fresh:
        session.execute(insert(ApiPrice), [price_columns(row, recorded_at=now) for row in fresh])
    return len(fresh), len(gone), len(wanted) - len(fresh)


def _content(row: PriceRow) -> PriceRow:
    """Return what a price says, without the release that said it: 3 and 3.0 are equal as Decimals."""
    return replace(row, source=row.card_source)


def price_columns(row: PriceRow, *, recorded_at: datetime) -> dict[str, Any]:
    """Return the columns of a new row of api_prices."""
    return {
        "id": new_id(),
        "organization_id": row.organization_id,
        "project_id": row.project_id,
        "configuration_id": row.configuration_id,
        "provider": row.provider,
        "model": row.model,
        "position": row.position,
        "effective_from": row.effective_from,
        "effective_to": row.effective_to,
        "daily_from": row.daily_from,
        "daily_to": row.daily_to,
        "context": dict(row.context),
        "rates": rates_as_json(dict(row.rates)),
        "multiplier": row.multiplier,
        "is_free": row.is_free,
        "currency": row.currency,
        "source": row.source,
        "recorded_at": recorded_at,
    }
