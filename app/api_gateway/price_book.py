"""The price book: which rate card prices a call, answered from memory within a microsecond.

A `PriceBook` is built from rows and never changes; what it found once it keeps, within bounds, because
the names come from clients. The book of the catalogue is shared by all; a tenant's book lays own rows,
aliases and providers over it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from app.api_gateway.card_costs import CompiledCard, compile_card
from app.api_gateway.catalogue import ModelMatch
from app.api_gateway.price_choice import Candidates, Choice, Context, candidates, choose
from app.api_gateway.price_rows import PriceRow
from app.api_gateway.pricing import PriceNote, PricingReason, Resolution
from app.api_gateway.rate_cards import RateCard

ModelResolver: TypeAlias = Callable[[str, str], ModelMatch | None]
ModelAliases: TypeAlias = Mapping[tuple[str, str], ModelMatch]
"""(provider id, lower-case raw name) to the model that it means."""

# Of the catalogue's book, which serves everybody; a tenant's own book keeps less. A quarter more may
# be names without any price: those of typing errors and of attacks, which cannot crowd out the others.
MAX_PLANS: Final = 16_384
MAX_TENANT_PLANS: Final = 1_024
MAX_SCOPES: Final = 64
MAX_NAME_LENGTH: Final = 256

_EVER: Final = datetime.min.replace(tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)

_Key: TypeAlias = tuple[str, str | None, str | None, tuple[tuple[str, str], ...] | None]


@dataclass(frozen=True, slots=True)
class PriceSources:
    """What all books of a process share: the catalogue, and who is meant by a name. See `price_sources`."""

    catalogue: Mapping[tuple[str, str], tuple[PriceRow, ...]]
    history_starts: date | None
    provider_names: Mapping[str, str]
    resolve_model: ModelResolver
    aliases: ModelAliases
    cards: dict[RateCard, CompiledCard] = field(default_factory=dict, compare=False)


def price_sources(
    rows: Iterable[PriceRow],
    *,
    provider_names: Mapping[str, str],
    resolve_model: ModelResolver,
    aliases: ModelAliases | None = None,
) -> PriceSources:
    """Return the sources of the catalogue's book.

    `provider_names` maps every accepted lower-case provider name to its id, `resolve_model` finds the
    model that a raw name means, `aliases` go before it. A provider matches by its whole name only.
    """
    by_model: dict[tuple[str, str], list[PriceRow]] = {}
    for row in rows:
        by_model.setdefault((row.provider, row.model), []).append(row)
    dates = (row.effective_from for same in by_model.values() for row in same)
    return PriceSources(
        catalogue={key: tuple(same) for key, same in by_model.items()},
        history_starts=min((day for day in dates if day is not None), default=None),
        provider_names=provider_names,
        resolve_model=resolve_model,
        aliases=aliases or {},
    )


class PriceBook:
    """Finds the price of a call; `with_tenant` gives a tenant's book, `scoped` a project's."""

    def __init__(
        self,
        sources: PriceSources,
        tenant_rows: Iterable[PriceRow] = (),
        *,
        max_plans: int = MAX_PLANS,
    ) -> None:
        self._sources = sources
        self._max_plans = max_plans
        self._tenant_rows: dict[str, list[PriceRow]] = {}
        for row in tenant_rows:
            self._tenant_rows.setdefault(row.provider, []).append(row)
        self._own_cards: dict[RateCard, CompiledCard] = {}
        self._plans: dict[_Key, _Plan] = {}
        self._unknown: dict[_Key, _Plan] = {}
        self._scopes: dict[tuple[UUID | None, UUID | None], PriceBook] = {}

    def with_tenant(
        self,
        rows: Iterable[PriceRow],
        *,
        own_providers: Iterable[str] = (),
        aliases: ModelAliases | None = None,
    ) -> "PriceBook":
        """Return a book with one organization's prices, providers and aliases over this one's."""
        # A built-in's name stays the built-in's, whatever a tenant calls an own provider.
        own = {name.lower(): name for name in own_providers}
        sources = replace(
            self._sources,
            provider_names={**own, **self._sources.provider_names},
            aliases={**self._sources.aliases, **(aliases or {})},
        )
        return PriceBook(sources, rows, max_plans=MAX_TENANT_PLANS)

    def scoped(self, project_id: UUID | None, configuration_id: UUID | None = None) -> "PriceBook":
        """Return the book as a project's (and configuration's) calls see it; this one if it is the same."""
        rows = [row for same in self._tenant_rows.values() for row in same]
        if not any(row.project_id or row.configuration_id for row in rows):
            return self
        key = (project_id, configuration_id)
        book = self._scopes.get(key)
        if book is None:
            visible = (
                row
                for row in rows
                if row.project_id in {None, project_id}
                and row.configuration_id in {None, configuration_id}
            )
            book = PriceBook(self._sources, visible, max_plans=self._max_plans)
            _keep(self._scopes, key, book, MAX_SCOPES)
        return book

    def resolve(
        self,
        provider: str,
        request_model: str | None,
        response_model: str | None,
        started_at: datetime,
        context: Context | None = None,
    ) -> Resolution:
        """Return what prices a call: the card of its moment (aware), or why there is none.

        The model that answered counts before the one that was asked for. `context` is the served tier
        and the like; what of it has no price is noted. Rules: api-gateway.md 3.2 and 5.
        """
        key = (provider, request_model, response_model, tuple(context.items()) if context else None)
        plan = self._plans.get(key) or self._unknown.get(key)
        if plan is None:
            plan = self._plan(key)
        starts, ends, resolution = plan.latest
        if starts <= started_at < ends:
            return resolution
        return plan.at(started_at)

    def _plan(self, key: _Key) -> "_Plan":
        raw_provider, request_model, response_model, context = key
        names = [name for name in (response_model, request_model) if name]
        provider = self._sources.provider_names.get(raw_provider.strip().lower())
        if provider is None:
            resolution = Resolution(
                provider=raw_provider.strip().lower(),
                model=names[0] if names else None,
                reason=PricingReason.unknown_provider,
            )
            plan = _Plan(Candidates(), lambda _: resolution)
        else:
            plan = self._plan_of_provider(provider, names, dict(context or ()))
        cache = self._plans if plan.is_known else self._unknown
        limit = self._max_plans if plan.is_known else self._max_plans // 4
        if (
            len(raw_provider) + sum(map(len, names)) <= 3 * MAX_NAME_LENGTH
            and len(context or ()) <= 16
        ):
            _keep(cache, key, plan, limit)
        return plan

    def _plan_of_provider(self, provider: str, names: list[str], context: Context) -> "_Plan":
        raw_name, match = self._match(provider, names)
        catalogue = self._sources.catalogue.get((match.provider, match.model), ()) if match else ()
        options = candidates(
            self._tenant_rows.get(provider, ()),
            catalogue,
            raw_name=raw_name,
            model=match.model if match else None,
            is_foreign_list=match is not None and match.provider != provider,
            history_starts=self._sources.history_starts,
        )

        def resolution_at(moment: datetime) -> Resolution:
            choice = choose(options, moment, context)
            return self._resolution(choice, provider, raw_name, match)

        return _Plan(options, resolution_at)

    def _match(self, provider: str, names: list[str]) -> tuple[str, ModelMatch | None]:
        """Return the name that says which model it was, and the model; the first name if none does."""
        own_models = {row.model.lower(): row.model for row in self._tenant_rows.get(provider, ())}
        for name in names:
            match = self._sources.aliases.get(
                (provider, name.lower())
            ) or self._sources.resolve_model(provider, name)
            if match is None and name.lower() in own_models:
                match = ModelMatch(provider, own_models[name.lower()], is_exact=True)
            if match is not None:
                return name, match
        return (names[0] if names else ""), None

    def _resolution(
        self, choice: Choice, provider: str, raw_name: str, match: ModelMatch | None
    ) -> Resolution:
        is_approximate = match is not None and not match.is_exact and not choice.is_by_name
        inexact = (PriceNote.inexact_name,) if is_approximate and choice.reason is None else ()
        return Resolution(
            provider=provider,
            model=match.model if match else raw_name or None,
            compiled=self._compiled(choice.card) if choice.card else None,
            reason=choice.reason,
            is_free=choice.is_free,
            notes=(*choice.notes, *inexact),
            price_list=match.provider if match else None,
        )

    def _compiled(self, card: RateCard) -> CompiledCard:
        # A tenant's card dies with the tenant's book; the catalogue's are few and serve everybody.
        cards = self._own_cards if card.source.startswith("organization:") else self._sources.cards
        compiled = cards.get(card)
        if compiled is None:
            compiled = cards[card] = compile_card(card)
        return compiled


class _Plan:
    """The answers for one (provider, models, context), one for each stretch of time."""

    __slots__ = ("_answers", "_dates", "_resolution_at", "_times", "is_known", "latest")

    def __init__(
        self, options: Candidates, resolution_at: Callable[[datetime], Resolution]
    ) -> None:
        self._dates = options.dates()
        self._times = options.times()
        self._resolution_at = resolution_at
        self._answers: dict[tuple[int, int], Resolution] = {}
        self.is_known = bool(options.groups or options.catalogue)
        self.latest = (_NEVER, _EVER, resolution_at(_EVER))
        """(from, to, answer) of the stretch asked for last: batches come in order of time."""

    def at(self, moment: datetime) -> Resolution:
        """Return the answer of an aware moment."""
        moment = moment.astimezone(UTC)
        stretch = bisect_right(self._dates, moment)
        slot = bisect_right(self._times, moment.time())
        resolution = self._answers.get((stretch, slot))
        if resolution is None:
            resolution = self._answers[stretch, slot] = self._resolution_at(moment)
        starts = self._dates[stretch - 1] if stretch else _EVER
        ends = self._dates[stretch] if stretch < len(self._dates) else _NEVER
        if self._times:
            since = self._times[slot - 1] if slot else time.min
            until = self._times[slot] if slot < len(self._times) else time.max
            starts = max(starts, datetime.combine(moment.date(), since, UTC))
            ends = min(ends, datetime.combine(moment.date(), until, UTC))
        self.latest = (starts, ends, resolution)
        return resolution


_T = TypeVar("_T")
_K = TypeVar("_K")


def _keep(cache: dict[_K, _T], key: _K, value: _T, limit: int) -> None:
    """Store the value; a full cache first drops its older half, so that it never outgrows `limit`."""
    if len(cache) >= limit:
        for old in list(cache)[: limit // 2]:
            cache.pop(old, None)
    cache[key] = value
