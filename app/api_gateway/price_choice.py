"""Which of the rows that could price a model does price it, at a moment and in a context.

Order (api-gateway.md 3.2): a tenant's price by rank (configuration, project, organization; an exact
model before a pattern, the longer pattern first), then the catalogue with the tenant's discount, if any.
A tenant's price that is not active leaves the choice to the next; the catalogue's first entry stands in
when none of its entries is active.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import Final, NamedTuple, TypeAlias

from app.api_gateway.price_rows import (
    PriceRow,
    daily_boundaries,
    date_boundaries,
    last_active,
    matching_variants,
    overlaid,
)
from app.api_gateway.pricing import PriceNote, PricingReason
from app.api_gateway.rate_cards import RateCard, rate_card

Context: TypeAlias = Mapping[str, str]

# Contexts that mean the standard price, so that a price without a variant for them is no approximation.
# `auto` is the wish of a request and says nothing about the tier that served it.
_STANDARD_CONTEXT: Final[Mapping[str, frozenset[str]]] = {
    "service_tier": frozenset({"default", "standard", "on_demand", "auto"}),
    "processing": frozenset({"standard"}),
    "speed": frozenset({"standard"}),
}


class Choice(NamedTuple):
    """The card of a moment, or that the model is free, or why there is no price."""

    card: RateCard | None = None
    is_free: bool = False
    reason: PricingReason | None = None
    notes: tuple[PriceNote, ...] = ()
    is_by_name: bool = False
    """Whether a tenant's row for the very name that the call gave was chosen."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rows that could price one model of one provider.

    `groups` are a tenant's rows by rank, one model text each; `named` are those model texts that fit the
    name in the call rather than the model that it was found to mean. `is_foreign_list` is set when the
    catalogue's rows are another provider's (OpenAI's for Azure): contexts do not hold there.
    `history_starts` is the first date that the catalogue knows at all.
    """

    groups: tuple[tuple[PriceRow, ...], ...] = ()
    named: frozenset[str] = frozenset()
    catalogue: tuple[PriceRow, ...] = ()
    is_foreign_list: bool = False
    history_starts: date | None = None

    @property
    def rows(self) -> Iterator[PriceRow]:
        """Yield all of them."""
        for group in self.groups:
            yield from group
        yield from self.catalogue

    def dates(self) -> list[datetime]:
        """Return the moments at which the choice may change, ascending."""
        moments = set(date_boundaries(self.rows))
        if self.catalogue and self.history_starts:
            moments.add(datetime.combine(self.history_starts, time(), UTC))
        return sorted(moments)

    def times(self) -> Sequence[time]:
        """Return the times of day (UTC) at which the choice may change, ascending."""
        return daily_boundaries(self.rows)


def candidates(
    tenant_rows: Iterable[PriceRow],
    catalogue_rows: tuple[PriceRow, ...],
    *,
    raw_name: str,
    model: str | None,
    is_foreign_list: bool = False,
    history_starts: date | None = None,
) -> Candidates:
    """Return the rows that fit the name in the call or the model that it means, in order of rank."""
    raw, known = raw_name.lower(), (model or raw_name).lower()
    ranked: dict[tuple[int, int, int, str], list[PriceRow]] = {}
    for row in tenant_rows:
        text = row.model.lower()
        if text in {raw, known}:
            key = (row.rank, 0 if text == raw else 1, 0, text)
        elif fits_pattern(text, raw) or fits_pattern(text, known):
            key = (row.rank, 2, -len(text), text)
        else:
            continue
        ranked.setdefault(key, []).append(row)
    groups = tuple(tuple(ranked[key]) for key in sorted(ranked))
    named = frozenset(key[3] for key in ranked if key[1] != 1)
    return Candidates(groups, named, catalogue_rows, is_foreign_list, history_starts)


def fits_pattern(pattern: str, name: str) -> bool:
    """Return whether the name fits a model text in which each `*` stands for any text, or none.

    In linear time: both texts are strangers', and a regular expression would try every split.
    """
    if "*" not in pattern:
        return pattern == name
    first, *parts, last = pattern.split("*")
    start, end = len(first), len(name) - len(last)
    if start > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in parts:
        found = name.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


def choose(options: Candidates, moment: datetime, context: Context) -> Choice:
    """Return the price that holds; its notes are `undated` and `context_not_priced`."""
    overlays: list[PriceRow] = []
    discount: PriceRow | None = None
    for group in options.groups:
        base = last_active(group, moment)
        overlays += matching_variants(group, moment, context)
        if base is not None and base.multiplier is not None:
            discount = discount or base
        elif base is not None:
            is_by_name = base.model.lower() in options.named
            return _choice(base, overlays, context, ())._replace(is_by_name=is_by_name)
    if not options.catalogue:
        is_known = bool(options.groups)
        return Choice(
            reason=PricingReason.no_active_price if is_known else PricingReason.unknown_model
        )
    base = last_active(options.catalogue, moment)
    notes = () if base and not _predates(options, base, moment) else (PriceNote.undated,)
    if not options.is_foreign_list:
        overlays += matching_variants(options.catalogue, moment, context)
    base = base or min(options.catalogue, key=lambda row: row.position)
    return _choice(base, overlays, context, notes, discount)


def _predates(options: Candidates, base: PriceRow, moment: datetime) -> bool:
    """Return whether an undated entry is asked about a time of which the catalogue knows nothing."""
    return (
        base.effective_from is None
        and options.history_starts is not None
        and moment.astimezone(UTC).date() < options.history_starts
    )


def _choice(
    base: PriceRow,
    overlays: Iterable[PriceRow],
    context: Context,
    notes: tuple[PriceNote, ...],
    discount: PriceRow | None = None,
) -> Choice:
    # Rates of two currencies on one card would be added up; such a variant does not apply.
    applied = [row for row in overlays if row.currency == base.currency]
    rates = overlaid(base.rates, applied)
    if not rates:
        return Choice(is_free=True) if base.is_free else Choice(reason=PricingReason.no_rates)
    if discount is not None and discount.multiplier is not None:
        rates = {unit: rate.scaled(discount.multiplier) for unit, rate in rates.items()}
    tenant_rows = (row for row in (base, discount, *applied) if row and row.organization_id)
    source = next(tenant_rows, base).card_source
    card = rate_card(base.provider, base.model, rates, source=source, currency=base.currency)
    if _leaves_context_unpriced(context, applied):
        notes = (*notes, PriceNote.context_not_priced)
    return Choice(card, notes=notes)


def _leaves_context_unpriced(context: Context, applied: Iterable[PriceRow]) -> bool:
    priced = {key for row in applied for key, _ in row.context}
    return any(
        key not in priced and value not in _STANDARD_CONTEXT.get(key, ())
        for key, value in context.items()
    )


def reachable_cards(rows: Iterable[PriceRow]) -> set[RateCard]:
    """Return every card that these catalogue rows can give, at any time and in any context."""
    by_model: dict[tuple[str, str], list[PriceRow]] = {}
    for row in rows:
        by_model.setdefault((row.provider, row.model), []).append(row)
    return {
        card
        for same_model in by_model.values()
        for card in _cards_of_model(Candidates(catalogue=tuple(same_model)))
    }


def _cards_of_model(options: Candidates) -> Iterator[RateCard]:
    values: dict[str, set[str]] = {}
    for row in options.catalogue:
        for key, value in row.context:
            values.setdefault(key, {""}).add(value)
    contexts = [
        dict(zip(values, combination, strict=True)) for combination in product(*values.values())
    ]
    for moment in _sample_moments(options):
        for context in contexts:
            card = choose(options, moment, context).card
            if card is not None:
                yield card


def _sample_moments(options: Candidates) -> Iterator[datetime]:
    """Yield one moment in each stretch of time in which the choice stays the same."""
    dates = options.dates()
    first = dates[0] - timedelta(days=1) if dates else datetime(2000, 1, 1, tzinfo=UTC)
    for start in (first, *dates):
        for at in (time(), *options.times()):
            yield datetime.combine(start.date(), at, UTC)
