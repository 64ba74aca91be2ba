"""What an import has done so far, as numbers; kept between runs as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from app.api_gateway import picos
from app.api_gateway.logged_calls import LoggedCall, moment_of

REASONS_KEPT = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not stored, and every rule that it breaks."""

    line: int
    reasons: tuple[tuple[str, str, str], ...]
    """(field, code, words) of each rule."""

    def in_words(self) -> str:
        """Return the refusal as one line for a person."""
        reasons = (f"{name}: {words}" if name else words for name, _, words in self.reasons)
        return f"line {self.line}: {'; '.join(reasons)}"


@dataclass(frozen=True, slots=True)
class PricedCalls:
    """The new calls of one pricing status and reason in one currency."""

    status: str
    reason: str
    currency: str
    calls: int
    cost_picos: int

    @property
    def cost_text(self) -> str:
        """Return the sum of the costs as plain decimal text."""
        return picos.as_text(self.cost_picos)


@dataclass(frozen=True, slots=True)
class Tally:
    """The rows of an import by what became of them; `pricing` is of the created ones."""

    rows: int = 0
    created: int = 0
    duplicate: int = 0
    refused: int = 0
    first_us: int | None = None
    last_us: int | None = None
    refused_codes: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    pricing: tuple[PricedCalls, ...] = ()

    @property
    def first_started_at(self) -> datetime | None:
        return None if self.first_us is None else moment_of(self.first_us)

    @property
    def last_started_at(self) -> datetime | None:
        return None if self.last_us is None else moment_of(self.last_us)

    def plus(self, other: Tally) -> Tally:
        """Return the tally of both; only the first refusals keep their words."""
        return Tally(
            rows=self.rows + other.rows,
            created=self.created + other.created,
            duplicate=self.duplicate + other.duplicate,
            refused=self.refused + other.refused,
            first_us=min(_known(self.first_us, other.first_us), default=None),
            last_us=max(_known(self.last_us, other.last_us), default=None),
            refused_codes=dict(Counter(self.refused_codes) + Counter(other.refused_codes)),
            refusals=(*self.refusals, *other.refusals)[:REASONS_KEPT],
            pricing=_summed((*self.pricing, *other.pricing)),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Tally:
        """Return what as_json() wrote. Raises TypeError, KeyError or ValueError for anything else."""
        refusals = tuple(
            Refusal(one["line"], tuple((name, code, words) for name, code, words in one["reasons"]))
            for one in kept["refusals"]
        )
        pricing = tuple(PricedCalls(**one) for one in kept["pricing"])
        return replace(cls(**kept), refusals=refusals, pricing=pricing)


def tally_of(
    *, created: Iterable[LoggedCall], duplicates: Iterable[LoggedCall], refusals: Iterable[Refusal]
) -> Tally:
    """Return the tally of one batch."""
    created, duplicates, refused = list(created), list(duplicates), sorted(refusals, key=_line_of)
    times = [call.started_us for call in (*created, *duplicates)]
    codes = Counter(code for one in refused for code in {code for _, code, _ in one.reasons})
    return Tally(
        rows=len(created) + len(duplicates) + len(refused),
        created=len(created),
        duplicate=len(duplicates),
        refused=len(refused),
        first_us=min(times, default=None),
        last_us=max(times, default=None),
        refused_codes=dict(codes),
        refusals=tuple(refused[:REASONS_KEPT]),
        pricing=_pricing_of(created),
    )


def _pricing_of(calls: Iterable[LoggedCall]) -> tuple[PricedCalls, ...]:
    sums: dict[tuple[str, str, str], list[int]] = {}
    for call in calls:
        status, cost, _, reason = call.priced
        total = sums.setdefault((status, reason or "", call.cell.currency), [0, 0])
        total[0] += 1
        total[1] += cost or 0
    return _sorted(sums)


def _summed(parts: Iterable[PricedCalls]) -> tuple[PricedCalls, ...]:
    sums: dict[tuple[str, str, str], list[int]] = {}
    for part in parts:
        total = sums.setdefault((part.status, part.reason, part.currency), [0, 0])
        total[0] += part.calls
        total[1] += part.cost_picos
    return _sorted(sums)


def _sorted(sums: Mapping[tuple[str, str, str], list[int]]) -> tuple[PricedCalls, ...]:
    return tuple(
        PricedCalls(str(status), reason, currency, calls, cost_picos)
        for (status, reason, currency), (calls, cost_picos) in sorted(sums.items())
    )


def _known(*moments: int | None) -> list[int]:
    return [moment for moment in moments if moment is not None]


def _line_of(refusal: Refusal) -> int:
    return refusal.line
