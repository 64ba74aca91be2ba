from datetime import date, time
from decimal import Decimal
from functools import cache

import pytest
from genai_prices import types as library
from genai_prices.data_snapshot import get_snapshot

from app.api_gateway.catalogue import (
    SOURCE,
    ModelMatch,
    canonical_provider,
    catalogue_models,
    catalogue_providers,
    price_rows,
    provider_aliases,
    resolve_model,
)
from app.api_gateway.price_choice import reachable_cards
from app.api_gateway.pricing import Rate, Tier, compile_card
from app.api_gateway.usage import KNOWN_UNITS

MILLION = 10**6


@cache
def all_rows():
    return price_rows()


def rows_of(provider, model):
    return [row for row in all_rows() if (row.provider, row.model) == (provider, model)]


class TestPriceRows:
    def test_hold_every_entry_and_variant_of_the_library(self):
        models = [m for p in get_snapshot().providers for m in p.models]
        entries = sum(
            1 if isinstance(m.prices, library.ModelPrice) else len(m.prices) for m in models
        )
        variants = sum(len(m.price_variants or ()) for m in models)

        assert len([row for row in all_rows() if not row.context]) == entries
        assert len([row for row in all_rows() if row.context]) == variants

    def test_are_placed_once_within_a_model(self):
        places = {(row.provider, row.model, row.position) for row in all_rows()}

        assert len(places) == len(all_rows())

    def test_name_the_release_they_come_from(self):
        assert {row.source for row in all_rows()} == {SOURCE}
        assert SOURCE.startswith("genai-prices@")
        assert {row.card_source for row in all_rows()} == {"genai-prices"}

    def test_price_known_units_only(self):
        assert {unit for row in all_rows() for unit, _ in row.rates} <= KNOWN_UNITS.keys()

    def test_carry_tiers(self):
        (row,) = rows_of("anthropic", "claude-sonnet-4-5")[:1]

        assert dict(row.rates)["input_tokens"] == Rate(
            Decimal(3), MILLION, (Tier(200_000, Decimal(6)),)
        )
        assert dict(row.rates)["web_searches"].per == 1000

    def test_carry_dates(self):
        rows = rows_of("deepseek", "deepseek-v4-pro")

        assert [row.effective_from for row in rows] == [None, date(2026, 8, 17), None, None]

    def test_carry_daily_times_in_utc(self):
        rows = rows_of("deepseek", "deepseek-v4-pro")

        assert [(row.daily_from, row.daily_to) for row in rows[2:]] == [
            (time(1), time(4)),
            (time(6), time(10)),
        ]

    def test_carry_contexts(self):
        contexts = {pair for row in all_rows() for pair in row.context}

        assert {("processing", "batch"), ("service_tier", "flex"), ("speed", "fast")} <= contexts

    def test_call_free_only_what_is_named_free(self):
        without_rates = [row for row in all_rows() if not row.rates and not row.context]

        assert all(row.is_free == row.model.endswith(":free") for row in without_rates)
        assert not any(row.is_free for row in all_rows() if row.rates)
        assert any(not row.is_free for row in without_rates)

    def test_bill_at_least_ten_seconds_of_audio_on_groq(self):
        rows = rows_of("groq", "whisper-large-v3")

        assert {rate.minimum for row in rows for _, rate in row.rates} == {10}


class TestReachableCards:
    def test_can_all_be_compiled_and_have_different_ids(self):
        cards = reachable_cards(all_rows())

        assert len({compile_card(card).id for card in cards}) == len(cards)
        assert len(cards) > 2000

    def test_hold_prices_laid_over_each_other(self):
        cards = reachable_cards(rows_of("anthropic", "claude-sonnet-4-5"))
        batch = [c for c in cards if dict(c.rates)["input_tokens"].price == Decimal("1.5")]

        assert batch
        assert dict(batch[0].rates)["web_searches"].price == Decimal(10)


