"""The built-in price list: the snapshot bundled with genai-prices, as plain rows. Never the network.

The library is asked for content and for its name matching; costs are computed by `pricing.py` from these
rows. What it would get wrong in silence is settled here (api-gateway.md section 5, traps 1 to 6).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from importlib.metadata import version
from typing import Final, NamedTuple, TypeAlias

from genai_prices import types as library
from genai_prices.data_snapshot import get_snapshot
from genai_prices.data_units import unit_data

from app.api_gateway.price_rows import PriceRow
from app.api_gateway.rate_cards import Rate, Tier
from app.api_gateway.usage import UNIT_BY_LIBRARY_NAME

SOURCE: Final = f"genai-prices@{version('genai-prices')}"
MAX_NAME_LENGTH: Final = 256

# Exact names that clients give a provider; the library would match by substring, or not at all.
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "azure": ("azure.ai.openai", "azure_openai", "azure.ai.inference", "az.ai.inference", "azure-openai"),
    "google": (
        "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai", "vertex_ai", "gemini", "vertexai", "google-vertex",
        "google-gla", "google_genai", "google_vertexai",
    ),
    "aws": ("aws.bedrock", "bedrock", "aws_bedrock", "amazon-bedrock", "amazon_bedrock"),
    "x-ai": ("x_ai", "xai"),
    "mistral": ("mistral_ai", "mistralai"),
    "moonshotai": ("moonshot_ai", "moonshot"),
    "together": ("together_ai", "together-ai", "togetherai"),
    "fireworks": ("fireworks_ai", "fireworks-ai"),
}  # fmt: skip

# One rule of the library is code, not data: Groq bills at least 10 seconds of audio.
_MINIMA: Final = {
    ("groq", "whisper-large-v3"): {"audio_seconds": 10, "audio_input_seconds": 10},
    ("groq", "whisper-large-v3-turbo"): {"audio_seconds": 10, "audio_input_seconds": 10},
}


@dataclass(frozen=True, slots=True)
class CatalogueProvider:
    """A provider of the built-in list; `api_pattern` is a regular expression for its URLs."""

    id: str
    name: str
    api_pattern: str
    pricing_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model of the built-in list; `context_window` is in tokens."""

    provider: str
    id: str
    name: str | None
    context_window: int | None
    is_deprecated: bool


class ModelMatch(NamedTuple):
    """The model that a raw name means; `provider` is the one whose price list has it."""

    provider: str
    model: str
    is_exact: bool


@cache
def _providers() -> Mapping[str, library.Provider]:
    return {provider.id: provider for provider in get_snapshot().providers}


@cache
def _provider_names() -> Mapping[str, str]:
    names = {provider.lower(): provider for provider in _providers()}
    for provider, aliases in _ALIASES.items():
        names |= {alias: provider for alias in aliases if provider in _providers()}
    return names


def provider_aliases() -> Mapping[str, str]:
    """Return every accepted lower-case name of a provider, its own id included, with the id."""
    return _provider_names()


def canonical_provider(name: str) -> str | None:
    """Return the id of the provider of this exact name or alias, in any case; None for all others."""
    return _provider_names().get(name.strip().lower())


def catalogue_providers() -> tuple[CatalogueProvider, ...]:
    """Return the providers of the bundled list."""
    return tuple(
        CatalogueProvider(p.id, p.name, p.api_pattern, tuple(p.pricing_urls or ()))
        for p in _providers().values()
    )


def catalogue_models() -> tuple[CatalogueModel, ...]:
    """Return the models of the bundled list."""
    return tuple(
        CatalogueModel(provider.id, m.id, m.name, m.context_window, bool(m.deprecated))
        for provider in _providers().values()
        for m in provider.models
    )


def price_rows() -> tuple[PriceRow, ...]:
    """Return every price of the bundled list: conditional entries first, then context variants.

    A model without rates becomes one row without rates, free only when its name ends in `:free`.
    """
    return tuple(
        row
        for provider in _providers().values()
        for model in provider.models
        for row in _rows_of(provider.id, model)
    )


_Constraint: TypeAlias = library.StartDateConstraint | library.TimeOfDateConstraint | None
_Condition: TypeAlias = tuple[_Constraint, library.ModelPrice, Mapping[str, str]]


def _rows_of(provider: str, model: library.ModelInfo) -> Iterator[PriceRow]:
    entries = model.prices
    if isinstance(entries, library.ModelPrice):
        entries = [library.ConditionalPrice(prices=entries)]
    variants = model.price_variants or []
    conditions: list[_Condition] = [(e.constraint, e.prices, {}) for e in entries]
    conditions += [(v.constraint, v.prices, v.when) for v in variants]
    minima = _MINIMA.get((provider, model.id), {})
    for position, (constraint, prices, context) in enumerate(conditions):
        rates = tuple(sorted(_rates(prices, minima)))
        daily_from, daily_to = _daily_times(constraint)
        yield PriceRow(
            provider=provider,
            model=model.id,
            position=position,
            source=SOURCE,
            rates=rates,
            context=tuple(sorted(context.items())),
            is_free=not rates and not context and model.id.endswith(":free"),
            effective_from=_start_date(constraint),
            daily_from=daily_from,
            daily_to=daily_to,
        )


