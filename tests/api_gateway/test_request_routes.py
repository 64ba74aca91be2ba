"""Logged calls are listed page by page, filtered, and shown with the breakdown of their cost."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.factories import people
from tests.factories.api_calls import (
    ACME_LLM,
    API,
    OneDesk,
    ago,
    all_pages,
    api_call,
    logged,
    make_desk,
    make_provider,
    send,
    wire,
)
from tests.factories.people import Caller

PROBLEM = "application/problem+json"


def ids_of(caller, project, query="") -> list[str]:
    return [call["id"] for call in all_pages(caller, f"project_id={project.id}&limit=100&{query}")]


def page_of(caller, project, query="") -> Any:
    answer = caller.get(f"{API}/requests?project_id={project.id}&{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


@pytest.fixture
def calls(alice, ingest_key):
    """The twelve calls of `twelve_calls`, logged."""
    return twelve_calls(alice, ingest_key)


def twelve_calls(owner: Caller, key: Caller) -> list[dict[str, Any]]:
    """Log twelve calls of the last hour, newest last, that differ in everything a filter knows."""
    make_provider(owner, ACME_LLM)
    fields: list[dict[str, Any]] = [
        {},
        {"provider": "azure", "request_model": "gpt-4o"},
        {"request_model": "gpt-4o-mini", "operation": "embeddings"},
        {"provider": "nobody", "request_model": "nothing"},
        {"outcome": "error", "status_code": 500, "usage": None},
        {"outcome": "timeout", "status_code": 504, "usage": None},
        {"attribution": {"environment": "prod", "team": "growth", "user_id": "u1"}},
        {"attribution": {"environment": "test", "team": "core", "customer_id": "c9"}},
        {"cache_hit": True, "duration_ms": 3, "source": "checkout-svc"},
        {"cost": {"amount": "12.5"}, "duration_ms": 9_000, "status_code": 200},
        {"provider": "acme-llm", "request_model": "per-call", "usage": None, "duration_ms": None},
        {"outcome": "cancelled", "attribution": {"user_id": "u1", "customer_id": "c9"}},
    ]
    made = [
        {
            name: value
            for name, value in api_call(
                id=f"c{number}", started_at=ago(minutes=50 - number), **change
            ).items()
            if value is not None
        }
        for number, change in enumerate(fields)
    ]
    logged(key, made)
    return made


class TestFilters(OneDesk):
    @pytest.fixture(scope="class")
    @classmethod
    def twelve(cls, desk):
        return twelve_calls(desk.owner, desk.key)

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            ("", range(12)),
            ("provider=azure", [1]),
            ("provider=azure&provider=nobody", [1, 3]),
            ("provider=nobody&model=nothing", [3]),
            ("provider=azure&model=nothing", []),
            ("model=gpt-4o-mini", [2]),
            ("operation=embeddings", [2]),
            ("operation=embeddings&operation=chat", range(12)),
            ("status_code=500", [4]),
            ("status_code=500&status_code=504", [4, 5]),
            ("outcome=error&outcome=timeout", [4, 5]),
            ("outcome=cancelled", [11]),
            ("environment=prod", [6]),
            ("environment=prod&environment=test", [6, 7]),
            ("team=core", [7]),
            ("user_id=u1", [6, 11]),
            ("customer_id=c9", [7, 11]),
            ("customer_id=c9&user_id=u1", [11]),
            ("source=checkout-svc", [8]),
            ("pricing_status=reported", [9]),
            ("pricing_status=free", [4, 8]),
            ("pricing_status=unmetered&pricing_status=unpriced", [3, 5]),
            ("cost[gte]=12.5", [9]),
            ("cost[gte]=12.500000000001", []),
            ("cost[lte]=0", [4, 8]),
            ("cost[gte]=0.004&cost[lte]=0.004", [10]),
            ("cost[gte]=0.000000000001&cost[lte]=0.004", [2, 10]),
            ("duration_ms[lte]=3", [8]),
            ("duration_ms[gte]=8999.999", [9]),
            ("duration_ms[gte]=3.001&duration_ms[lte]=812", [0, 1, 2, 3, 4, 5, 6, 7, 11]),
            ("provider=' OR 1=1 --", []),
        ],
    )
    def test_choose_calls(self, alice, project, twelve, query, numbers):
        found = ids_of(alice, project, quote(query, safe="=&[]"))

        assert found == [f"c{number}" for number in reversed(numbers)]


class TestListRequests:
    def test_takes_a_half_open_range_of_time(self, alice, project, calls):
        start, end = quote(calls[3]["started_at"]), quote(calls[6]["started_at"])

        assert ids_of(alice, project, f"from={start}&to={end}") == ["c5", "c4", "c3"]

    def test_lists_the_last_seven_days_unless_told(self, alice, project, ingest_key):
        logged(ingest_key, [api_call(id=f"d{d}", started_at=ago(days=d)) for d in (1, 6, 8, 40)])

        assert ids_of(alice, project) == ["d1", "d6"]
        assert ids_of(alice, project, f"from={ago(days=30)}") == ["d1", "d6", "d8"]
        assert ids_of(alice, project, f"to={ago(days=7)}") == ["d8"]

    def test_sorts_either_way(self, alice, project, calls):
        assert ids_of(alice, project, "sort=started_at") == [call["id"] for call in calls]

    @pytest.mark.parametrize("sort", ["started_at", "-started_at"])
    def test_walks_the_whole_list_once_in_order(self, alice, project, ingest_key, sort):
        moments = [ago(minutes=m) for m in (30, 20, 20, 20, 20, 10)]
        names = [f"{n % 7}~{n}:{'x' * (n % 3)}" for n in range(60)]
        calls = [api_call(id=name, started_at=moments[n % 6]) for n, name in enumerate(names)]
        random.Random(1).shuffle(calls)
        logged(ingest_key, calls)

        walked = all_pages(alice, f"project_id={project.id}&limit=7&sort={sort}")

        keys = [(call["started_at"], call["id"]) for call in walked]
        assert len(keys) == 60
        assert keys == sorted(keys, reverse=sort.startswith("-"))

    def test_walks_on_while_new_calls_arrive(self, alice, project, ingest_key):
        moment = ago(minutes=20)
        logged(ingest_key, [api_call(id=f"b{n:02}", started_at=moment) for n in range(20)])
        seen, cursor, arrived = [], "", 0

        while cursor is not None:
            page = page_of(alice, project, f"limit=3{cursor}")
            seen += [call["id"] for call in page["items"]]
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
            # One before the walk's place, one behind it, each page.
            new = [
                api_call(id=f"b99-{arrived}", started_at=moment),
                api_call(id=f"a{arrived}", started_at=ago(minutes=40)),
            ]
            logged(ingest_key, new if arrived < 5 else [])
            arrived += 1

        old = [name for name in seen if name.startswith("b")]
        assert old == [f"b{n:02}" for n in reversed(range(20))]
        assert len(seen) == len(set(seen))

    def test_links_the_next_page(self, alice, project, calls):
        first = alice.get(f"{API}/requests?project_id={project.id}&limit=5&provider=openai")
        link = first.headers["Link"]

        target, _, relation = link.partition(">; ")
        following = alice.get(target.removeprefix("<"))

        assert relation == 'rel="next"'
        names = [call["id"] for page in (first, following) for call in page.json["items"]]
        assert names == ids_of(alice, project, "provider=openai")[:10]

    def test_ends_without_a_cursor(self, alice, project, calls):
        exact = page_of(alice, project, "limit=12")
        empty = page_of(alice, project, "provider=no-such")

        assert exact["next_cursor"] is None
        assert empty == {"items": [], "next_cursor": None}

    def test_shows_twenty_unless_told(self, alice, project, ingest_key):
        logged(ingest_key, [api_call() for _ in range(21)])

        assert len(page_of(alice, project)["items"]) == 20

    def test_shows_nothing_of_other_projects(self, app, alice, make_project, project, calls):
        other = make_project(name="Other")
        key = people.make_key(alice, app=app, kind="ingest", project_id=str(other.id))
        logged(key, [api_call(id="elsewhere")])

        assert "elsewhere" not in ids_of(alice, project)
        assert ids_of(alice, other) == ["elsewhere"]


class TestCursors:
    @pytest.fixture
    def cursor(self, alice, project, calls) -> str:
        cursor: str = page_of(alice, project, "limit=5")["next_cursor"]
        return cursor

    def test_are_refused_when_tampered_with(self, alice, project, cursor):
        raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        for place in (0, 15, 16, len(raw) - 1):
            changed = bytearray(raw)
            changed[place] ^= 1

            text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
            answer = alice.get(f"{API}/requests?project_id={project.id}&cursor={text}")

            assert answer.status_code == 422
            assert answer.json["errors"][0]["pointer"] == "/cursor"

    @pytest.mark.parametrize("text", ["x", "AAAA", "%F0%9F%92%A9", "a" * 2001, "%00", "[]"])
    def test_are_refused_when_made_up(self, alice, project, text):
        answer = alice.get(f"{API}/requests?project_id={project.id}&cursor={text}")

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/cursor"

    @pytest.mark.parametrize(
        "query", ["provider=openai", "sort=started_at", "from=2026-01-01T00:00:00Z"]
    )
    def test_hold_for_their_filters_only(self, alice, project, cursor, query):
        answer = alice.get(f"{API}/requests?project_id={project.id}&cursor={cursor}&{query}")

        assert answer.status_code == 422

    def test_hold_for_any_page_size(self, alice, project, cursor):
        page = page_of(alice, project, f"limit=2&cursor={cursor}")

        assert [call["id"] for call in page["items"]] == ["c6", "c5"]

    def test_hold_for_their_project_only(self, alice, make_project, cursor):
        other = make_project(name="Other")

        answer = alice.get(f"{API}/requests?project_id={other.id}&cursor={cursor}")

        assert answer.status_code == 422

    def test_hold_for_their_organization_only(self, stranger, make_project, cursor):
        own = make_project(owner=stranger, name="Own")

        answer = stranger.get(f"{API}/requests?project_id={own.id}&cursor={cursor}")

        assert answer.status_code == 422


class TestRefusesArguments(OneDesk):
    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("status_code=99999999", "/status_code"),
            ("status_code=-1", "/status_code"),
            ("status_code=1e3", "/status_code"),
            ("cost[gte]=-1", "/cost[gte]"),
            ("cost[gte]=NaN", "/cost[gte]"),
            ("cost[gte]=1e999999", "/cost[gte]"),
            ("cost[lte]=1e-999999", "/cost[lte]"),
            ("cost[lte]=Infinity", "/cost[lte]"),
            ("cost=1", "/cost"),
            ("cost_gte=1", "/cost_gte"),
            ("duration_ms[gte]=1e300", "/duration_ms[gte]"),
            ("duration_ms[lte]=nan", "/duration_ms[lte]"),
            ("duration_ms[lte]=-1", "/duration_ms[lte]"),
            ("outcome=fine", "/outcome"),
            ("pricing_status=cheap", "/pricing_status"),
            ("provider=", "/provider"),
            ("provider=a%00b", "/provider"),
            ("team=" + "x" * 201, "/team"),
            ("to=0001-01-01T00:00:00Z", "/to"),
            ("from=9999-12-31T23:59:59.999999Z", "/to"),
            ("from=2026-11-20T10:00:00Z&to=2026-11-20T10:00:00Z", "/to"),
            ("from=2026-11-20", "/from"),
            ("from=0001-01-01T00:00:00%2B10:00", "/from"),
            ("limit=0", "/limit"),
            ("limit=101", "/limit"),
            ("limit=ten", "/limit"),
            ("sort=cost", "/sort"),
            ("colour=red", "/colour"),
        ],
    )
    def test_by_name(self, alice, project, query, pointer):
        answer = alice.get(f"{API}/requests?project_id={project.id}&{query}")

        assert answer.status_code == 422, answer.text
        assert answer.content_type == PROBLEM
        assert {"/" + fault["pointer"].split("/")[1] for fault in answer.json["errors"]} == {
            pointer
        }

    @pytest.mark.parametrize("query", ["project_id=1", ""])
    def test_without_a_project(self, alice, query):
        answer = alice.get(f"{API}/requests?{query}")

        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "/project_id"

    def test_takes_times_at_the_ends_of_the_calendar(self, alice, project, ingest_key):
        logged(ingest_key, [api_call(id="between")])

        query = "from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59.999999Z"

        assert ids_of(alice, project, query) == ["between"]


class TestShowRequest(OneDesk):
    @pytest.fixture(scope="class")
    @classmethod
    def desk(cls, app):
        desk = make_desk(app)
        make_provider(desk.owner, ACME_LLM)
        return desk

    @pytest.mark.parametrize(
        ("fields", "units"),
        [
            ({}, {"input_tokens", "cache_read_input_tokens", "output_tokens"}),
            (
                {"provider": "acme-llm", "request_model": "writer"},
                {"input_tokens", "cache_read_input_tokens", "output_tokens"},
            ),
            (
                {
                    "provider": "acme-llm",
                    "request_model": "writer",
                    "usage": {"input_tokens": 200_001, "output_tokens": 1000},
                },
                {"input_tokens", "output_tokens"},
            ),
            (
                {
                    "provider": "acme-llm",
                    "request_model": "thirds",
                    "usage": {"input_tokens": 1, "output_tokens": 1},
                },
                {"input_tokens", "output_tokens"},
            ),
            (
                {"provider": "acme-llm", "request_model": "reader", "usage": {"pages": 101}},
                {"requests", "pages"},
            ),
            ({"provider": "acme-llm", "request_model": "per-call", "usage": None}, {"requests"}),
            (
                {"provider": "anthropic", "request_model": "claude-sonnet-4-5",
                 "usage": {"input_tokens": 1110, "cache_read_input_tokens": 1000,
                           "cache_write_input_tokens": 100, "output_tokens": 7}},
                {"input_tokens", "cache_read_input_tokens", "cache_write_input_tokens",
                 "output_tokens"},
            ),
            ({"cost": {"amount": "9"}}, {"input_tokens", "cache_read_input_tokens", "output_tokens"}),
        ],
    )  # fmt: skip
    def test_breaks_the_cost_down_exactly(self, alice, ingest_key, fields, units):
        call = {name: v for name, v in {**api_call(), **fields}.items() if v is not None}
        location = send(ingest_key, call).headers["Location"]

        shown = alice.get(location).json

        parts = [
            Fraction(Decimal(part["quantity"])) * Fraction(Decimal(part["rate"])) / part["per"]
            for part in shown["breakdown"]
        ]
        assert {part["unit"] for part in shown["breakdown"]} == units
        assert round(sum(parts), 12) == Fraction(Decimal(shown["cost"]["computed"]))
        for part, exact in zip(shown["breakdown"], parts, strict=True):
            assert abs(Fraction(Decimal(part["amount"])) - exact) <= Fraction(1, 10**18)
        assert shown["rate_card_id"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"provider": "nobody"},
            {"usage": None},
            {"cache_hit": True},
            {"provider": "acme-llm", "request_model": "gift"},
        ],
    )
    def test_has_nothing_to_break_down_without_a_price(self, alice, ingest_key, fields):
        call = {name: v for name, v in {**api_call(), **fields}.items() if v is not None}

        shown = alice.get(send(ingest_key, call).headers["Location"]).json

        assert sum(Decimal(part["amount"]) for part in shown["breakdown"]) == Decimal(
            shown["cost"]["computed"] or 0
        )

    @pytest.mark.parametrize("name", ["~", ":", "a:b~c.d-e_f", "...", "-", "%", "trace:0af7:b7ad"])
    def test_finds_ids_with_special_characters(self, alice, project, ingest_key, name):
        answer = send(ingest_key, api_call(id=name))
        if name == "%":
            assert answer.status_code == 422
            return

        by_location = alice.get(answer.headers["Location"])
        by_id = alice.get(f"{API}/requests/{quote(name, safe='')}?project_id={project.id}")
        unquoted = alice.get(f"{API}/requests/{name}")

        assert by_location.json["id"] == by_id.json["id"] == unquoted.json["id"] == name

    def test_shows_the_newest_of_an_id_unless_told(self, alice, ingest_key):
        older, newer = wire(datetime.now(UTC) - timedelta(hours=9)), ago(hours=1)
        logged(ingest_key, [api_call(id="twice", started_at=m) for m in (older, newer)])

        newest = alice.get(f"{API}/requests/twice").json
        exact = alice.get(f"{API}/requests/twice?started_at={quote(older)}").json

        assert newest["started_at"] == newer
        assert exact["started_at"] == older

    def test_finds_a_moment_to_the_microsecond(self, alice, ingest_key):
        moment = datetime.now(UTC).replace(microsecond=123_456) - timedelta(hours=3)
        near = moment + timedelta(microseconds=1)
        logged(ingest_key, [api_call(id="near", started_at=wire(m)) for m in (moment, near)])

        found = [
            alice.get(f"{API}/requests/near?started_at={quote(wire(m))}").json["started_at"]
            for m in (moment, near)
        ]

        assert found == [wire(moment), wire(near)]

    def test_finds_the_oldest_that_is_kept(self, app, alice, ingest_key):
        days = app.extensions["devguard"].retention_days
        location = send(ingest_key, api_call(started_at=ago(days=days, minutes=-1))).headers[
            "Location"
        ]

        assert alice.get(location).status_code == 200

    @pytest.mark.parametrize(
        "path",
        [
            "nope",
            "%00",
            "a%00b",
            "%ff",
            "..%2f..%2fetc",
            "x" * 5000,
            "a%0Ab",
            "kept?started_at=9999-12-31T23:59:59.999999Z",
            "kept?started_at=0001-01-01T00:00:00Z",
            f"kept?project_id={uuid4()}",
        ],
    )
    def test_finds_nothing_else(self, alice, ingest_key, path):
        send(ingest_key, api_call(id="kept"))

        answer = alice.get(f"{API}/requests/{path}")

        assert answer.status_code == 404
        assert answer.content_type == PROBLEM

    @pytest.mark.parametrize(
        "query", ["started_at=x", "started_at=2026-11-20", "colour=red", "project_id=x"]
    )
    def test_refuses_other_arguments(self, alice, query):
        answer = alice.get(f"{API}/requests/any?{query}")

        assert answer.status_code == 422

    def test_hides_the_call_of_another_organization(self, stranger, ingest_key):
        location = send(ingest_key, api_call(id="hidden")).headers["Location"]

        with_project = stranger.get(location)
        without = stranger.get(f"{API}/requests/hidden")
        nothing = stranger.get(f"{API}/requests/no-such")

        assert [answer.status_code for answer in (with_project, without, nothing)] == [404] * 3
        assert without.json["detail"] == nothing.json["detail"]

    def test_shows_a_viewer_what_there_is(self, bob, ingest_key):
        location = send(ingest_key, api_call()).headers["Location"]

        assert bob.get(location).status_code == 200
