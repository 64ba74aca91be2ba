"""genai-prices is the oracle wherever its answer can be trusted: every model, around every date."""

import random
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from app.api_gateway import picos
from app.api_gateway.catalogue import price_rows, provider_aliases, resolve_model
from app.api_gateway.price_book import PriceBook, price_sources
from app.api_gateway.price_choice import reachable_cards
from app.api_gateway.pricing import PricingReason, PricingStatus, price_call
from app.api_gateway.usage import ANCESTORS, KNOWN_UNITS

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
PICO = Decimal("1e-12")


@cache
def catalogue_book():
    sources = price_sources(
        price_rows(), provider_names=provider_aliases(), resolve_model=resolve_model
    )
    return PriceBook(sources)


@cache
def all_cards():
    return reachable_cards(price_rows())


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestPrices:
    @pytest.mark.parametrize("provider", sorted(p.id for p in get_snapshot().providers))
    def test_are_the_librarys(self, provider):
        rng = random.Random(provider)
        listed = next(p for p in get_snapshot().providers if p.id == provider)
        compared = 0
        for model in listed.models:
            for at, context in occasions(model, rng):
                compared += self.is_equal(listed, model, at, context, rng)
        assert compared >= len(listed.models) / 2

    def is_equal(self, listed, model, at, context, rng):
        name = raw_name_of(listed, model)
        found = catalogue_book().resolve(listed.id, name, None, at, context)
        assert (found.price_list, found.model) == (listed.id, model.id)
        if found.compiled is None:
            assert found.is_free or found.reason is PricingReason.no_rates
            return False
        assert found.compiled.card in all_cards()
        usage = random_usage(found.compiled.card, rng)
        status, cost, _, reason = price_call(found, usage)
        reported = {KNOWN_UNITS[u].library_name: n for u, n in usage.items() if u != "requests"}
        try:
            answer = model.calc_price(
                Usage(**reported), listed, genai_request_timestamp=at, price_context=context
            )
        except ValueError:
            assert reason in {PricingReason.usage_ambiguous, PricingReason.usage_inconsistent}
            return False
        assert status is PricingStatus.computed, (listed.id, model.id, usage, reason)
        assert picos.as_decimal(cost) == answer.total_price.quantize(PICO, ROUND_HALF_EVEN)
        return True

    @pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "azure", "aws", "x-ai"])
    def test_are_the_librarys_by_raw_name(self, provider):
        rng = random.Random(provider)
        listed = next(p for p in get_snapshot().providers if p.id == provider)
        names = [m.id for m in listed.models] + ["gpt-5-2025-08-07", "claude-opus-4-8", "grok-4.6"]
        for name in names:
            for context in (None, {"processing": "batch"}, {"service_tier": "priority"}):
                found = catalogue_book().resolve(provider, name, None, NOW, context)
                if found.compiled is None:
                    continue
                usage = {"input_tokens": rng.randrange(400_000)}
                if "output_tokens" in dict(found.compiled.card.rates):
                    usage["output_tokens"] = rng.randrange(9000)
                status, cost, _, _ = price_call(found, {**usage, "requests": 1})
                answer = calc_price(
                    Usage(**usage),
                    name,
                    provider_id=provider,
                    genai_request_timestamp=NOW,
                    price_context=context,
                )
                if status is PricingStatus.computed:
                    expected = answer.total_price.quantize(PICO, ROUND_HALF_EVEN)
                    assert picos.as_decimal(cost) == expected

    @pytest.mark.parametrize(
        ("usage", "cost"),
        [
            ({"input_tokens": 200_000, "output_tokens": 1000}, "0.615"),
            ({"input_tokens": 200_001, "output_tokens": 1000}, "1.222506"),
        ],
    )
    def test_of_sonnet_jump_over_the_threshold(self, usage, cost):
        found = catalogue_book().resolve("anthropic", "claude-sonnet-4-5", None, NOW)

        assert found.compiled.cost(usage) == Decimal(cost)

    def test_of_gpt_5_bill_cached_input_at_its_rate(self):
        found = catalogue_book().resolve("openai", "gpt-5", "gpt-5-2025-08-07", NOW)
        usage = {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300}

        assert picos.as_text(found.compiled.picos(usage)) == "0.0033475"

    def test_of_groq_whisper_start_at_ten_seconds(self):
        found = catalogue_book().resolve("groq", "whisper-large-v3", None, NOW)
        usage = {"audio_seconds": 4, "audio_input_seconds": 4}

        answer = calc_price(
            Usage(audio_seconds=4),
            "whisper-large-v3",
            provider_id="groq",
            genai_request_timestamp=NOW,
        )
        assert found.compiled.cost(usage) == answer.total_price.quantize(PICO)
        assert found.compiled.cost({"audio_seconds": 4}) == answer.total_price.quantize(PICO)


def raw_name_of(listed, model):
    """Return a name that means this model, its id or part of a matching rule."""
    literals = re.findall(r"(?:equals|starts_with|ends_with|contains)='([^']+)'", repr(model.match))
    names = (name for name in (model.id, *literals) if listed.find_model(name) is model)
    return next(names)


def occasions(model, rng):
    """Return moments around every date and daily window of a model, each with some context."""
    moments = [NOW, moment("2024-06-01T12:00:00"), moment("2027-03-01T00:00:00")]
    conditions = [e.constraint for e in model.prices] if isinstance(model.prices, list) else []
    conditions += [v.constraint for v in model.price_variants or ()]
    for condition in conditions:
        if hasattr(condition, "start_date"):
            start = datetime.combine(condition.start_date, time(), UTC)
            moments += [start - timedelta(microseconds=1), start, start + timedelta(hours=5)]
        elif condition is not None:
            for edge in (condition.start_time, condition.end_time):
                at = datetime.combine(date(2026, 11, 21), edge)
                moments += [at - timedelta(microseconds=1), at]
    contexts = [None, {"processing": "Batch"}]
    contexts += [dict(v.when) for v in model.price_variants or ()]
    contexts += [{"processing": "batch", "service_tier": "priority"}, {"service_tier": "default"}]
    if model.price_variants:
        return [(at, context) for at in set(moments) for context in contexts]
    return [(at, rng.choice(contexts)) for at in set(moments)]


def random_usage(card, rng):
    """Return totals that add up, of units that the card prices or carries."""
    rates = dict(card.rates)
    carried = [u for u in KNOWN_UNITS if u in rates or not ANCESTORS[u].isdisjoint(rates)]
    usage = {"requests": 1}
    for unit in rng.sample(carried, k=min(len(carried), rng.randint(1, 4))):
        count = rng.choice([0, 1, rng.randrange(500), rng.randrange(300_000)])
        for whole in (unit, *ANCESTORS[unit]):
            usage[whole] = usage.get(whole, 0) + count
    usage["requests"] = 1
    return usage if len(usage) > 1 else {**usage, "input_tokens": 0}
