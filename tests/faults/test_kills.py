"""Parts of the product are killed (-9) while clients log calls; the clients repeat what was not answered."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPException

import pytest

from tests.faults.books import Books, Stream, Tenant, as_batch
from tests.faults.product import Answer, Product, at_once, kill, wait_for

pytestmark = pytest.mark.faults

WRITING = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query LIKE '%%api_requests%%' AND pid <> pg_backend_pid()
"""


def assert_exact(tenant: Tenant, books: Books) -> None:
    """The analytics, the rows and, after a compaction, each level say what the client's own books say."""
    count, cost = books.totals
    assert tenant.totals() == (count, cost)
    assert tenant.stored() == (count, count, cost)
    tenant.compact()
    assert tenant.totals() == (count, cost)
    levels = tenant.levels()
    assert len(levels) >= 3
    assert set(levels.values()) == {(count, cost)}


@contextmanager
def held_writes(product: Product) -> Iterator[None]:
    """Let every batch wait inside the block in the middle of its transaction, right before it writes."""
    with product.database() as database:
        database.execute("BEGIN")
        database.execute("LOCK TABLE measurements.api_requests IN EXCLUSIVE MODE")
        yield


def wait_until_held(product: Product, batches: int) -> None:
    with product.database() as database:
        wait_for(
            lambda: database.execute(WRITING).fetchone() == (batches,),
            20,
            what=f"{batches} batches wait in the middle of their transactions",
            why=product.output,
        )


class TestKill:
    def test_of_a_web_worker_loses_and_doubles_nothing(self, product, tenant, books):
        stream = Stream(tenant, books)

        with stream.running():
            stream.wait_for_more(5)
            victim = product.web_workers()[0]
            kill([victim])
            stream.wait_for_more(10)
            wait_for(lambda: len(product.web_workers()) == 2, 60, what="two web workers")

        assert victim not in product.web_workers()
        assert_exact(tenant, books)

    @pytest.mark.parametrize("part", ["web", "worker", "postgres", "redis"])
    def test_of_a_part_loses_and_doubles_nothing(self, product, tenant, books, part):
        stream = Stream(tenant, books)

        with stream.running():
            stream.wait_for_more(5)
            victim = product.part(part)
            kill([victim])
            product.part(part, other_than=victim)
            stream.wait_for_more(10)

        if part == "postgres":
            assert stream.refused > 0
        if part in {"worker", "redis"}:
            assert (stream.refused, stream.cut) == (0, 0)
        assert_exact(tenant, books)

    @pytest.mark.parametrize("part", ["web", "postgres"])
    def test_in_the_middle_of_a_transaction_keeps_nothing_of_the_batch(
        self, product, tenant, books, part
    ):
        body = books.batch(500)

        with ThreadPoolExecutor(1) as client:
            try:
                with held_writes(product):
                    cut = client.submit(tenant.log, body)
                    wait_until_held(product, batches=1)
                    victims = product.web_workers() if part == "web" else [product.part(part)]
                    kill(victims)
                    refused = _status_or_cut(cut)
            # The connection that held the writes dies with PostgreSQL.
            except Exception:
                if part == "web":
                    raise
                refused = _status_or_cut(cut)
        wait_for(product.is_ready, 90, what="it is ready again", why=product.output)
        kept = tenant.stored()
        repeated = tenant.log(body)

        assert refused in {"cut", 503}
        assert kept == (0, 0, Decimal(0))
        assert (repeated.status, repeated.json["accepted"]) == (201, 500)
        assert_exact(tenant, books)

    def test_of_the_client_behind_its_batch_counts_the_repeated_one_once(
        self, product, tenant, books
    ):
        body = books.batch(500)

        with product.connect() as connection:
            connection.sendall(tenant.raw_head(f"Content-Length: {len(body)}") + body)
        wait_for(lambda: tenant.stored()[0] == 500, 30, what="the batch is stored")
        repeated = tenant.log(body)

        assert (repeated.status, repeated.json["accepted"]) == (200, 0)
        assert repeated.json["duplicates"] == 500
        assert_exact(tenant, books)

    def test_of_everything_is_recovered_from_by_the_next_start(self, product, tenant, books):
        stream = Stream(tenant, books)
        past = len(product.log("postgres"))

        with stream.running():
            stream.wait_for_more(5)
            product.kill_everything()
            product.start()
            stream.wait_for_more(10)

        assert "automatic recovery in progress" in product.log("postgres")[past:]
        assert stream.cut > 0
        assert_exact(tenant, books)


def _status_or_cut(answer: Future[Answer]) -> int | str:
    try:
        return answer.result(60).status
    except (OSError, HTTPException):
        return "cut"


class TestStop:
    def test_answers_what_is_under_way_and_ends_in_order(self, product, tenant, books):
        past = len(product.log("postgres"))
        slow = books.batch(100)

        with ThreadPoolExecutor(4) as clients, product.connect() as connection:
            with held_writes(product):
                writing = [clients.submit(tenant.log, books.batch(100)) for _ in range(4)]
                wait_until_held(product, batches=4)
                connection.sendall(tenant.raw_head(f"Content-Length: {len(slow)}") + slow[:1000])
                time.sleep(0.3)
                product.process.send_signal(signal.SIGTERM)
                time.sleep(1)
            connection.sendall(slow[1000:])
            answer = connection.makefile("rb").read()
            code = product.process.wait(60)
            answered = [future.result(60).status for future in writing]
        product.start()

        assert answered == [201] * 4
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert code == 0
        log = product.log("postgres")[past:]
        assert "database system is shut down" in log
        assert "recovery" not in log
        assert_exact(tenant, books)

    def test_in_the_middle_of_a_stream_loses_and_doubles_nothing(self, product, tenant, books):
        stream = Stream(tenant, books)

        with stream.running():
            stream.wait_for_more(5)
            code = product.stop()
            product.start()
            stream.wait_for_more(5)

        assert code == 0
        assert_exact(tenant, books)


class TestLogApiRequests:
    def test_counts_each_call_once_when_eight_clients_send_the_same_ones(
        self, product, tenant, books
    ):
        calls = json.loads(books.batch(3_000))["requests"]
        answers: list[Answer] = []
        kept = threading.Lock()

        def send_all(seed: int) -> Answer:
            shuffled = random.Random(seed).sample(calls, len(calls))
            for first in range(0, len(shuffled), 300):
                answer = tenant.log(as_batch(shuffled[first : first + 300]))
                with kept:
                    answers.append(answer)
            return answer

        at_once(*(lambda seed=seed: send_all(seed) for seed in range(8)))

        assert len(product.web_workers()) == 2
        assert {answer.status for answer in answers} <= {200, 201}
        assert sum(answer.json["accepted"] for answer in answers) == 3_000
        assert sum(answer.json["duplicates"] for answer in answers) == 7 * 3_000
        assert_exact(tenant, books)
