import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cache
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.api_gateway.catalogue import ModelMatch, price_rows, provider_aliases, resolve_model
from app.api_gateway.price_book import PriceBook, price_sources
from app.api_gateway.price_choice import fits_pattern
from app.api_gateway.price_rows import PriceRow
from app.api_gateway.pricing import PriceNote, PricingReason, Rate

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
ORGANIZATION, PROJECT, CONFIGURATION = (UUID(int=n) for n in (1, 2, 3))
MOMENTS = st.integers(0, 8 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


@cache
def catalogue_book():
    return book_of(price_rows(), provider_names=provider_aliases(), resolve_model=resolve_model)


def book_of(rows, *, provider_names=None, resolve_model=None, aliases=None):
    def find_listed(provider, name):
        listed = {(row.provider, row.model) for row in rows}
        return ModelMatch(provider, name, True) if (provider, name) in listed else None

    sources = price_sources(
        rows,
        provider_names=provider_names or {"acme": "acme"},
        resolve_model=resolve_model or find_listed,
        aliases=aliases,
    )
    return PriceBook(sources)


def sources_that_know_everything():
    return price_sources(
        [price(1)],
        provider_names={"acme": "acme"},
        resolve_model=lambda provider, name: ModelMatch(provider, "one", True),
    )


def price(amount, position=0, **fields):
    """Return a row of the catalogue that asks `amount` for one input token."""
    named = {"provider": "acme", "model": "one", "source": "list@1", "position": position, **fields}
    return PriceRow(rates=(("input_tokens", Rate(Decimal(amount))),), **named)


def own_price(amount, position=0, **fields):
    return price(amount, position, **{"source": "own", "organization_id": ORGANIZATION, **fields})


def asked(book, at=NOW, *, context=None, model="one", response=None, provider="acme"):
    """Return what one input token costs, as the book has it, or why it does not know."""
    found = book.resolve(provider, model, response, at, context)
    return (
        str(dict(found.compiled.card.rates)["input_tokens"].price)
        if found.compiled
        else found.reason
    )


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestResolve:
    def test_takes_the_last_active_entry(self):
        book = book_of([price(1), price(2, 1, effective_from=date(2026, 3, 1)), price(3, 2)])

        assert asked(book) == "3"

    @pytest.mark.parametrize(
        ("at", "amount"),
        [
            ("2026-02-28T23:59:59.999999", "1"),
            ("2026-03-01T00:00:00", "2"),
            ("2026-04-30T23:59:59.999999", "2"),
            ("2026-05-01T00:00:00", "1"),
        ],
    )
    def test_changes_the_price_at_midnight_utc(self, at, amount):
        dated = price(2, 1, effective_from=date(2026, 3, 1), effective_to=date(2026, 5, 1))
        book = book_of([price(1), dated])

        assert asked(book, moment(at)) == amount

    def test_reads_moments_of_other_zones(self):
        book = book_of([price(1), price(2, 1, effective_from=date(2026, 3, 1))])
        kolkata = timezone(timedelta(hours=5, minutes=30))

        assert asked(book, datetime(2026, 3, 1, 5, 29, 59, tzinfo=kolkata)) == "1"
        assert asked(book, datetime(2026, 3, 1, 5, 30, tzinfo=kolkata)) == "2"

    @pytest.mark.parametrize(
        ("at", "amount"),
        [
            ("2026-11-19T22:59:59.999999", "1"),
            ("2026-11-19T23:00:00", "2"),
            ("2026-11-19T23:59:59.999999", "2"),
            ("2026-11-20T00:00:00", "2"),
            ("2026-11-20T00:59:59.999999", "2"),
            ("2026-11-20T01:00:00", "1"),
            ("2026-11-20T12:00:00", "1"),
        ],
    )
    def test_lets_a_daily_window_wrap_midnight(self, at, amount):
        book = book_of([price(1), price(2, 1, daily_from=time(23), daily_to=time(1))])

        assert asked(book, moment(at)) == amount

    def test_never_opens_a_daily_window_that_ends_when_it_begins(self):
        book = book_of([price(1), price(2, 1, daily_from=time(9), daily_to=time(9))])

        assert [asked(book, moment(f"2026-11-20T{at}")) for at in ("08:59", "09:00")] == ["1", "1"]

    @given(st.lists(MOMENTS, max_size=20))
    @settings(max_examples=100)
    def test_answers_alike_in_any_order_of_moments(self, moments):
        rows = [
            price(1),
            price(2, 1, effective_from=date(2026, 1, 2), effective_to=date(2026, 1, 4)),
            price(3, 2, daily_from=time(22), daily_to=time(2)),
            price(4, 3, daily_from=time(9), daily_to=time(17), effective_from=date(2026, 1, 3)),
            price(5, 4, context=(("tier", "flex"),), daily_from=time(12), daily_to=time(13)),
        ]
        book = book_of(rows)

        for at in moments:
            for context in (None, {"tier": "flex"}):
                afresh = asked(book_of(rows), at, context=context)

                assert asked(book, at, context=context) == afresh

    def test_notes_that_the_first_entry_stands_in_for_a_time_before_it(self):
        book = book_of(
            [price(1, effective_from=date(2026, 3, 1)), price(2, 1, effective_from=NOW.date())]
        )

        found = book.resolve("acme", "one", None, moment("2025-01-01T00:00:00"))

        assert dict(found.compiled.card.rates)["input_tokens"].price == 1
        assert found.notes == (PriceNote.undated,)

    def test_notes_a_time_before_the_catalogue_begins(self):
        book = catalogue_book()

        assert (
            PriceNote.undated
            in book.resolve("openai", "gpt-4o", None, moment("2024-06-01T00:00")).notes
        )
        assert book.resolve("openai", "gpt-4o", None, NOW).notes == ()

    def test_has_no_note_from_the_first_day_that_the_catalogue_knows(self):
        book = book_of([price(1), price(2, model="two", effective_from=date(2026, 3, 1))])

        before = book.resolve("acme", "one", None, moment("2026-02-28T23:59:59"))
        after = book.resolve("acme", "one", None, moment("2026-03-01T00:00:00"))

        assert (before.notes, after.notes) == ((PriceNote.undated,), ())

    def test_lays_the_first_matching_context_over_the_price_unit_by_unit(self):
        base = PriceRow(
            provider="acme",
            model="one",
            position=0,
            source="list@1",
            rates=(("input_tokens", Rate(Decimal(4))), ("output_tokens", Rate(Decimal(8)))),
        )
        batch = price(2, 1, context=(("processing", "batch"),))
        flex = PriceRow(
            provider="acme",
            model="one",
            position=2,
            source="list@1",
            context=(("service_tier", "flex"),),
            rates=(("input_tokens", Rate(Decimal(3))), ("output_tokens", Rate(Decimal(5)))),
        )
        book = book_of([base, batch, flex])

        both = {"service_tier": "flex", "processing": "batch"}
        rates = dict(book.resolve("acme", "one", None, NOW, both).compiled.card.rates)

        assert (rates["input_tokens"].price, rates["output_tokens"].price) == (2, 5)

    @pytest.mark.parametrize(
        ("context", "amount", "notes"),
        [
            (None, "4", ()),
            ({}, "4", ()),
            ({"processing": "batch"}, "2", ()),
            ({"processing": "Batch"}, "4", (PriceNote.context_not_priced,)),
            ({"processing": "standard"}, "4", ()),
            ({"service_tier": "default"}, "4", ()),
            ({"service_tier": "auto"}, "4", ()),
            ({"service_tier": "priority"}, "4", (PriceNote.context_not_priced,)),
            (
                {"service_tier": "priority", "processing": "batch"},
                "2",
                (PriceNote.context_not_priced,),
            ),
            ({"region": "eu"}, "4", (PriceNote.context_not_priced,)),
        ],
    )
    def test_notes_a_context_that_has_no_price(self, context, amount, notes):
        book = book_of([price(4), price(2, 1, context=(("processing", "batch"),))])

        assert asked(book, context=context) == amount
        assert book.resolve("acme", "one", None, NOW, context).notes == notes

    def test_notes_a_context_before_its_price_begins(self):
        batch = price(2, 1, context=(("processing", "batch"),), effective_from=date(2026, 10, 14))
        book = book_of([price(4), batch])

        early = book.resolve(
            "acme", "one", None, moment("2026-10-13T00:00"), {"processing": "batch"}
        )

        assert early.notes == (PriceNote.undated, PriceNote.context_not_priced)

    def test_notes_a_context_on_the_list_of_another_provider(self):
        found = catalogue_book().resolve("azure", "gpt-5", None, NOW, {"processing": "batch"})
        plain = catalogue_book().resolve("azure", "gpt-5", None, NOW)

        assert (found.provider, found.price_list) == ("azure", "openai")
        assert found.notes == (PriceNote.context_not_priced,)
        assert found.compiled is plain.compiled

    def test_prefers_the_model_that_answered(self):
        book = book_of([price(1), price(2, model="two")])

        assert asked(book, model="one", response="two") == "2"
        assert asked(book, model="two", response="one-of-a-kind") == "2"

    def test_names_provider_and_model_by_their_ids(self):
        found = catalogue_book().resolve(
            "azure.ai.openai", "my-deployment", "gpt-5-2025-08-07", NOW
        )

        assert (found.provider, found.model) == ("azure", "gpt-5")

    @pytest.mark.parametrize(
        ("provider", "model", "reason"),
        [
            ("my-openai-proxy", "gpt-5", PricingReason.unknown_provider),
            ("openai", "gpt-99", PricingReason.unknown_model),
            ("openai", None, PricingReason.unknown_model),
            ("openai", "omni-moderation-latest", PricingReason.no_rates),
        ],
    )
    def test_says_why_there_is_no_price(self, provider, model, reason):
        found = catalogue_book().resolve(provider, model, None, NOW)

        assert (found.compiled, found.is_free, found.reason) == (None, False, reason)
        assert found.model == (model if reason is not PricingReason.no_rates else "moderation")

    def test_knows_free_models(self):
        name = next(row.model for row in price_rows() if row.is_free)

        assert catalogue_book().resolve("openrouter", name, None, NOW).is_free

    def test_notes_a_name_that_no_exact_rule_knows(self):
        found = catalogue_book().resolve("anthropic", "claude-sonnet-4-5-ultra-max", None, NOW)

        assert found.compiled is not None
        assert found.notes == (PriceNote.inexact_name,)

    def test_lets_an_alias_go_before_the_matcher(self):
        aliases = {("acme", "my-deployment"): ModelMatch("acme", "one", True)}
        book = book_of([price(1)], aliases=aliases)

        assert asked(book, model="My-Deployment") == "1"

    def test_forgets_names_rather_than_growing_without_end(self):
        book = PriceBook(sources_that_know_everything(), max_plans=20)

        for number in range(100):
            asked(book, model=f"one-{number}")
            asked(book, model="one", provider=f"nobody-{number}")
            asked(book, model="one" + "x" * 10_000 + str(number))

        assert 0 < len(book._plans) <= 20
        assert 0 < len(book._unknown) <= 5

    def test_answers_alike_after_it_forgot(self):
        book = PriceBook(sources_that_know_everything(), max_plans=2)

        assert [asked(book, model=name) for name in "abcdefgab"] == ["1"] * 9


class TestFitsPattern:
    @given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
    @example("ab*ba", "aba")
    @example("a*b*b", "ab")
    @settings(max_examples=500)
    def test_is_what_the_regular_expression_says(self, pattern, name):
        expression = ".*".join(map(re.escape, pattern.split("*")))

        assert fits_pattern(pattern, name) == (re.fullmatch(expression, name) is not None)


class TestResolveForATenant:
    def test_prefers_the_tenants_price(self):
        book = book_of([price(1)]).with_tenant([own_price(2)])

        assert asked(book) == "2"
        assert (
            book.resolve("acme", "one", None, NOW).compiled.card.source
            == f"organization:{ORGANIZATION}"
        )

    def test_leaves_the_catalogues_book_as_it_was(self):
        catalogue = book_of([price(1)])

        catalogue.with_tenant([own_price(2)])

        assert asked(catalogue) == "1"

    def test_goes_from_the_narrowest_scope_to_the_widest(self):
        rows = [
            own_price(2),
            own_price(3, project_id=PROJECT),
            own_price(4, project_id=PROJECT, configuration_id=CONFIGURATION),
        ]
        book = book_of([price(1)]).with_tenant(rows)

        assert asked(book.scoped(PROJECT, CONFIGURATION)) == "4"
        assert asked(book.scoped(PROJECT)) == "3"
        assert asked(book.scoped(UUID(int=9), CONFIGURATION)) == "2"
        assert asked(book.scoped(None)) == "2"
        assert book.scoped(PROJECT) is book.scoped(PROJECT)

    def test_keeps_the_price_of_a_project_from_all_others(self):
        book = book_of([price(1)]).with_tenant([own_price(3, project_id=PROJECT)])

        assert [asked(book.scoped(each)) for each in (PROJECT, UUID(int=9), None)] == [
            "3",
            "1",
            "1",
        ]

    def test_needs_no_scope_where_no_price_has_one(self):
        book = book_of([price(1)]).with_tenant([own_price(2)])

        assert book.scoped(PROJECT) is book

    def test_prefers_an_exact_model_to_a_pattern_and_the_longer_pattern(self):
        rows = [own_price(5, model="*"), own_price(6, model="gpt-*"), own_price(7, model="gpt-5")]
        book = book_of([]).with_tenant(rows)

        assert asked(book, model="gpt-5") == "7"
        assert asked(book, model="GPT-5") == "7"
        assert asked(book, model="gpt-6") == "6"
        assert asked(book, model="claude") == "5"
        assert asked(book, model=None) == "5"

    @pytest.mark.parametrize("pattern", ["our-*", "gpt-*"])
    def test_fits_a_pattern_to_the_raw_name_and_to_the_model_it_means(self, pattern):
        aliases = {("openai", "our-model"): ModelMatch("openai", "gpt-5", True)}
        rows = [own_price(77, provider="openai", model=pattern)]
        book = catalogue_book().with_tenant(rows, aliases=aliases)

        assert asked(book, provider="openai", model="our-model") == "77"
        assert asked(book, provider="openai", model="o3") != "77"

    def test_prefers_the_very_name_to_the_model_it_means(self):
        dated = "gpt-5-2025-08-07"
        rows = [own_price(77, provider="openai", model="gpt-5")]
        rows += [own_price(78, provider="openai", model=dated)]
        book = catalogue_book().with_tenant(rows)

        assert asked(book, provider="openai", model=dated) == "78"
        assert asked(book, provider="openai", model="gpt-5") == "77"

    def test_names_an_own_model_as_the_tenant_spelled_it(self):
        rows = [own_price(2, provider="ocr", model="Scan"), own_price(3, provider="ocr", model="*")]
        book = book_of([]).with_tenant(rows, own_providers=["ocr"])

        found = book.resolve("ocr", "SCAN", "scan-build-7", NOW)

        assert (found.model, found.notes) == ("Scan", ())
        assert asked(book, provider="ocr", model="SCAN", response="scan-build-7") == "2"

    def test_prefers_a_wider_scope_to_the_catalogue_only(self):
        rows = [own_price(2), own_price(3, model="*", project_id=PROJECT)]
        book = book_of([price(1)]).with_tenant(rows)

        assert asked(book.scoped(PROJECT)) == "3"

    def test_fits_the_model_that_a_raw_name_means(self):
        rows = [own_price(2, provider="openai", model="gpt-5")]
        book = catalogue_book().with_tenant(rows)

        assert asked(book, provider="openai", model="x", response="gpt-5-2025-08-07") == "2"

    def test_does_not_ask_the_price_of_one_provider_for_another(self):
        book = catalogue_book().with_tenant([own_price(2, provider="openai", model="gpt-5")])

        assert asked(book, provider="azure", model="gpt-5") != "2"

    def test_falls_back_while_the_tenants_price_is_not_active(self):
        book = book_of([price(1)]).with_tenant([own_price(2, effective_from=date(2026, 11, 20))])

        assert asked(book, moment("2026-11-19T23:59:59")) == "1"
        assert asked(book, moment("2026-11-20T00:00:00")) == "2"

    def test_has_no_price_for_a_time_before_the_only_one(self):
        rows = [own_price(2, provider="ocr", effective_from=date(2026, 11, 20))]
        book = book_of([]).with_tenant(rows, own_providers=["ocr"])

        assert asked(book, moment("2026-11-19T00:00:00"), provider="ocr") == "no_active_price"

    def test_knows_own_providers_by_their_whole_name(self):
        book = book_of([]).with_tenant(
            [own_price(2, provider="ocr")], own_providers=["ocr", "maps"]
        )

        assert asked(book, provider="OCR") == "2"
        assert asked(book, provider="my-ocr") == "unknown_provider"
        assert asked(book, provider="maps") == "unknown_model"

    def test_does_not_let_an_own_provider_take_a_built_in_name(self):
        book = book_of([price(1)]).with_tenant([], own_providers=["ACME"])

        assert book.resolve("acme", "one", None, NOW).provider == "acme"

    def test_discounts_the_catalogue_with_its_contexts_and_tiers(self):
        rows = [
            own_price(0, model="*", multiplier=Decimal("0.9")),
            own_price(0, model="two", multiplier=Decimal("0.5")),
        ]
        listed = [
            price(10),
            price(10, model="two"),
            price(4, 1, context=(("processing", "batch"),)),
        ]
        book = book_of(listed).with_tenant(rows)

        assert Decimal(asked(book)) == 9
        assert Decimal(asked(book, context={"processing": "batch"})) == Decimal("3.6")
        assert Decimal(asked(book, model="two")) == 5
        assert book.resolve("acme", "one", None, NOW).compiled.card.source.startswith(
            "organization:"
        )

    def test_does_not_discount_the_tenants_own_price(self):
        rows = [own_price(0, model="*", multiplier=Decimal("0.9")), own_price(7)]

        assert asked(book_of([price(10)]).with_tenant(rows)) == "7"

    def test_lays_an_own_context_over_the_catalogue(self):
        row = own_price(3, context=(("processing", "batch"),))
        book = book_of([price(10)]).with_tenant([row])

        assert asked(book) == "10"
        assert asked(book, context={"processing": "batch"}) == "3"

    def test_never_mixes_currencies_on_one_card(self):
        row = own_price(3, context=(("processing", "batch"),), currency="EUR")
        book = book_of([price(10)]).with_tenant([row])

        found = book.resolve("acme", "one", None, NOW, {"processing": "batch"})

        assert asked(book, context={"processing": "batch"}) == "10"
        assert found.notes == (PriceNote.context_not_priced,)

    def test_marks_models_free(self):
        row = PriceRow(
            provider="acme",
            model="one",
            position=0,
            source="own",
            organization_id=ORGANIZATION,
            is_free=True,
        )

        assert book_of([price(1)]).with_tenant([row]).resolve("acme", "one", None, NOW).is_free

    def test_gives_tenants_with_equal_prices_different_cards(self):
        first = book_of([]).with_tenant([own_price(2)])
        second = book_of([]).with_tenant([own_price(2, organization_id=UUID(int=8))])

        ids = {book.resolve("acme", "one", None, NOW).rate_card_id for book in (first, second)}

        assert len(ids) == 2
