"""The catalogue in the database: added once, superseded by a new release, never edited."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from app.api_gateway.catalogue import (
    catalogue_models,
    catalogue_providers,
    price_rows,
)
from app.api_gateway.models.prices import ApiModel, ApiPrice, ApiProvider, ApiRateCard
from app.api_gateway.price_choice import reachable_cards
from app.api_gateway.queries.prices import current_prices
from app.api_gateway.rate_cards import Rate
from app.api_gateway.service.catalogue_import import CatalogueImport, import_catalogue
from app.kit.tenancy import system_session

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
LATER = NOW + timedelta(days=7)


@pytest.fixture
def catalogue(app):
    """The bundled catalogue in the database, as the upgrade left it there."""
    with app.app_context():
        yield


@pytest.fixture
def other_release(catalogue):
    """For a test that imports another catalogue: the bundled one is brought back behind it."""
    yield
    import_catalogue(now=NOW)


def stored_rows():
    with system_session() as session:
        return [row for _, row in current_prices(organization_id=None, session=session)]


def next_release(change):
    """Return the catalogue's rows as a later release would have them."""
    rows = (replace(row, source="genai-prices@9.9.9") for row in price_rows())
    return [changed for row in rows for changed in change(row)]


@pytest.mark.usefixtures("catalogue")
class TestImportCatalogue:
    def test_stores_what_the_library_says(self):
        assert sorted(stored_rows(), key=str) == sorted(price_rows(), key=str)

    def test_stores_providers_and_models(self):
        with system_session() as session:
            providers = session.scalars(
                select(ApiProvider.name).where(ApiProvider.organization_id.is_(None))
            ).all()
            models = session.execute(
                select(ApiProvider.name, ApiModel.name)
                .join(ApiModel, ApiModel.provider_id == ApiProvider.id)
                .where(ApiModel.organization_id.is_(None), ApiModel.withdrawn_at.is_(None))
            ).all()

        assert set(providers) >= {provider.id for provider in catalogue_providers()}
        assert {tuple(row) for row in models} == {(m.provider, m.id) for m in catalogue_models()}

    def test_stores_every_card_that_a_call_can_get(self):
        with system_session() as session:
            ids = set(session.scalars(select(ApiRateCard.id)))

        assert ids >= {card.id for card in reachable_cards(price_rows())}

    def test_adds_nothing_when_it_runs_again(self):
        again = import_catalogue(now=LATER)

        assert again == CatalogueImport(0, 0, len(price_rows()), 0)

    def test_keeps_equal_prices_of_a_new_release_as_they_are(self):
        again = import_catalogue(now=LATER, rows=next_release(lambda row: [row]))

        assert again == CatalogueImport(0, 0, len(price_rows()), 0)
        assert {row.source for row in stored_rows()} == {price_rows()[0].source}

    @pytest.mark.usefixtures("other_release")
    def test_supersedes_a_changed_price_and_adds_the_new_one(self):
        def dearer(row):
            if (row.provider, row.model, row.context) != ("openai", "gpt-4o", ()):
                return [row]
            return [replace(row, rates=(("input_tokens", Rate(Decimal("99.5"), 10**6)),))]

        done = import_catalogue(now=LATER, rows=next_release(dearer))

        with system_session() as session:
            rows = session.scalars(
                select(ApiPrice)
                .where(
                    ApiPrice.provider == "openai",
                    ApiPrice.model == "gpt-4o",
                    ApiPrice.context == {},
                )
                .order_by(ApiPrice.recorded_at, ApiPrice.superseded_at)
            ).all()
        assert (done.added, done.superseded) == (1, 1)
        assert done.rate_cards > 0
        assert rows[-1].rates["input_tokens"]["price"] == "99.5"
        assert rows[-1].source == "genai-prices@9.9.9"
        assert (rows[-1].recorded_at, rows[-1].superseded_at) == (LATER, None)
        assert all(row.superseded_at == LATER for row in rows[-2:-1])

    @pytest.mark.usefixtures("other_release")
    def test_supersedes_a_price_that_is_gone_and_withdraws_its_model(self):
        without = [m for m in catalogue_models() if (m.provider, m.id) != ("openai", "gpt-4o")]
        rows = next_release(lambda row: [] if row.model == "gpt-4o" else [row])

        done = import_catalogue(now=LATER, rows=rows, models=without)

        assert done.added == 0
        assert done.superseded == len(price_rows()) - len(rows)
        with system_session() as session:
            withdrawn = session.execute(
                select(ApiProvider.name, ApiModel.name)
                .join(ApiModel, ApiModel.provider_id == ApiProvider.id)
                .where(ApiModel.withdrawn_at.is_not(None))
            ).all()
        assert [tuple(row) for row in withdrawn] == [("openai", "gpt-4o")]


@pytest.mark.usefixtures("catalogue")
class TestRateCard:
    @pytest.mark.parametrize(
        "statement", ["UPDATE api_rate_cards SET rates = '{}'", "DELETE FROM api_rate_cards"]
    )
    def test_can_be_changed_by_nobody(self, statement):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            system_session() as session,
        ):
            session.execute(text(statement))


class TestImportPricesCommand:
    def test_says_what_it_did(self, app):
        runner = app.test_cli_runner()
        runner.invoke(args=["prices", "import"])

        again = runner.invoke(args=["prices", "import"])

        assert again.exit_code == 0
        assert "0 prices added, 0 superseded" in again.output
