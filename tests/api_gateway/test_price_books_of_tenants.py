"""Price books are true to the database, in every process, and never another tenant's."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.exc import ProgrammingError

from app.api_gateway.models.prices import ApiModelAlias, ApiPrice
from app.api_gateway.price_rows import PriceRow
from app.api_gateway.rate_cards import Rate
from app.api_gateway.service.catalogue_import import price_columns
from app.api_gateway.service.prices import PriceBooks, compiled_card, price_book_of_project
from app.api_gateway.service.providers import NewPrice, NewProvider, create_provider
from app.audit.context import acting_as, operator
from app.extensions import db
from app.kit.ids import new_id
from app.kit.tenancy import organization_scope, system_session

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
PAGES = {"pages": Rate(Decimal("0.002"))}


@pytest.fixture
def books(app):
    """The books of one process, and those of another."""
    with app.app_context():
        yield PriceBooks(), PriceBooks()


def new_provider(name="ocr", model="*", rates=None, effective_from=None):
    price = NewPrice(model, effective_from, None, PAGES if rates is None else rates, is_free=False)
    return NewProvider(name, "OCR", None, "USD", [price])


def make_provider(owner, wanted):
    # Outside a request it is the operator who acts, and a request of a test forgets him.
    with acting_as(operator("test")), organization_scope(owner.organization_id):
        provider = create_provider(organization_id=owner.organization_id, wanted=wanted, now=NOW)
        db.session.commit()
        return provider.id


def add_price(owner, **fields):
    named = {"provider": "openai", "model": "gpt-5", "position": 0, "source": "own"}
    rates = (("input_tokens", Rate(Decimal(7))),)
    row = PriceRow(organization_id=owner.organization_id, **{**named, "rates": rates, **fields})
    with organization_scope(owner.organization_id):
        db.session.execute(insert(ApiPrice), [price_columns(row, recorded_at=NOW)])
        db.session.commit()


def asked(books, owner, provider="ocr", model="any", project_id=None):
    """Return the resolution of a call of the owner's organization."""
    with organization_scope(owner.organization_id):
        book = books.current(owner.organization_id).book.scoped(project_id)
        return book.resolve(provider, model, None, NOW)


def price_of(found, unit="pages"):
    return dict(found.compiled.card.rates)[unit].price if found.compiled else None


