"""How a range of time is covered by whole rollup buckets: weeks where they fit, then days, hours, quarters.

Rollup weeks (from Monday), days and hours are UTC. A local day of any zone is a sum of quarters of an hour, because every
offset in use is a multiple of 15 minutes; most of it is covered by hours or days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from app.kit.time_window import QUARTER_HOUR, TimeWindow, start_of_day

ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)


class Level(StrEnum):
    """A rollup table, named by the width of its buckets."""

    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"
    WEEK = "7d"


WIDTHS = {
    Level.QUARTER: QUARTER_HOUR,
    Level.HOUR: timedelta(hours=1),
    Level.DAY: timedelta(days=1),
    Level.WEEK: timedelta(days=7),
}
COARSER = {Level.QUARTER: Level.HOUR, Level.HOUR: Level.DAY, Level.DAY: Level.WEEK}


class Interval(StrEnum):
    """The step of a series, by the calendar of the zone that is asked for."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole buckets of one level."""

    level: Level
    start: datetime
    end: datetime


def aligned(window: TimeWindow) -> TimeWindow:
    """Return the window widened to whole quarters of an hour."""
    start = _floor(window.start, QUARTER_HOUR)
    return TimeWindow(start, _ceiling(window.end, QUARTER_HOUR))


def cover(window: TimeWindow) -> list[Piece]:
    """Return the fewest runs of whole buckets that make up an aligned window, each moment once."""
    return list(_cover(window.start, window.end, Level.QUARTER))


def slots(window: TimeWindow, *, interval: Interval, zone: ZoneInfo) -> Iterator[TimeWindow]:
    """Yield the steps of a series; the first and the last are cut at the window's ends."""
    start = window.start
    while start < window.end:
        end = min(_next_step(start, interval=interval, zone=zone), window.end)
        yield TimeWindow(start, end)
        start = end


def _cover(start: datetime, end: datetime, level: Level) -> Iterator[Piece]:
    coarser = COARSER.get(level)
    if coarser is None:
        if start < end:
            yield Piece(level, start, end)
        return
    inner_start, inner_end = _ceiling(start, WIDTHS[coarser]), _floor(end, WIDTHS[coarser])
    if inner_start >= inner_end:
        if start < end:
            yield Piece(level, start, end)
        return
    if start < inner_start:
        yield Piece(level, start, inner_start)
    yield from _cover(inner_start, inner_end, coarser)
    if inner_end < end:
        yield Piece(level, inner_end, end)


def _next_step(start: datetime, *, interval: Interval, zone: ZoneInfo) -> datetime:
    if interval is Interval.HOUR:
        return _next_local_hour(start, zone)
    day = start.astimezone(zone).date()
    if interval is Interval.DAY:
        following = day + timedelta(days=1)
    elif interval is Interval.WEEK:
        following = day + timedelta(days=7 - day.weekday())
    else:
        following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    moment = start_of_day(following, zone)
    # A day that the zone skipped has no length; the step goes on to the next one.
    while moment <= start:
        following += timedelta(days=1)
        moment = start_of_day(following, zone)
    return moment


def _next_local_hour(start: datetime, zone: ZoneInfo) -> datetime:
    # Step by step: where the offset changes by half an hour, an hour of the wall clock is shorter.
    moment = start + QUARTER_HOUR
    while moment.astimezone(zone).minute:
        moment += QUARTER_HOUR
    return moment


def _floor(moment: datetime, width: timedelta) -> datetime:
    return ORIGIN + (moment - ORIGIN) // width * width


def _ceiling(moment: datetime, width: timedelta) -> datetime:
    return ORIGIN - (ORIGIN - moment) // width * width
