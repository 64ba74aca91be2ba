"""One price as it stands in `api_prices`, and which rows hold at a moment.

Rows of one provider and model are one list: the last active entry without context wins, rows with a
context lay their rates over it (api-gateway.md section 5, "Import once").
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

from app.api_gateway.rate_cards import Rate

ANY_MODEL = "*"


class PriceRank(IntEnum):
    """Whose price goes first; within a scope an exact model goes before a pattern."""

    configuration = 0
    project = 1
    organization = 2
    catalogue = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """A price of a model: dates and daily times are UTC, `to` is exclusive, None is unbounded.

    A tenant's row names its organization, and may be limited to a project or a configuration; its
    `model` may hold `*` for any text. `multiplier` instead of rates is a discount on the catalogue
    (0.9 is 10 % off). `is_free` with no rates means known to cost nothing; no rates alone means unknown.
    """

    provider: str
    model: str
    position: int
    source: str
    currency: str = "USD"
    rates: tuple[tuple[str, Rate], ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    is_free: bool = False
    multiplier: Decimal | None = None
    effective_from: date | None = None
    effective_to: date | None = None
    daily_from: time | None = None
    daily_to: time | None = None
    organization_id: UUID | None = None
    project_id: UUID | None = None
    configuration_id: UUID | None = None

    @property
    def rank(self) -> PriceRank:
        """Return whose price this is."""
        if self.configuration_id is not None:
            return PriceRank.configuration
        if self.project_id is not None:
            return PriceRank.project
        return PriceRank.catalogue if self.organization_id is None else PriceRank.organization

    @property
    def card_source(self) -> str:
        """Return the source of this row's cards: without the release, so that equal prices share a card."""
        if self.organization_id is not None:
            return f"organization:{self.organization_id}"
        return self.source.partition("@")[0]


def is_active(row: PriceRow, moment: datetime) -> bool:
    """Return whether the row's dates and daily times hold at an aware moment."""
    moment = moment.astimezone(UTC)
    day = moment.date()
    if row.effective_from is not None and day < row.effective_from:
        return False
    if row.effective_to is not None and day >= row.effective_to:
        return False
    if row.daily_from is None or row.daily_to is None:
        return True
    now = moment.time()
    if row.daily_to < row.daily_from:
        return now >= row.daily_from or now < row.daily_to
    return row.daily_from <= now < row.daily_to


def last_active(rows: Iterable[PriceRow], moment: datetime) -> PriceRow | None:
    """Return the active row without context that comes last by position."""
    active = [row for row in rows if not row.context and is_active(row, moment)]
    return max(active, key=lambda row: row.position, default=None)


def matching_variants(
    rows: Iterable[PriceRow], moment: datetime, context: Mapping[str, str]
) -> list[PriceRow]:
    """Return the active rows whose whole context is met, exactly and case-sensitively, first to last."""
    matching = [
        row
        for row in rows
        if row.context
        and is_active(row, moment)
        and all(context.get(key) == value for key, value in row.context)
    ]
    return sorted(matching, key=lambda row: row.position)


def overlaid(base: Iterable[tuple[str, Rate]], variants: Iterable[PriceRow]) -> dict[str, Rate]:
    """Return the base rates with the variants' laid over them, unit by unit: the first variant wins."""
    over: dict[str, Rate] = {}
    for variant in variants:
        for unit, rate in variant.rates:
            over.setdefault(unit, rate)
    return {**dict(base), **over}


def date_boundaries(rows: Iterable[PriceRow]) -> list[datetime]:
    """Return the midnights (UTC) at which some row begins or ends, ascending."""
    days = {
        day for row in rows for day in (row.effective_from, row.effective_to) if day is not None
    }
    return [datetime.combine(day, time(), UTC) for day in sorted(days)]


def daily_boundaries(rows: Iterable[PriceRow]) -> Sequence[time]:
    """Return the times of day (UTC) at which some row begins or ends, ascending."""
    times = {at for row in rows for at in (row.daily_from, row.daily_to) if at is not None}
    return sorted(times)