class TestPriceBooks:
    def test_hold_the_catalogue(self, books, alice):
        found = asked(books[0], alice, "openai", "gpt-5")
        usage = {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300}

        assert found.compiled.cost(usage) == Decimal("0.0033475")

    def test_share_the_catalogues_book_while_a_tenant_has_nothing_of_his_own(
        self, books, alice, stranger
    ):
        of_alice = asked(books[0], alice, "openai", "gpt-5")

        assert asked(books[0], stranger, "openai", "gpt-5").compiled is of_alice.compiled

    def test_know_a_new_provider_at_once_in_every_process(self, books, alice):
        before = [asked(each, alice).reason for each in books]

        make_provider(alice, new_provider())

        assert before == ["unknown_provider", "unknown_provider"]
        assert [price_of(asked(each, alice)) for each in books] == [Decimal("0.002")] * 2

    def test_know_a_changed_price_at_once_in_every_process(self, books, alice):
        make_provider(alice, new_provider())
        before = [price_of(asked(each, alice)) for each in books]

        with organization_scope(alice.organization_id):
            db.session.execute(update(ApiPrice).values(superseded_at=NOW))
            db.session.commit()
        add_price(alice, provider="ocr", model="*", rates=(("pages", Rate(Decimal(3))),))

        assert before == [Decimal("0.002")] * 2
        assert [price_of(asked(each, alice)) for each in books] == [Decimal(3)] * 2

    def test_know_a_changed_catalogue_for_a_tenant_with_own_prices(self, books, alice):
        make_provider(alice, new_provider())
        name = f"new-{uuid4()}"
        asked(books[0], alice)
        row = PriceRow(
            provider="openai", model=name, position=0, source="genai-prices@9",
            rates=(("input_tokens", Rate(Decimal(1))),),
        )  # fmt: skip
        alias = {
            "id": new_id(), "provider": "openai", "raw_name": name, "price_list": "openai",
            "model": name, "created_at": NOW,
        }  # fmt: skip
        with system_session() as session:
            session.execute(insert(ApiPrice), [price_columns(row, recorded_at=NOW)])
            session.execute(insert(ApiModelAlias), [alias])

        found = asked(books[0], alice, "openai", name)

        with system_session() as session:
            session.execute(text("DELETE FROM api_prices WHERE model = :name"), {"name": name})
            session.execute(
                text("DELETE FROM api_model_aliases WHERE model = :name"), {"name": name}
            )
        assert price_of(found, "input_tokens") == 1
        assert asked(books[0], alice, "openai", name).reason == "unknown_model"

    def test_hide_the_prices_of_others(self, books, alice, stranger):
        make_provider(alice, new_provider())

        assert asked(books[0], alice).compiled is not None
        assert asked(books[0], stranger).reason == "unknown_provider"

    def test_let_two_tenants_use_one_name_for_different_things(self, books, alice, stranger):
        make_provider(alice, new_provider())
        make_provider(stranger, new_provider(rates={"pages": Rate(Decimal(5))}))

        assert price_of(asked(books[0], alice)) == Decimal("0.002")
        assert price_of(asked(books[0], stranger)) == Decimal(5)

    def test_prefer_a_tenants_price_for_a_built_in_model(self, books, alice, stranger):
        add_price(alice)

        assert price_of(asked(books[0], alice, "openai", "gpt-5-2025-08-07"), "input_tokens") == 7
        assert price_of(asked(books[0], stranger, "openai", "gpt-5"), "input_tokens") < 2

    def test_prefer_a_projects_price_for_its_calls(self, books, alice, project):
        add_price(alice)
        rates = (("input_tokens", Rate(Decimal(8))),)
        add_price(alice, project_id=project.id, rates=rates)

        within = asked(books[0], alice, "openai", "gpt-5", project.id)
        elsewhere = asked(books[0], alice, "openai", "gpt-5", uuid4())

        assert (price_of(within, "input_tokens"), price_of(elsewhere, "input_tokens")) == (8, 7)

    def test_follow_a_tenants_aliases(self, books, alice, stranger):
        row = {
            "id": new_id(), "organization_id": alice.organization_id, "provider": "azure",
            "raw_name": "our-deployment", "price_list": "openai", "model": "gpt-5", "created_at": NOW,
        }  # fmt: skip
        with organization_scope(alice.organization_id):
            db.session.execute(insert(ApiModelAlias), [row])
            db.session.commit()

        found = asked(books[0], alice, "azure", "Our-Deployment")

        assert (found.provider, found.model, found.price_list) == ("azure", "gpt-5", "openai")
        assert asked(books[0], stranger, "azure", "our-deployment").reason == "unknown_model"

    def test_apply_a_price_from_its_date(self, books, alice):
        make_provider(alice, new_provider(effective_from=date(2026, 11, 21)))

        assert asked(books[0], alice).reason == "no_active_price"


class TestPriceBookOfProject:
    def test_prices_the_calls_of_the_current_organization(self, app, alice, project):
        with app.app_context(), organization_scope(alice.organization_id):
            found = price_book_of_project(project.id).resolve("openai", "gpt-5", None, NOW)

        assert found.compiled is not None


class TestCompiledCard:
    def test_is_found_for_every_card_of_the_catalogue(self, app, alice):
        with app.app_context(), organization_scope(alice.organization_id):
            found = price_book_of_project(uuid4()).resolve("openai", "gpt-5", None, NOW)

            stored = compiled_card(found.rate_card_id)

        assert stored.id == found.rate_card_id
        assert stored.card == found.compiled.card

    def test_is_found_for_a_tenants_own_card_and_hidden_from_others(self, books, alice, stranger):
        make_provider(alice, new_provider())
        card_id = asked(books[0], alice).rate_card_id

        with organization_scope(alice.organization_id):
            own = compiled_card(card_id)
        with organization_scope(stranger.organization_id):
            others = compiled_card(card_id)

        assert own.cost({"pages": 3}) == Decimal("0.006")
        assert others is None

    def test_is_none_for_a_card_that_does_not_exist(self, app, alice):
        with app.app_context(), organization_scope(alice.organization_id):
            assert compiled_card(uuid4()) is None


class TestWall:
    def test_lets_no_tenant_take_from_the_catalogue(self, app, alice):
        with app.app_context(), organization_scope(alice.organization_id):
            changed = db.session.execute(
                text("UPDATE api_prices SET currency = 'EUR' WHERE organization_id IS NULL")
            )

            assert changed.rowcount == 0

    def test_lets_no_tenant_add_to_the_catalogue(self, app, alice):
        row = PriceRow(provider="openai", model="gpt-5", position=900, source="own")
        with app.app_context(), organization_scope(alice.organization_id):
            with pytest.raises(ProgrammingError, match="row-level security"):
                db.session.execute(insert(ApiPrice), [price_columns(row, recorded_at=NOW)])
            db.session.rollback()
