"""Every refusal is a problem (RFC 9457), whoever refuses, and shows nothing of the inside."""

from __future__ import annotations

import pytest
from werkzeug.exceptions import TooManyRequests

from app.kit.errors import DevGuardError
from app.kit.problems import PROBLEM
from tests.kit import probe_routes

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "request_id", "errors"}
INSIDES = ("Traceback", "secret", "sqlalchemy", "psycopg", "ZeroDivision", ".py", "SELECT")


@pytest.fixture
def assert_problem():
    def check(answer, *, status: int, code: str) -> None:
        assert answer.status_code == status
        assert answer.content_type == PROBLEM
        assert set(answer.json) == PROBLEM_MEMBERS
        assert (answer.json["status"], answer.json["code"]) == (status, code)
        assert answer.json["type"] == "about:blank"
        assert answer.json["title"]
        assert answer.json["request_id"] == answer.headers["X-Request-Id"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not [word for word in INSIDES if word in answer.text]

    return check


class TestRefuse:
    @pytest.mark.parametrize(
        ("call", "status", "code"),
        [
            ("GET /nowhere", 404, "not_found"),
            ("GET /probe/things/not-a-uuid", 404, "not_found"),
            ("GET /probe/things/", 404, "not_found"),
            ("GET /static/../config.py", 404, "not_found"),
            ("GET /static/nothing.js", 404, "not_found"),
            ("PATCH /probe/things", 405, "method_not_allowed"),
            ("TRACE /probe/things", 405, "method_not_allowed"),
            ("POST /probe/things", 415, "unsupported_media_type"),
            ("GET /probe/things?limit=x", 422, "invalid_payload"),
            ("GET /probe/numbers", 401, "unauthorized"),
            ("GET /probe/failures/bug", 500, "internal_error"),
            ("GET /probe/wrong-view", 500, "internal_error"),
            ("GET /probe/failures/unavailable", 503, "unavailable"),
            ("GET /probe/failures/database-gone", 503, "unavailable"),
            ("GET /probe/failures/database-cut", 503, "unavailable"),
            ("GET /probe/failures/pool-empty", 503, "unavailable"),
            ("GET /probe/failures/driver", 503, "unavailable"),
        ],
    )
    def test_is_a_problem_and_shows_no_insides(self, probe, assert_problem, call, status, code):
        method, path = call.split(" ")

        assert_problem(probe.open(path, method=method), status=status, code=code)

    def test_of_a_body_too_large_for_any_route_is_a_problem(self, probe, assert_problem):
        answer = probe.post(
            "/probe/things",
            data=b"{}",
            environ_overrides={"CONTENT_LENGTH": str(10**9)},
            content_type="application/json",
        )

        assert_problem(answer, status=413, code="payload_too_large")

    def test_says_when_to_come_back(self, probe):
        unavailable = probe.get("/probe/failures/unavailable").headers
        database_gone = probe.get("/probe/failures/database-gone").headers

        assert (unavailable["Retry-After"], database_gone["Retry-After"]) == ("7", "5")

    def test_says_which_methods_there_are(self, probe):
        allowed = probe.put("/probe/things").headers["Allow"]

        assert set(allowed.split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}

    def test_says_how_to_authenticate(self, probe):
        assert probe.get("/probe/numbers").headers["WWW-Authenticate"] == 'Bearer realm="devguard"'

    def test_names_the_faults(self, probe):
        assert probe.get("/probe/failures/invalid").json["errors"] == [
            {"pointer": "/a", "code": "some_code", "detail": "is wrong"}
        ]

    def test_of_too_many_requests_has_the_code_of_ours(self, probe, assert_problem, monkeypatch):
        monkeypatch.setitem(
            probe_routes.FAILURES, "too-many", lambda: TooManyRequests(retry_after=3)
        )
        answer = probe.get("/probe/failures/too-many")

        assert_problem(answer, status=429, code="rate_limited")
        assert answer.headers["Retry-After"] == "3"

    def test_keeps_nothing_of_the_request(self, probe, records):
        answer = probe.post("/probe/notes/kept-broken")

        assert (answer.status_code, answer.json["code"]) == (409, "note_is_broken")
        assert records.starts("kept") == 0

    def test_of_the_head_of_a_page_has_no_body(self, probe):
        answer = probe.head("/nowhere")

        assert (answer.status_code, answer.data) == (404, b"")


class TestRequestId:
    @pytest.mark.parametrize("given", ["a" * 8, "01JD5Q8Z-1.x_y", "0" * 64])
    def test_is_the_callers_when_it_is_safe(self, probe, given):
        answer = probe.get("/nowhere", headers={"X-Request-Id": given})

        assert answer.json["request_id"] == given

    @pytest.mark.parametrize("given", ["short", "a" * 65, "with space x", '"quoted"x', "ümlauts-x"])
    def test_is_a_new_one_otherwise(self, probe, given):
        answer = probe.get("/nowhere", headers={"X-Request-Id": given})

        assert answer.json["request_id"] != given
        assert len(answer.json["request_id"]) == 36


class TestCodes:
    def test_are_one_for_each_status(self):
        kinds = DevGuardError.__subclasses__()

        assert len({kind.status for kind in kinds}) == len({kind.code for kind in kinds})
