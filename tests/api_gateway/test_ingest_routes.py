"""Calls come in through HTTP: what is stored, what is told of each item, and what is refused by name."""

from __future__ import annotations

import gzip
import json
import random
import threading
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from app.auth.key_cache import KEYS
from app.kit.tenancy import system_session
from tests.factories import people
from tests.factories.api_calls import (
    ACME_LLM,
    API,
    EURO_LLM,
    NDJSON,
    OneDesk,
    ago,
    all_pages,
    api_call,
    compact_all,
    logged,
    make_desk,
    make_provider,
    send,
    send_batch,
    send_gzip,
    send_lines,
    wire,
)

PROBLEM = "application/problem+json"
MEGABYTE = 1_048_576


@pytest.fixture
def stored(app, project):
    """The rows that this test added to the project, as the database has them, past the API."""

    def all_rows():
        with app.app_context(), system_session() as session:
            found = session.execute(
                text(
                    "SELECT * FROM measurements.api_requests WHERE project_id = :id "
                    "ORDER BY started_at, id"
                ),
                {"id": project.id},
            )
            return [dict(row) for row in found.mappings()]

    before = {(row["started_at"], row["id"]) for row in all_rows()}
    return lambda: [row for row in all_rows() if (row["started_at"], row["id"]) not in before]


def totals_of(caller, project) -> dict[str, Any]:
    totals: dict[str, Any] = caller.get(f"{API}/analytics/cost?project_id={project.id}").json[
        "totals"
    ]
    return totals


