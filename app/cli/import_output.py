"""What `flask api-requests import` shows: how far it is, and what came of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Self

import click

from app.api_gateway.service.import_tally import PricedCalls, Refusal, Tally
from app.api_gateway.service.imports import ImportOrder, ImportProgress, ImportSummary
from app.kit.payload import rfc3339_text

SECONDS_BETWEEN_LINES = 5.0
UNKNOWN_COST = frozenset({"unpriced", "unmetered"})


class ProgressLine:
    """Shows on stderr how far the import is: a bar on a terminal, else a line now and then."""

    def __init__(self, *, is_dry_run: bool) -> None:
        self._deed = "Reading" if is_dry_run else "Importing"
        self._open = ExitStack()
        self._bar: Any = None
        self._began = self._spoke = time.monotonic()
        self._offset = self._start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def show(self, progress: ImportProgress) -> None:
        """Show how far it is; the first time says where it began."""
        if self._bar is None:
            self._start = self._offset = progress.offset
            self._began = self._spoke = time.monotonic()
            self._bar = self._begun(progress)
        rate = progress.rows / max(time.monotonic() - self._began, 1e-6)
        self._bar.update(progress.offset - self._offset, f"{progress.rows:,} calls, {rate:,.0f}/s")
        self._offset = progress.offset
        if not sys.stderr.isatty():
            self._say(progress, rate)

    def _begun(self, progress: ImportProgress) -> Any:
        if progress.resumed_at_line is not None:
            click.echo(f"Going on at line {progress.resumed_at_line:,}.", err=True)
        bar: Any = click.progressbar(
            length=max(progress.size - progress.offset, 1),
            label=self._deed,
            item_show_func=lambda text: text,
            show_eta=True,
            file=sys.stderr,
            hidden=not sys.stderr.isatty(),
        )
        return self._open.enter_context(bar)

    def _say(self, progress: ImportProgress, rate: float) -> None:
        now = time.monotonic()
        if now - self._spoke < SECONDS_BETWEEN_LINES:
            return
        self._spoke = now
        done = max(progress.offset - self._start, 1)
        left_s = (now - self._began) * (progress.size - progress.offset) / done
        click.echo(
            f"{self._deed}: {progress.offset / progress.size:.0%}, {progress.rows:,} calls, "
            f"{rate:,.0f}/s, {left_s:,.0f} s left",
            err=True,
        )


def summary_in_words(
    order: ImportOrder, organization: str, summary: ImportSummary, elapsed_s: float
) -> str:
    """Return the summary for a person, several lines."""
    tally = summary.tally
    lines = [f"{order.path.name} -> {order.project_name} ({organization})"]
    if order.is_dry_run:
        lines.append(f"  valid      {tally.created:>12,}  (dry run: nothing was written)")
    else:
        lines.append(f"  created    {tally.created:>12,}")
        lines.append(f"  duplicate  {tally.duplicate:>12,}")
    lines += _refused_in_words(tally, is_moved=order.moves_to_now)
    for priced in tally.pricing:
        lines.append(f"  {priced.status:<10} {priced.calls:>12,}  {_cost_in_words(priced)}")
    if tally.first_started_at and tally.last_started_at:
        lines.append(f"  from       {rfc3339_text(tally.first_started_at)}")
        lines.append(f"  to         {rfc3339_text(tally.last_started_at)}")
    if summary.shift:
        lines.append(f"  moved by   {summary.shift}")
    lines.append(f"  took       {elapsed_s:.1f} s, {_rate(summary, elapsed_s):,.0f} calls/s")
    return "\n".join(lines)


def summary_as_json(
    order: ImportOrder, organization: str, summary: ImportSummary, elapsed_s: float
) -> str:
    """Return the summary for a program: one JSON object on one line."""
    tally = summary.tally
    shown = {
        "file": order.path.name,
        "sha256": summary.sha256,
        "organization": organization,
        "organization_id": str(order.organization_id),
        "project_id": str(order.project_id),
        "dry_run": order.is_dry_run,
        "rows": tally.rows,
        **_counts(tally, is_dry_run=order.is_dry_run),
        "refused_codes": dict(tally.refused_codes),
        "refusals": [_refusal_as_json(refusal) for refusal in tally.refusals],
        "pricing": [_priced_as_json(priced) for priced in tally.pricing],
        "first_started_at": _moment(tally.first_started_at),
        "last_started_at": _moment(tally.last_started_at),
        "shift_s": summary.shift.total_seconds(),
        "resumed_at_line": summary.resumed_at_line,
        "elapsed_s": round(elapsed_s, 3),
        "calls_per_s": round(_rate(summary, elapsed_s)),
    }
    return json.dumps(shown, ensure_ascii=False)


def _refused_in_words(tally: Tally, *, is_moved: bool) -> Iterator[str]:
    yield f"  refused    {tally.refused:>12,}"
    for refusal in tally.refusals:
        yield f"    {refusal.in_words()}"
    if tally.refused > len(tally.refusals):
        yield f"    and {tally.refused - len(tally.refusals):,} more"
    if tally.refused_codes.get("too_old") and not is_moved:
        yield "    (calls this old are not kept; --shift-to-now moves the whole file)"


def _cost_in_words(priced: PricedCalls) -> str:
    if priced.status in UNKNOWN_COST:
        return priced.reason
    return f"{priced.cost_text} {priced.currency}"


def _counts(tally: Tally, *, is_dry_run: bool) -> dict[str, int]:
    if is_dry_run:
        return {"valid": tally.created, "refused": tally.refused}
    return {"created": tally.created, "duplicate": tally.duplicate, "refused": tally.refused}


def _refusal_as_json(refusal: Refusal) -> dict[str, Any]:
    errors = [
        {"field": name, "code": code, "detail": words} for name, code, words in refusal.reasons
    ]
    return {"line": refusal.line, "errors": errors}


def _priced_as_json(priced: PricedCalls) -> dict[str, Any]:
    return {
        "status": priced.status,
        "reason": priced.reason or None,
        "calls": priced.calls,
        "cost": None if priced.status in UNKNOWN_COST else priced.cost_text,
        "currency": priced.currency,
    }


def _rate(summary: ImportSummary, elapsed_s: float) -> float:
    return summary.rows_of_this_run / max(elapsed_s, 1e-6)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339_text(moment)
