"""Every moment of a window is covered once, by whole buckets, in every time zone."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from app.api_gateway.covering import WIDTHS, Interval, Level, aligned, cover, slots
from app.kit.time_window import TimeWindow

ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
ZONES = [
    "UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Europe/Berlin",
    "Australia/Lord_Howe", "Pacific/Chatham", "America/St_Johns", "Pacific/Apia", "Africa/Cairo",
]  # fmt: skip

moments = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@st.composite
def windows(draw, longest=timedelta(days=60)):
    start = draw(moments)
    return TimeWindow(start, start + draw(st.timedeltas(timedelta(microseconds=1), longest)))


class TestCover:
    @given(windows())
    def test_joins_whole_buckets_without_gap_or_overlap(self, window):
        window = aligned(window)

        pieces = cover(window)

        assert pieces[0].start == window.start
        assert pieces[-1].end == window.end
        for earlier, later in pairwise(pieces):
            assert earlier.end == later.start
        for piece in pieces:
            assert (piece.start - ORIGIN) % WIDTHS[piece.level] == timedelta(0)
            assert (piece.end - piece.start) % WIDTHS[piece.level] == timedelta(0)

    @given(windows())
    def test_never_takes_a_finer_level_where_a_coarser_bucket_fits(self, window):
        for piece in cover(aligned(window)):
            if piece.level is Level.QUARTER:
                assert piece.end - piece.start < timedelta(hours=2)
            if piece.level is Level.HOUR:
                assert piece.end - piece.start < timedelta(days=2)
            if piece.level is Level.DAY:
                assert piece.end - piece.start < timedelta(days=14)

    def test_takes_one_run_for_whole_weeks(self):
        window = TimeWindow(ORIGIN, ORIGIN + timedelta(days=30))

        assert [piece.level for piece in cover(window)] == [Level.WEEK, Level.DAY]


class TestSlots:
    @given(windows(), st.sampled_from(Interval), st.sampled_from(ZONES))
    @example(
        TimeWindow(datetime(2011, 12, 28, tzinfo=UTC), datetime(2012, 1, 3, tzinfo=UTC)),
        Interval.DAY,
        "Pacific/Apia",
    )
    def test_cut_the_window_at_the_calendar_of_the_zone(self, window, interval, zone_name):
        zone, window = ZoneInfo(zone_name), aligned(window)

        steps = list(slots(window, interval=interval, zone=zone))

        assert steps[0].start == window.start
        assert steps[-1].end == window.end
        for earlier, later in pairwise(steps):
            assert earlier.end == later.start
            local, before = (
                moment.astimezone(zone)
                for moment in (later.start, later.start - WIDTHS[Level.QUARTER])
            )
            assert local.minute == 0
            if interval is Interval.DAY:
                assert local.date() > before.date()
            if interval is Interval.WEEK:
                assert local.isocalendar()[:2] > before.isocalendar()[:2]
            if interval is Interval.MONTH:
                assert (local.year, local.month) > (before.year, before.month)

    def test_a_day_of_the_change_to_summer_time_has_23_hours(self):
        zone = ZoneInfo("Europe/Berlin")
        window = TimeWindow(
            datetime(2026, 3, 27, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)
        )

        lengths = [step.length for step in slots(window, interval=Interval.DAY, zone=zone)]

        assert lengths == [timedelta(hours=24), timedelta(hours=23)]
