"""Redis and PostgreSQL are away for a while, hanging or dead; the settings are those that a stranger starts with."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.faults.books import Books, Tenant
from tests.faults.product import (
    API,
    BACK_WITHIN_S,
    Answer,
    Product,
    at_once,
    kept_down,
    paused,
    wait_for,
)

pytestmark = pytest.mark.faults

# Nobody would call longer than this "going on"; it takes 1 to 3 s.
SENSIBLE_S = 20.0


@pytest.fixture(scope="module")
def running(start_product: Callable[..., Product]) -> Product:
    return start_product()


@pytest.fixture(scope="module")
def tenant(running: Product) -> Tenant:
    # One for all tests: only five registrations and logins a minute are allowed from one address.
    return Tenant.register(running)


@pytest.fixture(scope="module")
def books() -> Books:
    return Books()


def assert_counted(tenant: Tenant, books: Books) -> None:
    assert tenant.totals() == books.totals
    assert tenant.stored() == (books.totals[0], *books.totals)


class TestRedisStopped:
    """Ingest, reads and logins go on; what was queued runs when it is back."""

    def test_hanging_is_survived_by_everything_but_queued_work(self, product, tenant, books):
        with paused(product.server_processes("redis")):
            time.sleep(0.5)
            logged = at_once(*(lambda: tenant.log(books.batch(50)) for _ in range(12)))
            others = at_once(tenant.costs, tenant.login, lambda: ready(product))
            limited = [try_passwords(product, tenant) for _ in range(12)]
            tenant.ask_for_compaction()
            time.sleep(2)
            waiting = tenant.waiting_deltas()

        assert [answer.status for answer in logged] == [201] * 12
        assert [answer.status for answer in others] == [200, 200, 200]
        assert others[2].json == {"status": "degraded", "degraded": ["redis"]}
        assert max(answer.duration_s for answer in logged + others) < SENSIBLE_S
        # Five a minute are allowed, counted by each of the two web workers in its own memory.
        assert {answer.status for answer in limited} == {422, 429}
        assert int(next(a for a in limited if a.status == 429).headers["retry-after"]) > 0
        assert waiting > 0
        wait_for(lambda: tenant.waiting_deltas() == 0, 60, what="the queued work ran")
        assert_counted(tenant, books)

    def test_dead_is_survived_by_everything_but_queued_work(self, product, tenant, books):
        with kept_down(product, "redis"):
            wait_for(
                lambda: ready(product).json["status"] == "degraded", 20, what="Redis is missed"
            )
            logged = at_once(*(lambda: tenant.log(books.batch(50)) for _ in range(12)))
            others = at_once(tenant.costs, tenant.login)
            tenant.ask_for_compaction()
            time.sleep(2)
            waiting = tenant.waiting_deltas()

        assert [answer.status for answer in logged + others] == [201] * 12 + [200, 200]
        assert max(answer.duration_s for answer in logged + others) < SENSIBLE_S
        assert waiting > 0
        wait_for(lambda: tenant.waiting_deltas() == 0, 90, what="the queued work ran")
        assert_counted(tenant, books)


class TestPostgresStopped:
    """503 with Retry-After, soon; nobody needs to start the web server again."""

    def test_hanging_is_answered_in_time_and_recovered_from(self, product, tenant, books):
        web = {product.part("web"), *product.web_workers()}
        body = books.batch(50)

        with paused(product.server_processes("postgres")):
            refused = at_once(
                *(lambda: tenant.log(body) for _ in range(8)), tenant.costs, tenant.login
            )
            live, is_ready, *again = at_once(
                lambda: product.ask("GET", "/health/live"),
                lambda: ready(product),
                lambda: tenant.log(body),
                tenant.costs,
            )
        back_at = time.monotonic()
        repeated = tenant.log(body)

        for answer in refused + again:
            assert_unavailable(answer)
        assert live.status == 200
        assert live.duration_s < SENSIBLE_S
        assert (is_ready.status, is_ready.json["status"]) == (503, "unavailable")
        assert "database" in is_ready.json["degraded"]
        assert repeated.status in {200, 201}
        assert time.monotonic() - back_at < SENSIBLE_S
        assert {product.part("web"), *product.web_workers()} == web
        assert_counted(tenant, books)

    def test_dead_is_answered_in_time_and_recovered_from(self, product, tenant, books):
        web = {product.part("web"), *product.web_workers()}
        body = books.batch(50)

        with kept_down(product, "postgres"):
            wait_for(lambda: ready(product).status == 503, 20, what="PostgreSQL is missed")
            refused = at_once(
                *(lambda: tenant.log(body) for _ in range(8)), tenant.costs, tenant.login
            )
            live = product.ask("GET", "/health/live")
        wait_for(lambda: ready(product).status == 200, BACK_WITHIN_S, what="PostgreSQL is back")
        repeated = tenant.log(body)

        for answer in refused:
            assert_unavailable(answer)
        assert live.status == 200
        assert repeated.status in {200, 201}
        assert {product.part("web"), *product.web_workers()} == web
        assert_counted(tenant, books)

    def test_one_table_that_is_locked_for_long_holds_nobody_longer_than_his_statement(
        self, product, tenant, books
    ):
        body = books.batch(50)

        with product.database() as database:
            database.execute("BEGIN")
            database.execute("LOCK TABLE measurements.api_requests IN ACCESS EXCLUSIVE MODE")
            refused = tenant.log(body)
            live = ready(product)
        repeated = tenant.log(body)

        assert_unavailable(refused)
        assert live.status == 200
        assert repeated.status == 201
        assert_counted(tenant, books)


def ready(product: Product) -> Answer:
    return product.ask("GET", "/health/ready")


def try_passwords(product: Product, tenant: Tenant) -> Answer:
    """Return the answer of a route that allows few requests, to a body that it refuses."""
    return product.ask("POST", f"{API}/auth/change-password", {}, token=tenant.token)


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.code) == (503, "unavailable"), answer
    assert 1 <= int(answer.headers["retry-after"]) <= 10, answer
    assert answer.duration_s < 2 * SENSIBLE_S, answer