def assert_refused(answer, *, status: int = 422) -> None:
    """A refusal is a problem that names what is wrong and shows nothing of the inside."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == PROBLEM
    problem = answer.json
    assert problem["status"] == status
    assert problem["code"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    assert "psycopg" not in answer.text


class TestLogOneCall:
    def test_answers_201_with_its_cost_and_where_it_is(self, alice, ingest_key):
        call = api_call(id="one~call:1")

        answer = send(ingest_key, call)

        assert answer.status_code == 201
        assert answer.json == {
            "index": 0,
            "id": "one~call:1",
            "status": "created",
            "cost": {
                "amount": "0.005615",
                "currency": "USD",
                "source": "computed",
                "computed": "0.005615",
            },
            "pricing_status": "computed",
        }
        shown = alice.get(answer.headers["Location"])
        assert shown.status_code == 200
        assert shown.json["id"] == "one~call:1"
        assert shown.json["started_at"] == call["started_at"]

    def test_leads_to_the_call_of_its_own_project(self, app, alice, make_project):
        call = api_call()
        answers = {}
        for name in ("left", "right"):
            project = make_project(name=name)
            key = people.make_key(alice, app=app, kind="ingest", project_id=str(project.id))
            answers[str(project.id)] = send(key, {**call, "source": name})

        shown = {
            project_id: alice.get(answer.headers["Location"]).json
            for project_id, answer in answers.items()
        }

        assert {project_id: call["project_id"] for project_id, call in shown.items()} == {
            project_id: project_id for project_id in answers
        }

    def test_answers_200_for_a_duplicate_and_409_for_other_values(self, ingest_key, stored):
        call = api_call()
        send(ingest_key, call)

        again = send(ingest_key, call)
        other = send(ingest_key, {**call, "duration_ms": 813})

        assert again.status_code == 200
        assert again.json == {"index": 0, "id": call["id"], "status": "duplicate"}
        assert_refused(other, status=409)
        assert other.json["code"] == "payload_differs"
        assert [row["duration_us"] for row in stored()] == [812_000]

    def test_takes_a_user_token_that_names_the_project(self, carol, project, stored):
        answer = send(carol, api_call(), query=f"?project_id={project.id}")

        assert answer.status_code == 201
        assert len(stored()) == 1

    def test_keeps_every_field_as_it_was_said(self, alice, ingest_key):
        call = api_call(
            duration_ms=812.345,
            time_to_first_chunk_ms=340.001,
            source="checkout-svc",
            operation="chat",
            request_model="gpt-4o",
            response_model="gpt-4o-2024-08-06",
            response_id="chatcmpl-1",
            endpoint="/v1/chat/completions",
            status_code=200,
            outcome="success",
            error_type="none \\ of \\N it \\t",
            stream=True,
            operation_id="op-7",
            attempt=2,
            trace_id="0af7651916cd43dd8448eb211c80319c",
            span_id="b7ad6b7169203331",
            usage={"input_tokens": 10, "output_tokens": 2, "web_searches": 1, "gb_hours": 1.25},
            usage_source="estimated",
            pricing_context={"service_tier": "default"},
            attribution={
                "team": "gröwth 🚀",
                "user_id": "u\\1",
                "customer_id": "c9",
                "api_key_id": "k3",
            },
            tags={"feature": 'se"ar\\ch', "empty": ""},
        )

        shown = alice.get(send(ingest_key, call).headers["Location"]).json

        for name in call.keys() - {"attribution", "usage"}:
            assert shown[name] == call[name], name
        assert shown["attribution"] == call["attribution"]
        assert shown["usage"] == {**call["usage"], "gb_hours": "1.25"}

    def test_keeps_a_count_in_quotes_digit_by_digit(self, alice, ingest_key):
        usage = {"gb_hours": "123456789012.123456789012"}

        shown = alice.get(send(ingest_key, api_call(usage=usage)).headers["Location"]).json

        assert shown["usage"] == usage

    @pytest.mark.parametrize(
        "ways", [("single", "batch"), ("single", "lines"), ("batch", "gzip")], ids="-".join
    )
    def test_is_the_same_row_whichever_way_it_came(self, app, alice, make_project, as_system, ways):
        sends = {
            "single": send,
            "batch": lambda key, call: send_batch(key, [call, api_call()]),
            "lines": lambda key, call: send_lines(key, [call, api_call()]),
            "gzip": send_gzip,
        }
        call = api_call(
            id="the-same",
            source="a\\b",
            stream=True,
            time_to_first_chunk_ms=12.5,
            usage={"input_tokens": 7, "output_tokens": 1, "requests": 1, "web_searches": 0},
            attribution={"team": "core", "environment": "prod"},
            tags={"b": "2", "a": "1"},
            cost={"amount": "0.5", "currency": "USD"},
        )
        rows = []

        for way in ways:
            project = make_project(name=way)
            key = people.make_key(alice, app=app, kind="ingest", project_id=str(project.id))
            assert sends[way](key, call).status_code == 201
            rows += as_system(
                "SELECT to_jsonb(r) - '{project_id,ingested_at,group_id}'::text[] "
                "FROM measurements.api_requests AS r "
                "WHERE project_id = :project_id AND id = 'the-same'",
                project_id=project.id,
            )

        assert len(rows) == 2
        assert rows[0] == rows[1]


class TestLogABatch:
    def test_tells_of_problems_and_duplicates_only(self, ingest_key, stored):
        known, other, fine = api_call(id="known"), api_call(id="other"), api_call(id="fine")
        logged(ingest_key, [known, other])

        answer = send_batch(
            ingest_key,
            [
                fine,
                known,
                {**other, "duration_ms": 1},
                api_call(id="bad", usage={"input_tokens": 86, "cache_read_input_tokens": 1920}),
                {"id": "worse"},
                api_call(id="free", usage={"input_tokens": 1}, cache_hit=True),
            ],
        )

        assert answer.status_code == 201
        assert answer.json == {
            "accepted": 2,
            "duplicates": 1,
            "rejected": 3,
            "pricing": {"reported": 0, "computed": 1, "free": 1, "unmetered": 0, "unpriced": 0},
            "results": [
                {"index": 1, "id": "known", "status": "duplicate"},
                {
                    "index": 2,
                    "id": "other",
                    "status": "conflict",
                    "errors": [
                        {
                            "pointer": "/requests/2",
                            "code": "payload_differs",
                            "detail": "stored with other values",
                        }
                    ],
                },
                {
                    "index": 3,
                    "id": "bad",
                    "status": "invalid",
                    "errors": [
                        {
                            "pointer": "/requests/3/usage/cache_read_input_tokens",
                            "code": "subset_exceeds_total",
                            "detail": "1920 of 86 input tokens",
                        }
                    ],
                },
                {
                    "index": 4,
                    "id": "worse",
                    "status": "invalid",
                    "errors": [
                        {
                            "pointer": f"/requests/4/{name}",
                            "code": "missing",
                            "detail": "Field required",
                        }
                        for name in ("started_at", "provider")
                    ],
                },
            ],
        }
        assert {row["id"] for row in stored()} == {"known", "other", "fine", "free"}

    def test_tells_of_every_item_on_demand(self, ingest_key):
        calls = [
            api_call(id="a"),
            {"id": "b"},
            api_call(id="c", provider="nobody"),
            api_call(id="a"),
        ]
        calls[3] = calls[0]

        answer = send_batch(ingest_key, calls, query="?results=all")

        assert [(r["index"], r["id"], r["status"]) for r in answer.json["results"]] == [
            (0, "a", "created"),
            (1, "b", "invalid"),
            (2, "c", "created"),
            (3, "a", "duplicate"),
        ]
        assert answer.json["results"][0]["cost"] == {
            "amount": "0.005615",
            "currency": "USD",
            "source": "computed",
            "computed": "0.005615",
        }
        assert answer.json["results"][2]["cost"] == {"currency": "USD", "source": "none"}
        assert answer.json["results"][2]["pricing_reason"] == "unknown_provider"

    def test_answers_200_when_all_were_there(self, ingest_key):
        calls = [api_call() for _ in range(3)]
        logged(ingest_key, calls)

        answer = send_batch(ingest_key, [*calls, {"id": "bad"}])

        assert answer.status_code == 200
        assert (answer.json["accepted"], answer.json["duplicates"]) == (0, 3)
        assert answer.json["rejected"] == 1

    def test_answers_422_when_nothing_was_valid(self, ingest_key, stored):
        known = api_call()
        logged(ingest_key, [known])

        answer = send_batch(ingest_key, [{"id": "bad"}, {**known, "duration_ms": 5}, 7])

        assert_refused(answer)
        assert {fault["pointer"] for fault in answer.json["errors"]} == {
            "/requests/0/started_at",
            "/requests/0/provider",
            "/requests/1",
            "/requests/2",
        }
        assert len(stored()) == 1

    def test_keeps_the_good_ones_whatever_stands_beside_them(self, ingest_key, stored):
        good = [api_call(id=f"good-{n}") for n in range(4)]
        bad: list[Any] = [
            None, 5, "text", [], {}, {"id": 5}, api_call(id="x y"), api_call(usage={"input_tokens": -1}),
            api_call(started_at="soon"), api_call(colour="red"), [[[[]]]], api_call(tags={"a": 1}),
        ]  # fmt: skip
        mixed = [item for n, item in enumerate(bad) for item in (item, *good[n : n + 1])]

        answer = send_batch(ingest_key, mixed)

        assert answer.json["accepted"] == len(good)
        assert answer.json["rejected"] == len(bad)
        assert [row["id"] for row in stored()] == [call["id"] for call in good]

    def test_takes_five_thousand(self, ingest_key, alice, project):
        calls = [api_call(id=f"n{n}", usage={"output_tokens": 1}) for n in range(5000)]

        answer = send_batch(ingest_key, calls)

        assert answer.json["accepted"] == 5000
        assert totals_of(alice, project)["output_tokens"] == 5000

    @pytest.mark.parametrize("sender", [send_batch, send_lines])
    def test_refuses_five_thousand_and_one(self, ingest_key, stored, sender):
        calls = [api_call(id=f"n{n}") for n in range(5001)]

        answer = sender(ingest_key, calls)

        assert_refused(answer)
        assert "5000" in answer.json["errors"][0]["detail"]
        assert stored() == []

    def test_reads_lines_with_blank_ones_and_carriage_returns(self, ingest_key, stored):
        lines = [json.dumps(api_call(id=f"line-{n}")) for n in range(3)]

        answer = send(
            ingest_key,
            ("\r\n\r\n" + "\r\n \r\n".join(lines) + "\r\n").encode(),
            content_type=NDJSON,
        )

        assert answer.status_code == 201
        assert answer.json["accepted"] == 3
        assert len(stored()) == 3

    def test_counts_lines_that_hold_something_when_it_names_one(self, ingest_key):
        body = b"\n".join(
            [json.dumps(api_call()).encode(), b"", b"{not json", json.dumps(api_call()).encode()]
        )

        answer = send(ingest_key, body, content_type=NDJSON)

        assert answer.json["accepted"] == 2
        assert [(r["index"], r["errors"][0]["code"]) for r in answer.json["results"]] == [
            (1, "json_invalid")
        ]

    def test_takes_gzip(self, ingest_key, stored):
        answer = send_gzip(ingest_key, {"requests": [api_call() for _ in range(20)]})

        assert answer.status_code == 201
        assert len(stored()) == 20


class TestCountsOnce:
    def test_when_it_comes_twice(self, alice, project, ingest_key):
        calls = [api_call() for _ in range(20)]
        send_batch(ingest_key, calls)
        before = totals_of(alice, project)

        for call in calls[:3]:
            send(ingest_key, call)
        again = send_batch(ingest_key, calls[::-1])

        assert again.json["duplicates"] == 20
        assert totals_of(alice, project) == before

    def test_within_a_batch_the_first_wins(self, ingest_key, stored):
        call = api_call()

        answer = send_batch(
            ingest_key, [call, call, {**call, "source": "other"}, {**call, "id": "another"}]
        )

        assert answer.json["accepted"] == 2
        assert [(r["index"], r["status"]) for r in answer.json["results"]] == [
            (1, "duplicate"),
            (2, "conflict"),
        ]
        assert [row["source"] for row in stored()] == [None, None]

    def test_in_two_notations_of_one_moment(self, ingest_key, stored):
        moment = datetime.now(UTC).replace(microsecond=123_456) - timedelta(hours=2)
        text_of = [
            wire(moment),
            moment.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00"),
            (moment + timedelta(hours=5, minutes=45)).strftime("%Y-%m-%dT%H:%M:%S.%f+05:45"),
            (moment - timedelta(hours=9, minutes=30)).strftime("%Y-%m-%d %H:%M:%S.%f-09:30"),
            moment.strftime("%Y-%m-%dt%H:%M:%S.%fz"),
        ]
        call = api_call(id="notations")

        answers = [send(ingest_key, {**call, "started_at": moment}) for moment in text_of]

        assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200]
        assert [row["started_at"] for row in stored()] == [moment]

    def test_when_more_than_six_decimals_are_cut(self, ingest_key, stored):
        moment = datetime.now(UTC).replace(microsecond=999_999) - timedelta(hours=2)
        call = api_call(id="decimals")

        answers = [
            send(
                ingest_key,
                {**call, "started_at": moment.strftime("%Y-%m-%dT%H:%M:%S.999999") + rest},
            )
            for rest in ("Z", "9Z", "999Z", "999+00:00", "5z")
        ]

        assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200]
        assert [row["started_at"] for row in stored()] == [moment]

    def test_with_fewer_decimals(self, ingest_key, stored):
        second = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
        call = api_call(id="fewer")

        answers = [
            send(ingest_key, {**call, "started_at": second.strftime("%Y-%m-%dT%H:%M:%S") + rest})
            for rest in ("Z", ".0Z", ".000Z", ".000000000Z", "-00:00")
        ]

        assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200]
        assert [row["started_at"] for row in stored()] == [second]

    def test_but_another_moment_is_a_new_call(self, ingest_key, stored):
        call = api_call(id="moving", started_at=ago(hours=2))

        again = send(ingest_key, {**call, "started_at": ago(hours=1)})
        send(ingest_key, call)

        assert again.status_code == 201
        assert len(stored()) == 2

    def test_but_another_project_is_a_new_call(self, app, alice, make_project, ingest_key):
        call = api_call()
        elsewhere = make_project(name="Elsewhere")
        key = people.make_key(alice, app=app, kind="ingest", project_id=str(elsewhere.id))

        answers = [send(ingest_key, call), send(key, {**call, "duration_ms": 1})]

        assert [answer.status_code for answer in answers] == [201, 201]

    def test_whatever_the_notation_of_the_payload(self, ingest_key):
        call = api_call(tags={"a": "1", "b": "2"}, cost={"amount": "0.10"})
        send(ingest_key, call)

        same = {
            **call,
            "tags": {"b": "2", "a": "1"},
            "cost": {"source": "provider", "amount": 0.1, "currency": "USD"},
            "operation": "chat",
            "outcome": "success",
            "attempt": 1,
            "stream": False,
            "error_type": None,
            "duration_ms": 812.0,
        }

        assert send(ingest_key, same).status_code == 200

    @pytest.mark.parametrize(
        "change",
        [
            {"duration_ms": 811},
            {
                "usage": {
                    "input_tokens": 2007,
                    "cache_read_input_tokens": 1920,
                    "output_tokens": 300,
                }
            },
            {"usage": None},
            {"provider": "azure"},
            {"request_model": "gpt-4o-mini"},
            {"cost": {"amount": "0.0000000001"}},
            {"tags": {"a": "b"}},
            {"attribution": {"user_id": "u1"}},
            {"outcome": "error"},
            {"stream": True},
            {"attempt": 2},
            {"pricing_context": {"service_tier": "flex"}},
            {"usage_source": "estimated"},
            {"response_id": "x"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_is_a_conflict_when_a_value_differs(self, ingest_key, stored, change):
        call = api_call()
        send(ingest_key, call)
        other = {name: value for name, value in {**call, **change}.items() if value is not None}

        answer = send_batch(ingest_key, [other, api_call(id="beside")])

        assert [result["status"] for result in answer.json["results"]] == ["conflict"]
        assert len(stored()) == 2

    def test_whatever_the_order_and_the_batches(self, app, alice, make_project):
        calls = [
            api_call(id=f"o{n}", usage={"input_tokens": n, "output_tokens": 1}) for n in range(120)
        ]
        ways = {
            "one by one": [[call] for call in calls[::-1]],
            "thirties": [calls[n : n + 30] for n in (90, 0, 60, 30)],
            "overlapping": [calls[:80], calls[40:], calls[::2]],
        }
        totals = []

        for way, batches in ways.items():
            project = make_project(name=way)
            key = people.make_key(alice, app=app, kind="ingest", project_id=str(project.id))
            for batch in batches:
                send_batch(key, batch)
            totals.append(totals_of(alice, project))

        assert totals[0] == totals[1] == totals[2]
        assert totals[0]["requests"] == 120

    def test_when_many_send_the_same_at_once(self, app, alice, project, ingest_key, stored):
        # Long enough to meet in the middle: in the order of arrival they would deadlock.
        calls = [api_call(id=f"at-once-{n}") for n in range(1500)]
        orders = [random.Random(n).sample(calls, len(calls)) for n in range(4)]
        statuses: list[int] = []
        counted: Counter[str] = Counter()
        barrier = threading.Barrier(len(orders))

        def deliver(order):
            body = json.dumps({"requests": order})
            client = app.test_client()
            barrier.wait(timeout=30)
            answer = client.post(
                f"{API}/requests",
                data=body,
                content_type="application/json",
                headers={"Authorization": f"Bearer {ingest_key.token}"},
            )
            statuses.append(answer.status_code)
            if answer.status_code < 300:
                counted.update(
                    created=answer.json["accepted"], duplicates=answer.json["duplicates"]
                )

        threads = [threading.Thread(target=deliver, args=(order,)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert max(statuses) in {200, 201}
        assert counted == {"created": 1500, "duplicates": 4500}
        assert len(stored()) == 1500
        assert totals_of(alice, project)["requests"] == 1500

    def test_when_many_bring_new_groups_at_once(self, app, alice, project, ingest_key):
        # More of them than connections: a group is made in a transaction of its own.
        many = 36
        logged(ingest_key, [api_call()])
        statuses: list[int] = []
        barrier = threading.Barrier(many)

        def deliver(number):
            client = app.test_client()
            calls = [api_call(id=f"g{number}-{n}", operation=f"op-{number}-{n}") for n in range(2)]
            barrier.wait(timeout=30)
            answer = client.post(
                f"{API}/requests",
                json={"requests": calls},
                headers={"Authorization": f"Bearer {ingest_key.token}"},
            )
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=deliver, args=(number,)) for number in range(many)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert Counter(statuses) == {201: many}
        assert totals_of(alice, project)["requests"] == 2 * many + 1


class TestRefusesTimes(OneDesk):
    @pytest.mark.parametrize(
        ("started_at", "code"),
        [
            ("0001-01-01T00:00:00Z", "too_old"),
            ("0001-01-01T00:00:00+10:00", "invalid_time"),
            ("0000-01-01T00:00:00Z", "invalid_time"),
            ("9999-12-31T23:59:59.999999Z", "in_the_future"),
            ("9999-12-31T23:59:59-10:00", "invalid_time"),
            ("2026-02-30T00:00:00Z", "invalid_time"),
            ("2026-11-20T24:00:00Z", "invalid_time"),
            ("2026-11-20T10:00:60Z", "invalid_time"),
            ("2026-11-20T10:00:00+24:00", "invalid_time"),
            ("٢٠٢٦-11-20T10:00:00Z", "invalid_time"),
            ("2026-11-20T10:00:00", "string_pattern_mismatch"),
            ("2026-11-20", "string_pattern_mismatch"),
            ("2026-11-20T10:00:00.Z", "string_pattern_mismatch"),
            ("2026-11-20T10:00:00Z\n", "string_pattern_mismatch"),
            ("now", "string_pattern_mismatch"),
            ("", "string_pattern_mismatch"),
            (1_763_600_000, "string_type"),
            (None, "missing"),
        ],
    )
    def test_outside_the_calendar_or_the_retention(self, ingest_key, stored, started_at, code):
        call = api_call(started_at=started_at)

        answers = [send(ingest_key, call), send_batch(ingest_key, [call])]

        for answer, pointer in zip(answers, ("/started_at", "/requests/0/started_at"), strict=True):
            assert_refused(answer)
            assert [(f["pointer"], f["code"]) for f in answer.json["errors"]] == [(pointer, code)]
        assert stored() == []

    def test_older_than_the_retention(self, app, ingest_key, stored):
        days = app.extensions["devguard"].retention_days

        answers = [
            send(ingest_key, api_call(started_at=ago(days=days, minutes=minutes)))
            for minutes in (1, -1)
        ]

        assert_refused(answers[0])
        assert answers[0].json["errors"][0]["code"] == "too_old"
        assert answers[1].status_code == 201
        assert len(stored()) == 1

    def test_more_than_ten_minutes_ahead(self, ingest_key, stored):
        answers = [
            send(ingest_key, api_call(started_at=ago(minutes=-minutes))) for minutes in (11, 9)
        ]

        assert_refused(answers[0])
        assert answers[0].json["errors"][0]["code"] == "in_the_future"
        assert answers[1].status_code == 201
        assert len(stored()) == 1


HUGE = 10**400

# A field as it stands in the JSON text, and where the refusal must point.
WRONG_FIELDS = [
    ("id", '""', "/id"),
    ("id", '"a b"', "/id"),
    ("id", '"é"', "/id"),
    ("id", '"' + "x" * 129 + '"', "/id"),
    ("id", "5", "/id"),
    ("id", "null", "/id"),
    ("provider", '""', "/provider"),
    ("provider", "null", "/provider"),
    ("provider", '"a\\u0000b"', "/provider"),
    ("provider", '"a\\tb"', "/provider"),
    ("provider", '"a\\u0085b"', "/provider"),
    ("provider", '"a\\u2028b"', "/provider"),
    ("provider", '"' + "x" * 201 + '"', "/provider"),
    ("source", '"a\\nb"', "/source"),
    ("endpoint", '"a\\u0000"', "/endpoint"),
    ("duration_ms", '"812"', "/duration_ms"),
    ("duration_ms", "true", "/duration_ms"),
    ("duration_ms", "-1", "/duration_ms"),
    ("duration_ms", "86400001", "/duration_ms"),
    ("duration_ms", "1e400", "/duration_ms"),
    ("duration_ms", str(HUGE), "/duration_ms"),
    ("time_to_first_chunk_ms", "-0.001", "/time_to_first_chunk_ms"),
    ("status_code", "200.0", "/status_code"),
    ("status_code", '"200"', "/status_code"),
    ("status_code", "true", "/status_code"),
    ("status_code", "99", "/status_code"),
    ("status_code", "600", "/status_code"),
    ("stream", '"yes"', "/stream"),
    ("stream", "1", "/stream"),
    ("cache_hit", "0", "/cache_hit"),
    ("attempt", "0", "/attempt"),
    ("attempt", "1001", "/attempt"),
    ("attempt", "1.5", "/attempt"),
    ("outcome", '"fine"', "/outcome"),
    ("outcome", '"Success"', "/outcome"),
    ("trace_id", '"0AF7651916CD43DD8448EB211C80319C"', "/trace_id"),
    ("span_id", '"b7ad6b716920333"', "/span_id"),
    ("reservation_id", '"1"', "/reservation_id"),
    ("usage_source", '"missing"', "/usage_source"),
    ("usage", "[]", "/usage"),
    ("usage", '"many"', "/usage"),
    ("usage", '{"input_tokens":-1}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":"5"}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":5.0}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":1e3}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":true}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":null}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":[1]}', "/usage/input_tokens"),
    ("usage", '{"input_tokens":1000000001}', "/usage/input_tokens"),
    ("usage", f'{{"input_tokens":{HUGE}}}', "/usage/input_tokens"),
    ("usage", '{"pages":"five"}', "/usage/pages"),
    ("usage", '{"pages":"NaN"}', "/usage/pages"),
    ("usage", '{"pages":true}', "/usage/pages"),
    ("usage", '{"pages":-0.5}', "/usage/pages"),
    ("usage", '{"pages":0.0000000000001}', "/usage/pages"),
    ("usage", '{"pages":1e16}', "/usage/pages"),
    ("usage", '{"Pages":1}', "/usage/Pages"),
    ("usage", '{"a/b~c":1}', "/usage/a~1b~0c"),
    ("usage", '{"output_tokens":1,"reasoning_output_tokens":2}', "/usage/reasoning_output_tokens"),
    ("usage", '{"cache_read_input_tokens":2}', "/usage/cache_read_input_tokens"),
    ("cost", "5", "/cost"),
    ("cost", "{}", "/cost/amount"),
    ("cost", '{"amount":"-0.1"}', "/cost/amount"),
    ("cost", '{"amount":"NaN"}', "/cost/amount"),
    ("cost", '{"amount":"Infinity"}', "/cost/amount"),
    ("cost", '{"amount":"1e400"}', "/cost/amount"),
    ("cost", '{"amount":"100000000"}', "/cost/amount"),
    ("cost", '{"amount":"0.0000000000001"}', "/cost/amount"),
    ("cost", '{"amount":true}', "/cost/amount"),
    ("cost", '{"amount":"one"}', "/cost/amount"),
    ("cost", '{"amount":"1","currency":"usd"}', "/cost/currency"),
    ("cost", '{"amount":"1","source":"me"}', "/cost/source"),
    ("cost", '{"amount":"1","vat":"2"}', "/cost/vat"),
    ("attribution", '{"team":""}', "/attribution/team"),
    ("attribution", '{"prompt":"x"}', "/attribution/prompt"),
    ("pricing_context", '{"service_tier":1}', "/pricing_context/service_tier"),
    ("tags", '{"a":1}', "/tags/a"),
    ("tags", '{"":"x"}', "/tags/"),
    ("tags", '{"a":"x\\u0000"}', "/tags/a"),
    ("tags", json.dumps({f"t{n}": "x" for n in range(33)}), "/tags"),
    ("project_id", '"x"', "/project_id"),
]
# What a call holds and nobody may send here: refused as fields that do not exist.
CONTENT = {
    "prompt": "my secret prompt",
    "completion": "my secret answer",
    "messages": [{"role": "user", "content": "my secret message"}],
    "input": "my secret input",
    "output": ["my secret output"],
    "raw_request": {"messages": []},
    "gen_ai.input.messages": "my secret message",
}


def with_field(call: dict[str, Any], name: str, value: str) -> bytes:
    """Return the JSON text of the call with this field as it stands."""
    rest = {key: content for key, content in call.items() if key != name}
    return (json.dumps(rest)[:-1] + f", {json.dumps(name)}: {value}" + "}").encode()


class TestRefusesFields(OneDesk):
    @pytest.mark.parametrize(("name", "value", "pointer"), WRONG_FIELDS)
    def test_by_name(self, ingest_key, stored, name, value, pointer):
        call = with_field(api_call(), name, value)
        beside = json.dumps(api_call(id="beside")).encode()

        alone = send(ingest_key, call)
        batched = send(ingest_key, b'{"requests": [%s, %s]}' % (beside, call))
        lined = send(ingest_key, call + b"\n" + beside, content_type=NDJSON)

        assert_refused(alone)
        assert {fault["pointer"] for fault in alone.json["errors"]} == {pointer}
        for answer, index in ((batched, 1), (lined, 0)):
            problems = [r for r in answer.json["results"] if r["status"] == "invalid"]
            assert {(r["index"], f["pointer"]) for r in problems for f in r["errors"]} == {
                (index, f"/requests/{index}{pointer}")
            }
            assert "secret" not in answer.text
        assert [row["id"] for row in stored()] == ["beside"]

    def test_names_all_faults_at_once(self, ingest_key):
        answer = send(
            ingest_key,
            {"id": "", "started_at": "x", "duration_ms": -1, "usage": {"input_tokens": -1, "A": 1}},
        )

        assert_refused(answer)
        assert {fault["pointer"] for fault in answer.json["errors"]} == {
            "/id", "/started_at", "/provider", "/duration_ms", "/usage/input_tokens", "/usage/A",
        }  # fmt: skip

    def test_never_clamps_what_exceeds_its_total(self, ingest_key, stored):
        answer = send(
            ingest_key, api_call(usage={"input_tokens": 86, "cache_read_input_tokens": 1920})
        )

        assert_refused(answer)
        assert answer.json["errors"] == [
            {
                "pointer": "/usage/cache_read_input_tokens",
                "code": "subset_exceeds_total",
                "detail": "1920 of 86 input tokens",
            }
        ]
        assert stored() == []

    @pytest.mark.parametrize("name", CONTENT)
    def test_that_would_hold_what_was_said(self, ingest_key, stored, name):
        call = api_call(**{name: CONTENT[name]})

        answers = [
            send(ingest_key, call),
            send_batch(ingest_key, [call]),
            send_lines(ingest_key, [call]),
        ]

        for answer in answers:
            assert_refused(answer)
            assert answer.json["errors"][0]["code"] == "extra_forbidden"
            assert "secret" not in answer.text
        assert stored() == []

    def test_takes_the_largest_that_is_allowed(self, ingest_key, stored):
        call = api_call(
            id="x" * 128,
            provider="p" * 200,
            duration_ms=86_400_000,
            attempt=1000,
            usage={"input_tokens": 10**9, "output_tokens": 10**9, "pages": 10**15},
            tags={f"t{n}": "x" * 500 for n in range(32)},
            cost={"amount": "99999999.999999999999"},
        )

        assert send(ingest_key, call).status_code == 201
        assert stored()[0]["cost"] == Decimal("99999999.999999999999")

    def test_sums_the_largest_that_are_allowed(self, app):
        # A figure of a rollup that did not hold the sum would stop the compaction of everybody.
        desk, usage = make_desk(app), {"input_tokens": 10**9, "output_tokens": 10**9}
        for part in range(2):
            logged(
                desk.key,
                [
                    api_call(id=f"{part}-{n}", usage=usage, cost={"amount": "99999999"})
                    for n in range(1000)
                ],
                size=1000,
            )

        compact_all(app)

        totals = totals_of(desk.owner, desk.project)
        assert totals["input_tokens"] == 2000 * 10**9
        assert Decimal(totals["cost"]) == 2000 * Decimal(99_999_999)


def bodies_that_are_no_json() -> list[Any]:
    call = json.dumps(api_call())
    return [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n ", id="blank"),
        pytest.param(b"{", id="cut"),
        pytest.param(call.encode()[:-5], id="cut call"),
        pytest.param(call.encode() + b"x", id="trailing"),
        pytest.param(call.encode() + call.encode(), id="two calls"),
        pytest.param(b'{"requests": [%s' % call.encode(), id="cut batch"),
        pytest.param(call.replace("812", "NaN").encode(), id="NaN"),
        pytest.param(call.replace("812", "Infinity").encode(), id="Infinity"),
        pytest.param(call.replace("812", "-Infinity").encode(), id="-Infinity"),
        pytest.param(call.replace("812", "9" * 5000).encode(), id="5,000 digits"),
        pytest.param(call.replace("812", "0812").encode(), id="leading zero"),
        pytest.param(call.replace("openai", "open\\ud800ai").encode(), id="lone surrogate"),
        pytest.param(call.replace("openai", "open\\x00ai").encode(), id="bad escape"),
        pytest.param(call.encode().replace(b"openai", b"open\xffai"), id="invalid UTF-8"),
        pytest.param(call.encode().replace(b"openai", b"open\xc0\x80ai"), id="overlong UTF-8"),
        pytest.param(call.encode().replace(b"openai", b"open\xed\xa0\x80ai"), id="UTF-8 surrogate"),
        pytest.param(call.encode().replace(b"openai", b"open\x00ai"), id="NUL"),
        pytest.param(call.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + call.encode(), id="byte order mark"),
        pytest.param(b'{"requests":' + b"[" * 100_000, id="deep and cut"),
        pytest.param(b'{"requests":' + b"[" * 5000 + b"]" * 5000 + b"}", id="deep arrays"),
        pytest.param(b'{"tags":' * 5000 + b"1" + b"}" * 5000, id="deep objects"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="zip"),
    ]


class TestRefusesBodies(OneDesk):
    @pytest.mark.parametrize("body", bodies_that_are_no_json())
    def test_that_are_no_json(self, ingest_key, stored, body):
        answer = send(ingest_key, body)

        assert_refused(answer)
        assert answer.json["errors"][0]["code"] == "json_invalid"
        assert stored() == []
        assert send(ingest_key, api_call()).status_code == 201

    @pytest.mark.parametrize("body", bodies_that_are_no_json())
    def test_that_are_no_json_by_the_line(self, ingest_key, stored, body):
        body = body.replace(b"\n", b" ")

        answer = send(
            ingest_key, body + b"\n" + json.dumps(api_call()).encode(), content_type=NDJSON
        )

        if body.strip():
            assert [(r["index"], r["status"]) for r in answer.json["results"]] == [(0, "invalid")]
        assert answer.json["accepted"] == 1
        assert len(stored()) == 1

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ("[]", ""),
            ("null", ""),
            ("5", ""),
            ('"text"', ""),
            ("[{}]", ""),
            ('{"requests": []}', "/requests"),
            ('{"requests": 5}', "/requests"),
            ('{"requests": null}', "/requests"),
            ('{"requests": {}}', "/requests"),
            ('{"requests": [{}], "project_id": "x"}', "/project_id"),
            ('{"mode": 1, "requests": [{}]}', "/mode"),
        ],
    )
    def test_that_are_neither_a_call_nor_a_batch(self, ingest_key, stored, body, pointer):
        answer = send(ingest_key, body.encode())

        assert_refused(answer)
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
        assert stored() == []

    @pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\t\n"])
    def test_without_a_line(self, ingest_key, body):
        answer = send(ingest_key, body, content_type=NDJSON)

        assert_refused(answer)
        assert answer.json["errors"][0]["code"] == "line_count"

    def test_reads_the_last_of_a_repeated_key_in_every_way(self, ingest_key, stored):
        # RFC 8259 section 4 leaves it open; what matters is that no way of sending differs.
        moment = ago(hours=1)
        call = '{"id":"first","id":"%s","started_at":"' + moment + '","provider":"openai"}'

        send(ingest_key, (call % "single").encode())
        send(ingest_key, ('{"requests":[%s]}' % (call % "batch")).encode())
        send(ingest_key, ('{"requests":[%s,5]}' % (call % "slow")).encode())
        send(ingest_key, (call % "line").encode(), content_type=NDJSON)

        assert {row["id"] for row in stored()} == {"single", "batch", "slow", "line"}

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/x-protobuf",
            "application/jsonp",
            "",
        ],
    )
    def test_of_another_content_type(self, ingest_key, stored, content_type):
        answer = send(ingest_key, api_call(), content_type=content_type)

        assert_refused(answer, status=415)
        assert stored() == []

    @pytest.mark.parametrize(
        "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"]
    )
    def test_takes_json_by_its_other_names(self, ingest_key, content_type):
        assert send(ingest_key, api_call(), content_type=content_type).status_code == 201

    def test_of_eleven_megabytes(self, ingest_key, stored):
        answer = send(ingest_key, json.dumps(api_call()).encode() + b" " * 11 * MEGABYTE)

        assert_refused(answer, status=413)
        assert stored() == []
        assert send(ingest_key, api_call()).status_code == 201

    def test_takes_one_just_below_ten_megabytes(self, ingest_key):
        body = json.dumps(api_call()).encode()

        answer = send(ingest_key, body + b" " * (10 * MEGABYTE - len(body)))

        assert answer.status_code == 201

    @pytest.mark.parametrize("size", [2 * MEGABYTE, 9 * MEGABYTE, 64 * MEGABYTE])
    def test_that_are_gzip_bombs(self, ingest_key, stored, size):
        compressor = zlib.compressobj(9, wbits=31)
        bomb = b"".join(compressor.compress(b" " * MEGABYTE) for _ in range(size // MEGABYTE))
        bomb += compressor.flush()

        answer = send(ingest_key, bomb, headers={"Content-Encoding": "gzip"})

        assert_refused(answer, status=413)
        assert stored() == []

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"no gzip at all", 400),
            (b"", 400),
            (gzip.compress(json.dumps({"a": "b" * 500}).encode())[:-9], 400),
            (gzip.compress(b"{}") + b"more", 400),
            (gzip.compress(b"{}"), 422),
        ],
        ids=["other", "empty", "cut", "trailing", "no call"],
    )
    def test_whose_gzip_is_broken(self, ingest_key, stored, body, status):
        answer = send(ingest_key, body, headers={"Content-Encoding": "gzip"})

        assert_refused(answer, status=status)
        assert stored() == []

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
    def test_in_another_encoding(self, ingest_key, encoding):
        answer = send(ingest_key, api_call(), headers={"Content-Encoding": encoding})

        assert_refused(answer, status=415)

    @pytest.mark.parametrize("length", ["1", "999999", "-5", "many"])
    def test_whose_length_is_a_lie(self, ingest_key, stored, length):
        body = json.dumps(api_call()).encode()

        answer = ingest_key.post(
            f"{API}/requests",
            data=body,
            content_type="application/json",
            environ_overrides={"CONTENT_LENGTH": length},
        )

        assert 400 <= answer.status_code < 500, answer.text
        assert answer.content_type == PROBLEM
        assert stored() == []

    def test_that_claim_more_than_ten_megabytes(self, ingest_key):
        answer = ingest_key.post(
            f"{API}/requests",
            data=b"{}",
            content_type="application/json",
            environ_overrides={"CONTENT_LENGTH": str(11 * MEGABYTE)},
        )

        assert_refused(answer, status=413)

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("?results=some", "/results"),
            ("?project_id=x", "/project_id"),
            ("?dry_run=1", "/dry_run"),
        ],
    )
    def test_with_unknown_query_arguments(self, ingest_key, stored, query, pointer):
        answer = send(ingest_key, api_call(), query=query)

        assert_refused(answer)
        assert answer.json["errors"][0]["pointer"] == pointer
        assert stored() == []


class TestWhoMayLog:
    def test_refuses_a_viewer_by_the_scope_he_lacks(self, bob, project, stored):
        answer = send(bob, api_call(), query=f"?project_id={project.id}")

        assert_refused(answer, status=403)
        assert "api_requests:write" in answer.json["detail"]
        assert stored() == []

    def test_lets_an_ingest_key_write_but_not_read(self, ingest_key, project):
        location = send(ingest_key, api_call()).headers["Location"]

        reads = [
            ingest_key.get(location),
            ingest_key.get(f"{API}/requests?project_id={project.id}"),
        ]

        for answer in reads:
            assert_refused(answer, status=403)
            assert "api_requests:read" in answer.json["detail"]

    def test_hides_the_project_of_another_organization(self, stranger, project, stored):
        answer = send(stranger, api_call(), query=f"?project_id={project.id}")

        assert_refused(answer, status=404)
        assert stored() == []

    def test_hides_every_project_but_its_own_from_an_ingest_key(self, ingest_key, make_project):
        answer = send(ingest_key, api_call(), query=f"?project_id={make_project(name='Other').id}")

        assert_refused(answer, status=404)

    def test_needs_a_project(self, alice):
        answer = send(alice, api_call())

        assert_refused(answer)
        assert answer.json["errors"][0]["pointer"] == "/project_id"

    def test_refuses_a_revoked_key(self, alice, ingest_key, stored):
        send(ingest_key, api_call())

        revoked = alice.delete(f"/api/v1/api-keys/{ingest_key.key_id}")
        KEYS.clear()
        answer = send(ingest_key, api_call())

        assert revoked.status_code == 204
        assert_refused(answer, status=401)
        assert "WWW-Authenticate" in answer.headers
        assert len(stored()) == 1

    def test_refuses_who_says_nothing(self, anonymous):
        answer = anonymous.post(f"{API}/requests", json=api_call())

        assert_refused(answer, status=401)

    def test_refuses_the_calls_of_a_deleted_project(self, alice, ingest_key, project, stored):
        alice.delete(f"/api/v1/projects/{project.id}")
        KEYS.clear()

        answer = send(ingest_key, api_call())

        assert answer.status_code in {401, 404}
        assert stored() == []


class TestPricingStatus(OneDesk):
    @pytest.fixture(scope="class")
    @classmethod
    def desk(cls, app):
        desk = make_desk(app)
        for provider in (ACME_LLM, EURO_LLM):
            make_provider(desk.owner, provider)
        return desk

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            # Reported by the biller wins; ours stands beside it.
            ({"cost": {"amount": "0.0033475"}}, ("reported", "0.0033475", "0.005615", None)),
            ({"cost": {"amount": "0"}}, ("reported", "0", "0.005615", None)),
            ({"cost": {"amount": "1", "currency": "EUR"}}, ("reported", "1", None, None)),
            ({"cost": {"amount": "0.3"}, "provider": "nobody"}, ("reported", "0.3", None, None)),
            ({"cost": {"amount": "0.3"}, "usage": None}, ("reported", "0.3", None, None)),
            # A client's estimate is used only where ours is unpriced.
            (
                {"cost": {"amount": "0.3", "source": "client"}},
                ("computed", "0.005615", "0.005615", None),
            ),
            (
                {"cost": {"amount": "0.3", "source": "client"}, "provider": "nobody"},
                ("reported", "0.3", None, "client_estimate"),
            ),
            ({}, ("computed", "0.005615", "0.005615", None)),
            ({"usage": {"input_tokens": 0, "output_tokens": 0}}, ("computed", "0", "0", None)),
            ({"outcome": "cancelled"}, ("computed", "0.005615", "0.005615", None)),
            ({"cache_hit": True}, ("free", "0", "0", None)),
            ({"operation": "fetch_response"}, ("free", "0", "0", None)),
            ({"outcome": "error", "usage": None}, ("free", "0", "0", None)),
            ({"provider": "acme-llm", "request_model": "gift"}, ("free", "0", "0", None)),
            ({"usage": None}, ("unmetered", None, None, None)),
            ({"usage": {}}, ("unmetered", None, None, None)),
            ({"outcome": "timeout", "usage": None}, ("unmetered", None, None, None)),
            ({"provider": "nobody"}, ("unpriced", None, None, "unknown_provider")),
            (
                {"provider": "acme-llm", "request_model": "other"},
                ("unpriced", None, None, "unknown_model"),
            ),
            (
                {"provider": "acme-llm", "request_model": "reader", "usage": {"input_tokens": 1}},
                ("unpriced", None, None, "unit_without_rate"),
            ),
            (
                {"provider": "acme-llm", "request_model": "per-call", "usage": None},
                ("computed", "0.004", "0.004", None),
            ),
            (
                {"provider": "acme-llm", "request_model": "reader", "usage": {"pages": 100}},
                ("computed", "0.201", "0.201", None),
            ),
            # The cliff is strictly above 100 and moves all units.
            (
                {"provider": "acme-llm", "request_model": "reader", "usage": {"pages": 101}},
                ("computed", "0.1525", "0.1525", None),
            ),
        ],
    )
    def test_says_what_kind_of_figure_the_cost_is(self, alice, ingest_key, fields, expected):
        status, cost, computed, reason = expected
        call = {name: v for name, v in {**api_call(), **fields}.items() if v is not None}

        single = send(ingest_key, call)
        batch = send_batch(ingest_key, [{**call, "id": "batched"}], query="?results=all")

        shown = alice.get(single.headers["Location"]).json
        for told in (single.json, batch.json["results"][0], shown):
            assert told["pricing_status"] == status
            assert told["cost"].get("amount") == cost
            assert told["cost"].get("computed") == computed
            assert told.get("pricing_reason") == reason
        assert batch.json["pricing"] == dict.fromkeys(
            ("reported", "computed", "free", "unmetered", "unpriced"), 0
        ) | {status: 1}

    @pytest.mark.parametrize(
        "sender", [send, lambda key, call: send_batch(key, [call, api_call()])]
    )
    def test_follows_a_price_that_was_just_made(self, app, sender):
        desk = make_desk(app)
        call = api_call(provider="acme-llm", request_model="per-call", usage=None)
        before = sender(desk.key, {**call, "id": "before"})
        make_provider(desk.owner, ACME_LLM)

        after = sender(desk.key, {**call, "id": "after"})

        assert (before.status_code, after.status_code) == (201, 201)
        statuses = {
            row["id"]: row["pricing_status"]
            for row in all_pages(desk.owner, f"project_id={desk.project.id}")
        }
        assert statuses["before"] == "unmetered"
        assert statuses["after"] == "computed"

    def test_prices_in_the_currency_of_the_provider(self, ingest_key):
        answer = send(
            ingest_key,
            api_call(
                provider="euro-llm",
                request_model="ecrivain",
                usage={"input_tokens": 1_000_000, "output_tokens": 1},
            ),
        )

        assert answer.json["cost"]["currency"] == "EUR"
        assert answer.json["cost"]["amount"] == "2.000008"

    def test_covers_every_call(self, app):
        desk = make_desk(app)
        calls = [
            api_call(cost={"amount": "0.1"}),
            api_call(),
            api_call(cache_hit=True),
            api_call(usage=None),
            api_call(provider="nobody"),
            api_call(cost={"amount": "0.1", "currency": "EUR"}),
            api_call(pricing_context={"service_tier": "no-such-tier"}),
        ]
        logged(desk.key, calls)

        coverage = desk.owner.get(f"{API}/analytics/cost").json["coverage"]

        assert coverage == {
            "priced_requests": 4,
            "reported_requests": 1,
            "computed_requests": 2,
            "free_requests": 1,
            "unpriced_requests": 1,
            "unmetered_requests": 1,
            "approximate_requests": 1,
            "other_currency_requests": 1,
            "priced_token_share": "0.75",
        }


class TestStoresNothingElse:
    def test_has_no_column_for_what_was_said(self, as_system):
        columns = as_system(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'measurements' AND table_name = 'api_requests'"
        )

        words = {word for (name,) in columns for word in name.removesuffix("_tokens").split("_")}
        assert "provider" in words
        assert not words & {
            "prompt",
            "completion",
            "message",
            "messages",
            "content",
            "body",
            "text",
        }

    def test_says_what_was_stored_in_the_list(self, alice, project, ingest_key):
        calls = [api_call(id=f"c{n}", started_at=ago(minutes=n)) for n in range(1, 4)]
        logged(ingest_key, calls)

        listed = all_pages(alice, f"project_id={project.id}")

        assert [call["id"] for call in listed] == ["c1", "c2", "c3"]