class TestCanonicalProvider:
    @pytest.mark.parametrize(
        ("name", "provider"),
        [
            ("openai", "openai"),
            (" OpenAI ", "openai"),
            ("azure.ai.openai", "azure"),
            ("azure_openai", "azure"),
            ("azure.ai.inference", "azure"),
            ("az.ai.inference", "azure"),
            ("gcp.gemini", "google"),
            ("gcp.vertex_ai", "google"),
            ("gcp.gen_ai", "google"),
            ("vertex_ai", "google"),
            ("aws.bedrock", "aws"),
            ("x_ai", "x-ai"),
            ("xai", "x-ai"),
            ("mistral_ai", "mistral"),
            ("moonshot_ai", "moonshotai"),
            ("together_ai", "together"),
            ("fireworks_ai", "fireworks"),
        ],
    )
    def test_knows_ids_and_aliases(self, name, provider):
        assert canonical_provider(name) == provider

    @pytest.mark.parametrize(
        "name", ["notopenai", "my-openai-proxy", "googlemaps", "ibm.watsonx.ai", "", "openai.com"]
    )
    def test_matches_whole_names_only(self, name):
        assert canonical_provider(name) is None

    def test_leads_to_providers_that_exist(self):
        assert set(provider_aliases().values()) == {p.id for p in catalogue_providers()}


class TestResolveModel:
    @pytest.mark.parametrize(
        ("provider", "name", "model"),
        [
            ("openai", "gpt-5", "gpt-5"),
            ("openai", "gpt-5-2025-08-07", "gpt-5"),
            ("openai", "GPT-5", "gpt-5"),
            ("openai", "gpt-5.2-20251211", "gpt-5.2"),
            ("openai", "ft:gpt-4o-2024-08-06:acme::x1", "ft:gpt-4o"),
            ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
            ("anthropic", "claude-sonnet-4@20250514", "claude-sonnet-4-0"),
            ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku-latest"),
            ("google", "gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
            (
                "google",
                "publishers/anthropic/models/claude-sonnet-4-5@20250929",
                "claude-sonnet-4-5",
            ),
        ],
    )
    def test_knows_releases_exactly(self, provider, name, model):
        assert resolve_model(provider, name) == ModelMatch(provider, model, is_exact=True)

    @pytest.mark.parametrize(
        ("provider", "name", "model"),
        [
            ("anthropic", "claude-sonnet-4-5-ultra-max", "claude-sonnet-4-5"),
            ("google", "gemini-2.5-pro-super", "gemini-2.5-pro"),
        ],
    )
    def test_flags_models_that_do_not_exist(self, provider, name, model):
        assert resolve_model(provider, name) == ModelMatch(provider, model, is_exact=False)

    def test_knows_every_model_by_its_own_id_exactly_or_not_at_all(self):
        models = [(m.provider, m.id) for m in catalogue_models()]
        found = [(own, resolve_model(*own)) for own in models]

        assert all(m is None or m.is_exact or m[:2] != own for own, m in found)
        assert sum(m is not None and m[:2] == own for own, m in found) > 0.9 * len(models)

    def test_says_whose_list_has_the_model(self):
        assert resolve_model("azure", "gpt-5") == ModelMatch("openai", "gpt-5", is_exact=True)

    @pytest.mark.parametrize(
        ("provider", "name"),
        [
            ("openai", "nope"),
            ("openai", ""),
            ("nobody", "gpt-5"),
            ("anthropic", "claude-3-opus" + "x" * 256),
        ],
    )
    def test_does_not_guess(self, provider, name):
        assert resolve_model(provider, name) is None


class TestCatalogueModels:
    def test_are_all_there_with_their_providers(self):
        models = catalogue_models()

        assert len(models) == sum(len(p.models) for p in get_snapshot().providers)
        assert {m.provider for m in models} == {p.id for p in catalogue_providers()}
        assert any(m.is_deprecated for m in models)
        assert {m.context_window for m in models if m.id == "claude-2"} >= {200_000}
