"""The prices that calls are computed with: price books in memory, true to the database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from threading import Lock
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.api_gateway.card_costs import CompiledCard, compile_card
from app.api_gateway.catalogue import provider_aliases, resolve_model
from app.api_gateway.models.prices import ApiRateCard
from app.api_gateway.price_book import PriceBook, price_sources
from app.api_gateway.queries import prices as queries
from app.api_gateway.queries.prices import PriceVersions
from app.api_gateway.rate_cards import RateCard, rates_as_json
from app.kit.tenancy import current_organization_id

MAX_TENANT_BOOKS = 256


class PriceEdition(NamedTuple):
    """A price book and the counters that it was loaded at."""

    versions: PriceVersions
    book: PriceBook


class PriceBooks:
    """The price books of this process: the catalogue's, and those of tenants with own prices.

    Two counters tell whether a book is old. Ingest compares them in the statement that writes, so a
    price is in force for the first batch that begins after it was committed, in every process.
    """

    def __init__(self) -> None:
        self._catalogue: PriceEdition | None = None
        self._tenants: dict[UUID, PriceEdition] = {}
        # One greenlet loads, the others wait: at a start all would read the same 3,000 rows.
        self._loading = Lock()

    def current(self, organization_id: UUID) -> PriceEdition:
        """Return the edition of the current organization as of this transaction."""
        versions = queries.price_versions(organization_id=organization_id)
        edition = self._tenants.get(organization_id)
        if edition is None or edition.versions != versions:
            edition = PriceEdition(versions, self._load(organization_id, versions))
            self._tenants.pop(organization_id, None)
            if len(self._tenants) >= MAX_TENANT_BOOKS:
                self._tenants.pop(next(iter(self._tenants)), None)
            self._tenants[organization_id] = edition
        return edition

    def in_hand(self, organization_id: UUID) -> PriceEdition:
        """Return the edition that this process has, without asking whether it is the current one."""
        return self._tenants.get(organization_id) or self.current(organization_id)

    def _catalogue_book(self, version: int) -> PriceBook:
        edition = self._catalogue
        if edition is None or edition.versions.catalogue != version:
            with self._loading:
                edition = self._catalogue
                if edition is None or edition.versions.catalogue != version:
                    edition = PriceEdition(PriceVersions(version, 0), _load_catalogue())
                    self._catalogue = edition
        return edition.book

    def _load(self, organization_id: UUID, versions: PriceVersions) -> PriceBook:
        if versions.organization == 0:
            return self._catalogue_book(versions.catalogue)
        rows = queries.current_prices(organization_id=organization_id)
        return self._catalogue_book(versions.catalogue).with_tenant(
            (row for _, row in rows),
            own_providers=queries.own_provider_names(organization_id=organization_id),
            aliases=queries.model_aliases(organization_id=organization_id),
        )


def _load_catalogue() -> PriceBook:
    rows = queries.current_prices(organization_id=None)
    return PriceBook(
        price_sources(
            (row for _, row in rows),
            provider_names=provider_aliases(),
            resolve_model=resolve_model,
            aliases=queries.model_aliases(organization_id=None),
        )
    )


_BOOKS = PriceBooks()


def price_book_of_project(project_id: UUID) -> PriceBook:
    """Return the prices that hold for a project's calls: own ones first, then the catalogue.

    One indexed read of two counters; everything else comes from memory unless a price changed.
    """
    return current_prices(project_id).book


def current_prices(project_id: UUID) -> PriceEdition:
    """Return the prices that hold for a project's calls as of this transaction."""
    return _scoped(_BOOKS.current(current_organization_id()), project_id)


def prices_in_hand(project_id: UUID) -> PriceEdition:
    """Return the prices that this process has in memory: who writes with them must compare `versions`."""
    return _scoped(_BOOKS.in_hand(current_organization_id()), project_id)


def _scoped(edition: PriceEdition, project_id: UUID) -> PriceEdition:
    return PriceEdition(edition.versions, edition.book.scoped(project_id))


def compiled_card(rate_card_id: UUID) -> CompiledCard | None:
    """Return a stored rate card ready to price; None for one that does not exist or is another's."""
    card = queries.find_rate_card(rate_card_id=rate_card_id)
    return compile_card(card) if card else None


def store_rate_cards(
    *,
    session: Session,
    cards: Iterable[RateCard],
    organization_id: UUID | None,
    recorded_at: datetime,
) -> int:
    """Store the cards that are not stored yet; return how many those were."""
    by_id = {card.id: card for card in cards}
    missing = by_id.keys() - queries.stored_rate_card_ids(session=session, ids=by_id)
    if missing:
        # Another process may store the same card meanwhile: the same id means the same content.
        session.execute(
            insert(ApiRateCard).on_conflict_do_nothing(),
            [
                {
                    "id": card_id,
                    "organization_id": organization_id,
                    "provider": by_id[card_id].provider,
                    "model": by_id[card_id].model,
                    "currency": by_id[card_id].currency,
                    "source": by_id[card_id].source,
                    "rates": rates_as_json(dict(by_id[card_id].rates)),
                    "recorded_at": recorded_at,
                }
                for card_id in sorted(missing)
            ],
        )
    return len(missing)
