"""Ranges of time and the calendars of all zones, with their gaps, folds and half hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.kit.errors import InvalidPayload
from app.kit.time_window import QUARTER_HOUR, TimeWindow, start_of_day, zone_named

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
ZONES = st.sampled_from(sorted(available_timezones()))
DAYS = st.dates(date(1970, 1, 2), date(2100, 12, 31))
MOMENT = timedelta(microseconds=1)


def local_date(moment: datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date()


class TestStartOfDay:
    # Midnight skipped, midnight twice, a day skipped whole, an hour lost before midnight.
    @example("America/Sao_Paulo", date(2018, 11, 4))
    @example("Asia/Beirut", date(2021, 3, 28))
    @example("America/Havana", date(2026, 11, 1))
    @example("America/St_Johns", date(2006, 10, 29))
    @example("America/St_Johns", date(2006, 4, 2))
    @example("Pacific/Apia", date(2011, 12, 30))
    @example("Pacific/Apia", date(2011, 12, 31))
    @example("Pacific/Kwajalein", date(1993, 8, 21))
    @example("Africa/Monrovia", date(1972, 1, 7))
    @example("Asia/Kathmandu", date(1986, 1, 1))
    @example("Australia/Lord_Howe", date(2026, 4, 5))
    @example("Antarctica/Troll", date(2026, 3, 29))
    @given(ZONES, DAYS)
    def test_is_the_first_moment_of_the_local_day(self, zone, day):
        start = start_of_day(day, ZoneInfo(zone))

        assert start.tzinfo is UTC
        assert local_date(start, zone) >= day
        assert local_date(start - MOMENT, zone) < day

    @given(ZONES, DAYS)
    def test_leaves_no_moment_out_and_counts_none_twice(self, zone, day):
        start = start_of_day(day, ZoneInfo(zone))
        end = start_of_day(day + timedelta(days=1), ZoneInfo(zone))

        assert timedelta(0) <= end - start <= timedelta(hours=48)

    @given(ZONES, st.dates(date(2000, 1, 1), date(2100, 12, 31)))
    def test_lies_on_a_quarter_hour_so_that_days_are_sums_of_buckets(self, zone, day):
        assert start_of_day(day, ZoneInfo(zone)).timestamp() % QUARTER_HOUR.total_seconds() == 0

    @pytest.mark.parametrize(
        ("zone", "day", "hours"),
        [
            ("Europe/Berlin", date(2026, 3, 29), 23),
            ("Europe/Berlin", date(2026, 10, 25), 25),
            ("America/Sao_Paulo", date(2018, 11, 4), 23),
            ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
            ("Asia/Kolkata", date(2026, 3, 29), 24),
            ("Pacific/Apia", date(2011, 12, 30), 0),
        ],
    )
    def test_makes_days_as_long_as_they_were(self, zone, day, hours):
        length = start_of_day(day + timedelta(days=1), ZoneInfo(zone)) - start_of_day(
            day, ZoneInfo(zone)
        )

        assert length == timedelta(hours=hours)

    def test_of_a_half_hour_zone(self):
        assert start_of_day(date(2026, 11, 20), ZoneInfo("Asia/Kolkata")) == datetime(
            2026, 11, 19, 18, 30, tzinfo=UTC
        )

    @pytest.mark.parametrize(
        ("zone", "day"),
        [("Asia/Tokyo", date.min), ("UTC", date.min)],
    )
    def test_refuses_the_day_that_the_calendar_cannot_hold(self, zone, day):
        with pytest.raises(InvalidPayload):
            start_of_day(day, ZoneInfo(zone))


class TestZoneNamed:
    def test_knows_the_iana_names(self):
        assert zone_named("Asia/Kolkata").key == "Asia/Kolkata"

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "Mars/Olympus",
            "../../etc/passwd",
            "/etc/localtime",
            "europe/berlin",
            "+01:00",
            "a\x00b",
        ],
    )
    def test_refuses_everything_else(self, name):
        with pytest.raises(InvalidPayload) as caught:
            zone_named(name)

        assert [fault.pointer for fault in caught.value.faults] == ["/timezone"]


class TestTimeWindow:
    def test_of_the_last_days_ends_now(self):
        window = TimeWindow.last(days=7, now=NOW)

        assert (window.start, window.end) == (NOW - timedelta(days=7), NOW)
        assert window.length == timedelta(days=7)

    @given(st.integers(1, 1000))
    def test_follows_its_previous_one(self, days):
        window = TimeWindow.last(days=days, now=NOW)

        assert window.previous().end == window.start
        assert window.previous().length == window.length

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (NOW, NOW),
            (NOW, NOW - MOMENT),
            (NOW.replace(tzinfo=None), NOW),
            (NOW, NOW.replace(tzinfo=None) + MOMENT),
        ],
    )
    def test_refuses_what_is_no_range(self, start, end):
        with pytest.raises(ValueError, match="a window"):
            TimeWindow(start, end)
