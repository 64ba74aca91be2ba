"""The limiter switched on: what is counted against whom, and what the caller is told."""

import re
import secrets
import time
from dataclasses import replace

import pytest

from app import create_app
from app.extensions import db, limiter
from tests.factories import people

OPENAPI = "/api/v1/openapi.json"
PROJECTS = "/api/v1/projects"
LOGIN = "/api/v1/auth/login"
LIMITS = {
    "ratelimit_enabled": True,
    "ratelimit_anonymous": "6 per day;3 per hour",
    "ratelimit_read": "5 per minute",
}


def limited(config, **settings):
    before = dict(vars(limiter))
    limited_app = create_app(replace(config, **{**LIMITS, **settings}))
    yield limited_app
    with limited_app.app_context():
        db.engine.dispose()
    vars(limiter).clear()
    vars(limiter).update(before)


@pytest.fixture
def prepared(app, alice, bob):
    """Alice and Bob are registered while nothing is limited."""
    return alice, bob


@pytest.fixture
def limited_app(prepared, config):
    yield from limited(config)


@pytest.fixture
def address():
    """An address of this test alone, where the counters of others do not matter."""
    return {"REMOTE_ADDR": ".".join(str(secrets.randbelow(250) + 1) for _ in range(4))}


@pytest.fixture
def caller(limited_app, address, prepared):
    """Alice at this address."""
    alice, _ = prepared
    client = limited_app.test_client()
    client.environ_base |= address
    return people.Caller(client, alice.token)


def anonymous_of(limited_app, address):
    client = limited_app.test_client()
    client.environ_base |= address
    return client


class TestHeaders:
    def test_tell_policy_and_what_is_left(self, caller):
        answer = caller.get(PROJECTS)

        assert answer.headers["RateLimit-Policy"] == '"read";q=5;w=60'
        assert re.fullmatch(r'"read";r=4;t=(60|61)', answer.headers["RateLimit"])
        assert answer.headers["X-RateLimit-Limit"] == "5"
        assert answer.headers["X-RateLimit-Remaining"] == "4"
        assert 0 < int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 61
        assert "Retry-After" not in answer.headers

    def test_name_every_window(self, limited_app, address):
        answer = anonymous_of(limited_app, address).get(OPENAPI)

        assert answer.headers["RateLimit-Policy"] == (
            '"anonymous-3600s";q=3;w=3600, "anonymous-86400s";q=6;w=86400'
        )
        assert answer.headers["X-RateLimit-Remaining"] == "2"

    def test_are_absent_where_nothing_is_limited(self, limited_app, address):
        answer = anonymous_of(limited_app, address).get("/health/live")

        assert not [name for name in dict(answer.headers) if "ratelimit" in name.lower()]

    def test_are_absent_when_limits_are_off(self, app, alice):
        assert "RateLimit" not in alice.get(PROJECTS).headers


class TestLimit:
    def test_refuses_one_too_many_and_says_when_to_return(self, caller):
        statuses = [caller.get(PROJECTS).status_code for _ in range(5)]
        answer = caller.get(PROJECTS)

        assert statuses == [200] * 5
        assert (answer.status_code, answer.json["code"]) == (429, "rate_limited")
        assert answer.mimetype == "application/problem+json"
        assert 1 <= int(answer.headers["Retry-After"]) <= 61
        assert answer.headers["X-RateLimit-Remaining"] == "0"

    def test_is_each_persons_own(self, limited_app, address, caller, prepared):
        for _ in range(6):
            caller.get(PROJECTS)
        _, bob = prepared

        other = people.Caller(anonymous_of(limited_app, address), bob.token)

        assert other.get(PROJECTS).status_code == 200

    def test_of_signing_in_is_five_a_minute(self, limited_app, address):
        client = anonymous_of(limited_app, address)
        form = {"email": "nobody@example.com", "password": "wrong password"}

        statuses = [client.post(LOGIN, json=form).status_code for _ in range(6)]

        assert statuses == [401] * 5 + [429]

    def test_by_default_is_50_an_hour_and_200_a_day(self, config):
        assert config.ratelimit_anonymous == "200 per day;50 per hour"
        assert config.ratelimit_auth == "5 per minute"


class TestStranger:
    @pytest.mark.parametrize(
        "header", [None, "Bearer nonsense", f"Bearer dgp_{'x' * 36}", "Basic YTpi"]
    )
    def test_is_counted_as_an_anonymous_caller(self, limited_app, address, header):
        client = anonymous_of(limited_app, address)
        headers = {} if header is None else {"Authorization": header}

        answers = [client.get(PROJECTS, headers=headers) for _ in range(4)]

        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
        assert answers[0].headers["X-RateLimit-Remaining"] == "2"
        assert int(answers[3].headers["Retry-After"]) > 3000

    def test_shares_the_allowance_of_public_routes(self, limited_app, address):
        client = anonymous_of(limited_app, address)
        for _ in range(2):
            client.get(PROJECTS)

        assert client.get(OPENAPI).status_code == 200
        assert client.get(OPENAPI).status_code == 429
        assert client.get(PROJECTS).status_code == 429

    def test_stops_nobody_with_a_credential_at_his_address(self, limited_app, address, caller):
        for _ in range(5):
            anonymous_of(limited_app, address).get(PROJECTS)

        assert caller.get(PROJECTS).status_code == 200

    def test_is_nobody_whose_session_has_ended(self, limited_app, address, caller):
        assert caller.post("/api/v1/auth/logout").status_code == 204

        answers = [caller.get(PROJECTS).status_code for _ in range(5)]

        assert answers == [401] * 5


class TestWithoutRedis:
    @pytest.fixture
    def limited_app(self, prepared, config):
        yield from limited(config, redis_url="redis://127.0.0.1:1/0")

    def test_counts_in_memory(self, caller):
        statuses = [caller.get(PROJECTS).status_code for _ in range(6)]

        assert statuses == [200] * 5 + [429]

    def test_counts_strangers_in_memory(self, limited_app, address):
        client = anonymous_of(limited_app, address)

        assert [client.get(PROJECTS).status_code for _ in range(4)] == [401, 401, 401, 429]
