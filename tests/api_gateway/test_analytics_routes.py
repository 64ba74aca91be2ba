"""Analytics through HTTP against the oracle: in any zone, over any range, before and after compaction."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.api_gateway.service.series import keep_api_requests
from app.kit.tenancy import system_session
from tests.api_gateway import oracle
from tests.api_gateway.oracle import Asked, Judged
from tests.factories import people
from tests.factories.api_calls import (
    ACME_LLM,
    API,
    EURO_LLM,
    Call,
    OneDesk,
    ago,
    api_call,
    compact_all,
    logged,
    make_provider,
    mixed_calls,
)
from tests.factories.people import MadeProject, Person

PROVIDERS = (ACME_LLM, EURO_LLM)
MONEY = {"cost", "computed", "share", "cost_change", "cost_change_ratio", "priced_token_share"}
MOMENTS = {"start", "end", "data_as_of"}
DIMENSIONS = ("provider", "model", "operation", "environment", "team", "outcome")
FILTERS = {
    "provider": ("acme-llm", "nobody"),
    "model": ("writer", "thirds", "nothing"),
    "operation": ("chat", "embeddings"),
    "environment": ("prod", "test"),
    "team": ("growth", "core"),
    "outcome": ("success", "error", "timeout", "cancelled"),
}
FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def deltas_of(app: Flask, project: MadeProject) -> int:
    with app.app_context(), system_session() as session:
        return int(
            session.scalar(
                text("SELECT count(*) FROM api_rollup_deltas WHERE project_id = :id"),
                {"id": project.id},
            )
        )


@dataclass(frozen=True)
class Calendar:
    """A stretch of time worth asking about, and the zones whose clocks change in it."""

    now: datetime
    start: datetime
    end: datetime
    zones: tuple[str, ...]
    changes: tuple[datetime, ...] = ()


ZONES = (
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/New_York",
    "Europe/Berlin",
    "Pacific/Apia",
)
CALENDARS = {
    # New York loses an hour on March 8, Berlin on March 29.
    "spring": Calendar(
        now=datetime(2026, 4, 10, 12, tzinfo=UTC),
        start=datetime(2026, 3, 5, tzinfo=UTC),
        end=datetime(2026, 4, 3, tzinfo=UTC),
        zones=ZONES,
        changes=(datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ),
    # Berlin gains an hour on October 25, New York on November 1.
    "autumn": Calendar(
        now=datetime(2026, 11, 10, 12, tzinfo=UTC),
        start=datetime(2026, 10, 20, tzinfo=UTC),
        end=datetime(2026, 11, 6, tzinfo=UTC),
        zones=ZONES,
        changes=(datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ),
    # Samoa skipped 2011-12-30 whole: from 10:00 UTC that day it is the 31st there.
    "date line": Calendar(
        now=datetime(2012, 1, 8, 12, tzinfo=UTC),
        start=datetime(2011, 12, 26, tzinfo=UTC),
        end=datetime(2012, 1, 3, tzinfo=UTC),
        zones=("Pacific/Apia", "UTC", "Asia/Kathmandu"),
        changes=(datetime(2011, 12, 30, 10, tzinfo=UTC),),
    ),
}


@dataclass(frozen=True)
class Scenario:
    """The same calls in three projects: not compacted at all, half of them, all of them."""

    owner: Person
    calendar: Calendar
    # Hundreds: hypothesis would print them with a failure.
    calls: list[Judged] = field(repr=False)
    projects: dict[str, MadeProject] = field(repr=False)

    def cost(self, state: str, asked: Asked) -> dict[str, Any]:
        answer = self.owner.get(
            f"{API}/analytics/cost?project_id={self.projects[state].id}&{asked.query()}"
            f"&currency={asked.currency}&limit=1000"
        )
        assert answer.status_code == 200, answer.text
        return as_numbers(answer.json)

    def latency(self, state: str, asked: Asked) -> dict[str, Any]:
        answer = self.owner.get(
            f"{API}/analytics/latency?project_id={self.projects[state].id}&{asked.query()}&limit=1000"
        )
        assert answer.status_code == 200, answer.text
        return as_numbers(answer.json)


def as_numbers(value: Any, name: str = "") -> Any:
    """Return the answer with money as Decimal and times as moments."""
    if isinstance(value, dict):
        return {key: as_numbers(part, key) for key, part in value.items() if key != "data_as_of"}
    if isinstance(value, list):
        return [as_numbers(part, name) for part in value]
    if value is not None and name in MONEY:
        return Decimal(value)
    return datetime.fromisoformat(value) if value is not None and name in MOMENTS else value


def moments_of(calendar: Calendar, *, count: int) -> list[datetime]:
    """Return moments all over the calendar, crowded around the changes of clocks and midnights."""
    chance = random.Random(5)
    seconds = (calendar.end - calendar.start).total_seconds()
    spread = [
        calendar.start + timedelta(seconds=chance.uniform(0, seconds)) for _ in range(count // 2)
    ]
    crowded = [
        chance.choice(calendar.changes) + timedelta(minutes=chance.uniform(-1800, 1800))
        for _ in range(count // 2)
    ]
    on_the_dot = [
        change + timedelta(minutes=15 * n) for change in calendar.changes for n in range(-4, 5)
    ]
    return [*spread, *crowded, *on_the_dot]


def make_scenario(app: Flask, calendar: Calendar) -> Scenario:
    owner = people.register(app)
    for provider in PROVIDERS:
        make_provider(owner, provider)
    states = ("fresh", "half", "compacted")
    projects = {state: people.make_project(owner, name=state) for state in states}
    keys = {
        state: people.make_key(owner, app=app, kind="ingest", project_id=str(project.id))
        for state, project in projects.items()
    }
    calls = mixed_calls(moments_of(calendar, count=300), seed=11)
    random.Random(3).shuffle(calls)
    with time_machine.travel(calendar.now):
        with app.app_context():
            keep_api_requests(now=calendar.now, config=app.extensions["devguard"])
        logged(keys["compacted"], calls)
        logged(keys["half"], calls[::2])
        compact_all(app)
        logged(keys["half"], calls[1::2], size=7)
        logged(keys["fresh"], calls[::-1], size=50)
    assert deltas_of(app, projects["fresh"]) > deltas_of(app, projects["half"]) > 0
    assert deltas_of(app, projects["compacted"]) == 0
    return Scenario(owner, calendar, oracle.judged(calls, PROVIDERS), projects)


@pytest.fixture(scope="module", params=CALENDARS)
def scenario(request: pytest.FixtureRequest, app: Flask) -> Iterator[Scenario]:
    """One organization of many calls. No test of this file may compact: the states are made once."""
    return make_scenario(app, CALENDARS[request.param])


@st.composite
def questions(draw: st.DrawFn, calendar: Calendar) -> Asked:
    seconds = int((calendar.end - calendar.start).total_seconds())
    zone = draw(st.sampled_from(calendar.zones))
    days = [
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        for day in (
            calendar.start + timedelta(days=n) for n in range((calendar.end - calendar.start).days)
        )
    ]
    moments = st.one_of(
        st.sampled_from(days),
        st.sampled_from(calendar.changes),
        st.integers(0, seconds).map(lambda s: calendar.start + timedelta(seconds=s)),
    )
    start, end = sorted((draw(moments), draw(moments)))
    filters = {
        name: draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))
        for name, values in draw(
            st.lists(st.sampled_from(sorted(FILTERS.items())), max_size=2, unique=True)
        )
    }
    return Asked(
        start=start,
        end=max(end, start + timedelta(microseconds=1)),
        timezone=zone,
        interval=draw(st.sampled_from((None, "hour", "day", "week", "month"))),
        group_by=tuple(draw(st.lists(st.sampled_from(DIMENSIONS), max_size=2, unique=True))),
        filters=filters,
        currency=draw(st.sampled_from(("USD", "USD", "EUR"))),
    )


STATES = ("fresh", "half", "compacted")


class TestShowCost:
    @FEW
    @given(st.data())
    def test_answers_what_the_oracle_answers(self, scenario, data):
        asked = data.draw(questions(scenario.calendar))
        expected = oracle.cost_answer(scenario.calls, asked)

        answers = {state: scenario.cost(state, asked) for state in STATES}

        for state in STATES:
            assert answers[state] == expected, state

    def test_adds_days_up_to_the_range_in_every_zone(self, scenario):
        calendar = scenario.calendar
        for zone in calendar.zones:
            for interval in ("day", "week", "month"):
                asked = Asked(calendar.start, calendar.end, timezone=zone, interval=interval)

                answer = scenario.cost("half", asked)

                assert answer["totals"]["requests"] > 200
                for figure, total in answer["totals"].items():
                    assert sum(step[figure] for step in answer["series"]) == total

    def test_adds_groups_up_to_the_totals(self, scenario):
        calendar = scenario.calendar
        for dimension in DIMENSIONS:
            asked = Asked(calendar.start, calendar.end, group_by=(dimension,))

            answer = scenario.cost("half", asked)

            for figure, total in answer["totals"].items():
                assert sum(group[figure] for group in answer["groups"]) == total

    def test_covers_every_call_once(self, scenario):
        calendar = scenario.calendar
        asked = Asked(calendar.start, calendar.end)

        coverage = scenario.cost("compacted", asked)["coverage"]

        parts = ("priced", "unpriced", "unmetered", "other_currency")
        kinds = ("reported", "computed", "free")
        assert sum(coverage[f"{part}_requests"] for part in parts) == len(scenario.calls)
        assert sum(coverage[f"{kind}_requests"] for kind in kinds) == coverage["priced_requests"]
        assert all(coverage[f"{name}_requests"] > 0 for name in (*parts, *kinds, "approximate"))

    def test_sums_all_projects_when_none_is_named(self, scenario):
        calendar = scenario.calendar
        asked = Asked(calendar.start, calendar.end)

        answer = as_numbers(scenario.owner.get(f"{API}/analytics/cost?{asked.query()}").json)

        of_one = scenario.cost("fresh", asked)["totals"]
        assert answer["totals"] == {figure: 3 * value for figure, value in of_one.items()}

    def test_says_which_groups_the_limit_left_out(self, scenario):
        calendar, project = scenario.calendar, scenario.projects["fresh"]
        asked = Asked(calendar.start, calendar.end, group_by=("model", "outcome"))
        everything = oracle.cost_answer(scenario.calls, asked)["groups"]

        answer = scenario.owner.get(
            f"{API}/analytics/cost?project_id={project.id}&{asked.query()}&limit=3"
        )

        assert as_numbers(answer.json)["groups"] == everything[:3]
        assert answer.json["other_groups"] == len(everything) - 3


class TestDaysOfTheClock(OneDesk):
    @pytest.mark.parametrize(
        ("zone", "day", "hours"),
        [
            ("Europe/Berlin", datetime(2026, 3, 29), 23),
            ("Europe/Berlin", datetime(2026, 10, 25), 25),
            ("America/New_York", datetime(2026, 3, 8), 23),
            ("America/New_York", datetime(2026, 11, 1), 25),
            ("Asia/Kolkata", datetime(2026, 3, 29), 24),
        ],
    )
    def test_have_as_many_hours_as_there(self, alice, zone, day, hours):
        local = ZoneInfo(zone)
        start, end = (
            moment.replace(tzinfo=local).astimezone(UTC)
            for moment in (day, day + timedelta(days=1))
        )

        by_hour = alice.get(
            f"{API}/analytics/cost?{Asked(start, end, timezone=zone, interval='hour').query()}"
        )
        by_day = alice.get(
            f"{API}/analytics/cost?{Asked(start, end, timezone=zone, interval='day').query()}"
        )

        assert end - start == timedelta(hours=hours)
        assert len(by_hour.json["series"]) == hours
        assert [(step["start"], step["end"]) for step in by_day.json["series"]] == [
            (oracle.wire(start), oracle.wire(end))
        ]

    def test_leave_out_the_day_that_samoa_skipped(self, alice):
        asked = Asked(
            datetime(2011, 12, 29, 10, tzinfo=UTC),
            datetime(2011, 12, 31, 10, tzinfo=UTC),
            timezone="Pacific/Apia",
            interval="day",
        )

        answer = as_numbers(alice.get(f"{API}/analytics/cost?{asked.query()}").json)

        zone = ZoneInfo("Pacific/Apia")
        days = [step["start"].astimezone(zone).date().isoformat() for step in answer["series"]]
        assert days == ["2011-12-29", "2011-12-31"]


def assert_close(answered: dict[str, Any], exact: dict[str, Any]) -> None:
    """Percentiles within 2 %, everything else equal (floats but for their last digits)."""
    for name, value in exact.items():
        told = answered[name]
        if isinstance(value, dict):
            assert told["count"] == value["count"], name
            for quantile in oracle.QUANTILES:
                if value[quantile] is None:
                    assert told[quantile] is None, name
                else:
                    within = value[quantile] * 0.02 * (1 + 1e-9)
                    assert abs(told[quantile] - value[quantile]) <= within, (name, quantile)
        elif isinstance(value, float):
            assert math.isclose(told, value, rel_tol=1e-9), name
        else:
            assert told == value, name


class TestShowLatency:
    @FEW
    @given(st.data())
    def test_is_within_two_percent_of_the_exact_percentiles(self, scenario, data):
        asked = data.draw(questions(scenario.calendar))
        calls = oracle.within(scenario.calls, asked)
        start, end = oracle.widened(asked.start, asked.end)
        steps = list(oracle.steps(start, end, asked))

        answers = {state: scenario.latency(state, asked) for state in STATES}

        answer = answers["fresh"]
        assert answers["half"] == answers["compacted"] == answer
        assert_close(answer["totals"], oracle.latency_figures(calls))
        assert [(step["start"], step["end"]) for step in answer["series"]] == steps
        for step, (first, last) in zip(answer["series"], steps, strict=True):
            part = [call for call in calls if first <= call.at < last]
            assert_close(step, oracle.latency_figures(part))
        assert_groups(answer["groups"], calls, asked)

    def test_groups_by_provider_model_and_operation(self, scenario):
        calendar = scenario.calendar
        for dimension in ("provider", "model", "operation"):
            asked = Asked(calendar.start, calendar.end, group_by=(dimension,))

            answer = scenario.latency("half", asked)

            assert_groups(answer["groups"], scenario.calls, asked)
            assert len(answer["groups"]) > 1


def assert_groups(groups: list[dict[str, Any]], calls: list[Judged], asked: Asked) -> None:
    by_keys: dict[tuple[str, ...], list[Judged]] = {}
    for call in calls if asked.group_by else ():
        by_keys.setdefault(tuple(map(call.dimension, asked.group_by)), []).append(call)
    answered = {tuple(group["keys"].values()): group for group in groups}
    assert answered.keys() == by_keys.keys()
    for keys, same in by_keys.items():
        assert_close(answered[keys], oracle.latency_figures(same))


def latency_of(caller: Person, project: MadeProject) -> dict[str, Any]:
    answer = caller.get(f"{API}/analytics/latency?project_id={project.id}")
    assert answer.status_code == 200, answer.text
    totals: dict[str, Any] = answer.json["totals"]
    return totals


class TestLatencyFigures:
    def test_count_first_chunks_of_streams_only(self, alice, project, ingest_key):
        calls = [
            api_call(time_to_first_chunk_ms=100, stream=True),
            api_call(time_to_first_chunk_ms=900, stream=False),
            api_call(time_to_first_chunk_ms=900),
        ]
        logged(ingest_key, calls)

        first_chunks = latency_of(alice, project)["time_to_first_chunk_ms"]

        assert first_chunks["count"] == 1
        assert first_chunks["p99"] == pytest.approx(100, rel=0.02)

    def test_keep_failures_apart(self, alice, project, ingest_key):
        calls = [
            api_call(duration_ms=100),
            api_call(duration_ms=30_000, outcome="timeout"),
            api_call(duration_ms=2_000, outcome="cancelled"),
            api_call(duration_ms=10, outcome="error"),
        ]
        logged(ingest_key, calls)

        totals = latency_of(alice, project)

        assert totals["duration_ms"]["count"] == 1
        assert totals["duration_ms"]["p99"] == pytest.approx(100, rel=0.02)
        assert totals["failed_duration_ms"]["count"] == 3
        assert totals["failed_requests"] == 2
        assert totals["error_rate"] == 0.5

    def test_divide_output_tokens_by_the_seconds_of_the_same_calls(
        self, alice, project, ingest_key
    ):
        calls = [
            api_call(duration_ms=2_000, usage={"output_tokens": 300}),
            api_call(duration_ms=None, usage={"output_tokens": 999}),
            api_call(duration_ms=5_000, usage={"input_tokens": 10, "output_tokens": 0}),
            api_call(duration_ms=0, usage={"output_tokens": 50}),
            api_call(duration_ms=1_000, usage={"output_tokens": 700}, cache_hit=True),
        ]
        logged(ingest_key, calls)

        assert latency_of(alice, project)["output_tokens_per_second"] == 150

    def test_are_unknown_rather_than_zero_without_calls(self, alice, project):
        totals = latency_of(alice, project)

        assert totals["requests"] == 0
        assert totals["error_rate"] is None
        assert totals["mean_duration_ms"] is None
        assert totals["output_tokens_per_second"] is None
        assert totals["duration_ms"] == dict.fromkeys(("p50", "p90", "p95", "p99")) | {"count": 0}

    def test_reach_from_a_microsecond_to_a_day(self, alice, project, ingest_key):
        for duration_ms in (0.001, 86_400_000):
            logged(
                ingest_key, [api_call(duration_ms=duration_ms, operation=f"op{duration_ms:.0f}")]
            )

        answer = alice.get(
            f"{API}/analytics/latency?project_id={project.id}&group_by=operation"
        ).json

        found = sorted(group["duration_ms"]["p50"] for group in answer["groups"])
        assert found == pytest.approx([0.001, 86_400_000], rel=0.02)


class TestQuestionsThatAreRefused(OneDesk):
    @pytest.mark.parametrize("path", ["cost", "latency"])
    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("timezone=Mars/Olympus", "/timezone"),
            ("timezone=../../etc/passwd", "/timezone"),
            ("timezone=%00", "/timezone"),
            ("interval=year", "/interval"),
            ("interval=hour&from=2026-01-01T00:00:00Z&to=2026-06-01T00:00:00Z", "/interval"),
            ("group_by=customer", "/group_by"),
            ("group_by=model&group_by=team&group_by=provider", "/group_by"),
            ("from=2026-11-20T10:00:00Z&to=2026-11-20T10:00:00Z", "/from"),
            ("from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "/from"),
            ("to=0001-01-01T00:00:00Z", "/from"),
            ("from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59Z", "/from"),
            ("from=yesterday", "/from"),
            ("from=2026-11-20T10:00:00", "/from"),
            ("limit=0", "/limit"),
            ("limit=1001", "/limit"),
            ("outcome=fine", "/outcome"),
            ("model=a%00b", "/model"),
            ("project_id=1", "/project_id"),
            ("colour=red", "/colour"),
            ("from_=2026-11-20T10:00:00Z", "/from_"),
        ],
    )
    def test_are_refused_by_name(self, alice, path, query, pointer):
        answer = alice.get(f"{API}/analytics/{path}?{query}")

        assert answer.status_code == 422
        assert answer.content_type == "application/problem+json"
        assert {"/" + fault["pointer"].split("/")[1] for fault in answer.json["errors"]} == {
            pointer
        }

    def test_name_the_currency(self, alice):
        answer = alice.get(f"{API}/analytics/cost?currency=usd")

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/currency"


class TestWhoMayAsk:
    @pytest.mark.parametrize("path", ["cost", "latency"])
    def test_shows_a_viewer_the_sums(self, bob, project, path):
        answer = bob.get(f"{API}/analytics/{path}?project_id={project.id}")

        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["cost", "latency"])
    def test_refuses_an_ingest_key_by_the_scope_it_lacks(self, ingest_key, path):
        answer = ingest_key.get(f"{API}/analytics/{path}")

        assert answer.status_code == 403
        assert "analytics:read" in answer.json["detail"]

    @pytest.mark.parametrize("path", ["cost", "latency"])
    def test_hides_the_project_of_another_organization(self, stranger, project, path):
        answer = stranger.get(f"{API}/analytics/{path}?project_id={project.id}")

        assert answer.status_code == 404

    def test_sums_nothing_of_another_organization(self, stranger, ingest_key):
        logged(ingest_key, [api_call()])

        totals = stranger.get(f"{API}/analytics/cost").json["totals"]

        assert totals["requests"] == 0


class TestMoney:
    def test_is_exact_for_a_real_price(self, alice, project, ingest_key):
        # gpt-4o: 2.50 a million in, 1.25 from the cache, 10 out.
        calls: list[Call] = [
            api_call(
                id=f"exact-{n}",
                usage={
                    "input_tokens": 1000 + n,
                    "cache_read_input_tokens": n,
                    "output_tokens": 3 * n,
                },
            )
            for n in range(200)
        ]
        expected = sum(
            (Decimal("2.5") * 1000 + Decimal("1.25") * n + Decimal(10) * 3 * n) / 1_000_000
            for n in range(200)
        )
        logged(ingest_key, calls)

        totals = alice.get(f"{API}/analytics/cost?project_id={project.id}").json["totals"]

        assert Decimal(totals["cost"]) == Decimal(totals["computed"]) == expected

    def test_keeps_its_twelve_places_beside_millions(self, alice, project, ingest_key):
        amounts = ["99999999.999999999999", "0.000000000001", "99999999"]
        logged(ingest_key, [api_call(cost={"amount": amount}) for amount in amounts])

        totals = alice.get(f"{API}/analytics/cost?project_id={project.id}").json["totals"]

        assert totals["cost"] == "199999999"

    def test_tells_a_change_of_any_size(self, alice, project, ingest_key):
        logged(ingest_key, [api_call(cost={"amount": "99999999"}) for _ in range(500)])
        logged(ingest_key, [api_call(cost={"amount": "0.000000000001"}, started_at=ago(days=31))])

        answer = alice.get(f"{API}/analytics/cost?project_id={project.id}")

        previous = answer.json["previous"]
        assert previous["cost"] == "0.000000000001"
        assert Decimal(previous["cost_change_ratio"]) == 49_999_999_500 * 10**12 - 1