@cache
def _unit_by_price_key() -> Mapping[str, tuple[str, int]]:
    return {
        unit["price_key"]: (UNIT_BY_LIBRARY_NAME[name], unit["per"])
        for name, unit in unit_data.items()
    }


def _rates(prices: library.ModelPrice, minima: Mapping[str, int]) -> Iterator[tuple[str, Rate]]:
    for key, price in prices.__dict__.items():
        if price is None:
            continue
        unit, per = _unit_by_price_key()[key]
        minimum = minima.get(unit, 0)
        if isinstance(price, library.TieredPrices):
            tiers = tuple(Tier(tier.start, tier.price) for tier in price.tiers)
            yield unit, Rate(price.base, per, tiers, minimum)
        else:
            yield unit, Rate(price, per, (), minimum)


def _start_date(constraint: _Constraint) -> date | None:
    return constraint.start_date if isinstance(constraint, library.StartDateConstraint) else None


def _daily_times(constraint: _Constraint) -> tuple[time | None, time | None]:
    if not isinstance(constraint, library.TimeOfDateConstraint):
        return None, None
    return _utc_time(constraint.start_time), _utc_time(constraint.end_time)


def _utc_time(at: time) -> time:
    if at.tzinfo is None:
        return at
    return datetime.combine(date(1970, 1, 1), at).astimezone(UTC).time()


def resolve_model(provider: str, raw_name: str) -> ModelMatch | None:
    """Return the model that the library's matcher finds for a raw name, or None.

    `provider` is an id of `canonical_provider`. The match is not exact when only a prefix or a part of
    the name is known (`claude-sonnet-4-5-ultra-max`). Not cached here: the price book bounds what
    clients make it remember.
    """
    listed = _providers().get(provider)
    if listed is None or not raw_name or len(raw_name) > MAX_NAME_LENGTH:
        return None
    model = listed.find_model(raw_name, all_providers=get_snapshot().providers)
    if model is None:
        return None
    owner = _owners()[id(model)]
    return ModelMatch(owner, model.id, _is_exact(model, raw_name.lower()))


@cache
def _owners() -> Mapping[int, str]:
    return {id(model): p.id for p in _providers().values() for model in p.models}


# What may follow a name that a prefix rule knows, and still be this model: a release, a date, a channel.
_RELEASE: Final = re.compile(
    r"(?:[-@:.](?:latest|preview|exp|v\d+(?::\d+)?|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|0\d{2}|\d{4}))*"
)
# What may come before it: a path, a region, a vendor.
_ROUTE: Final = re.compile(
    r"(?:[a-z0-9.:_-]+/)*(?:(?:us|us-gov|eu|apac|jp|au|in|global)\.)?(?:[a-z0-9]+\.)?"
)


def _is_exact(model: library.ModelInfo, name: str) -> bool:
    if name == model.id.lower():
        return True
    return any(_knows_exactly(clause, name) for clause in _clauses(model.match))


def _clauses(match: object) -> Iterator[object]:
    if isinstance(match, library.ClauseOr):
        for clause in match.or_:
            yield from _clauses(clause)
    elif isinstance(match, library.ClauseAnd):
        for clause in match.and_:
            yield from (c for c in _clauses(clause) if not isinstance(c, library.ClauseRegex))
    else:
        yield match


def _knows_exactly(clause: object, name: str) -> bool:
    match clause:
        case library.ClauseEquals(equals=text):
            # The library reads `-20251211` as `-2025-12-11`: a compact date may stand for a listed one.
            return text.lower() in {name, re.sub(r"-(20\d\d)(\d\d)(\d\d)$", r"-\1-\2-\3", name)}
        case library.ClauseRegex(regex=pattern):
            return (
                pattern.startswith("^") and pattern.endswith("$") and bool(re.search(pattern, name))
            )
        case library.ClauseStartsWith(starts_with=text):
            # A fine-tuned model is named by its owner behind the prefix.
            return name.startswith(text.lower()) and (
                text.startswith("ft:") or _is_release(text.lower(), "", name)
            )
        case library.ClauseEndsWith(ends_with=text) | library.ClauseContains(contains=text):
            route, found, _ = name.partition(text.lower())
            return bool(
                found and _ROUTE.fullmatch(route) and _is_release(text.lower(), route, name)
            )
    return False


def _is_release(text: str, route: str, name: str) -> bool:
    # Some rules end within a date (`claude-sonnet-4-2025`) or before one (`claude-sonnet-4@`).
    stem = re.sub(r"[-@](?:20\d\d)?$", "", text)
    return _RELEASE.fullmatch(name, len(route) + len(stem)) is not None
