"""A client and its own books: what it logged, counted and summed without our code."""

from __future__ import annotations

import http.client
import json
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from tests.faults.product import API, Answer, Product, wait_for

# USD for a million tokens of gpt-4o, as its vendor lists them.
INPUT_PRICE = Decimal("2.50")
OUTPUT_PRICE = Decimal("10.00")
MILLION = Decimal(1_000_000)
GIVE_UP_AFTER_S = 120.0
# A worker that was killed in the middle of a compaction is noticed after 20 s.
COMPACTED_WITHIN_S = 90.0
BATCH_SIZE = 200
REQUESTS = f"{API}/api-gateway/requests"
ASK_FOR_COMPACTION = """
WITH asked AS (
    INSERT INTO outbox (id, topic, queue, payload, headers)
    VALUES (%s, 'api_gateway.compact_rollups', 'maintenance', '{}', '{}'))
SELECT pg_notify('devguard_outbox', '')
"""
LEVEL_TABLES = """
SELECT relname FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'api\\_rollup\\_%' AND relname NOT IN ('api_rollup_deltas', 'api_rollup_groups')
"""


@dataclass
class Tenant:
    """An organization with one project, its owner's token and its ingest key."""

    product: Product
    email: str
    password: str
    token: str
    project_id: str
    ingest_key: str

    @classmethod
    def register(cls, product: Product) -> Tenant:
        email, password = f"{secrets.token_hex(6)}@example.com", secrets.token_urlsafe(20)
        person = {"email": email, "password": password, "name": "Alice", "organization_name": "A"}
        token = _made(product.ask("POST", f"{API}/auth/register", person))["access_token"]
        project = _made(product.ask("POST", f"{API}/projects", {"name": "Shop"}, token=token))
        wanted = {"name": "shop", "kind": "ingest", "project_id": project["id"]}
        key = _made(product.ask("POST", f"{API}/api-keys", wanted, token=token))
        return cls(product, email, password, token, project["id"], key["key"])

    def raw_head(
        self, framing: str, *, media_type: str = "application/json", key: str = ""
    ) -> bytes:
        """Return the head of a log request, for a body that no decent client sends."""
        lines = (
            f"POST {REQUESTS} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            f"Authorization: Bearer {key or self.ingest_key}",
            f"Content-Type: {media_type}",
            framing,
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def login(self) -> Answer:
        typed = {"email": self.email, "password": self.password}
        return self.product.ask("POST", f"{API}/auth/login", typed)

    def log(self, body: Any, **headers: str) -> Answer:
        return self.product.ask("POST", REQUESTS, body, token=self.ingest_key, headers=headers)

    def costs(self) -> Answer:
        path = f"{API}/api-gateway/analytics/cost?project_id={self.project_id}"
        return self.product.ask("GET", path, token=self.token)

    def totals(self) -> tuple[int, Decimal]:
        """Return how many calls the analytics count, and their cost."""
        answer = self.costs()
        assert answer.status == 200, answer
        totals = answer.json["totals"]
        return totals["requests"], Decimal(totals["cost"])

    def stored(self) -> tuple[int, int, Decimal]:
        """Return from the table itself: rows, different ids, cost."""
        with self.product.database() as database:
            row = database.execute(
                "SELECT count(*), count(DISTINCT id), coalesce(sum(cost), 0) "
                "FROM measurements.api_requests WHERE project_id = %s",
                [self.project_id],
            ).fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    def levels(self) -> dict[str, tuple[int, Decimal]]:
        """Return what each level of the compacted rollup sums to: calls and cost."""
        with self.product.database() as database:
            return {
                table: database.execute(
                    f"SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(cost), 0) "
                    f"FROM {table} WHERE project_id = %s",
                    [self.project_id],
                ).fetchone()
                for (table,) in database.execute(LEVEL_TABLES)
            }

    def compact(self) -> None:
        """Ask for a compaction as the product itself does, in the outbox, and wait until all is taken in."""
        self.ask_for_compaction()
        wait_for(
            lambda: self.waiting_deltas() == 0,
            COMPACTED_WITHIN_S,
            what="the deltas are compacted",
            why=self.product.output,
        )

    def ask_for_compaction(self) -> None:
        with self.product.database() as database:
            database.execute(ASK_FOR_COMPACTION, [uuid4()])

    def waiting_deltas(self) -> int:
        """Return how many deltas the compaction has not yet taken in."""
        with self.product.database() as database:
            sql = "SELECT count(*) FROM api_rollup_deltas WHERE project_id = %s"
            row = database.execute(sql, [self.project_id]).fetchone()
        assert row is not None
        return int(row[0])


@dataclass
class Books:
    """What one client sent, by its own count; it knows nothing of what the server made of it."""

    prefix: str = field(default_factory=lambda: secrets.token_hex(4))
    seed: int = 1
    costs: dict[str, Decimal] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._began_at = datetime.now(UTC) - timedelta(hours=2)

    @property
    def totals(self) -> tuple[int, Decimal]:
        return len(self.costs), sum(self.costs.values(), Decimal(0))

    def batch(self, size: int) -> bytes:
        """Return the body of a batch of new calls, already in the books."""
        with self._lock:
            return as_batch([self._call() for _ in range(size)])

    def _call(self) -> dict[str, Any]:
        number = len(self.costs)
        given, made = self._chance.randint(1, 20_000), self._chance.randint(1, 4_000)
        call = {
            "id": f"{self.prefix}-{number}",
            "started_at": f"{self._began_at + timedelta(milliseconds=37 * number):%Y-%m-%dT%H:%M:%S.%fZ}",
            "duration_ms": self._chance.randint(50, 5_000),
            "provider": "openai",
            "request_model": "gpt-4o",
            "usage": {"input_tokens": given, "output_tokens": made},
            "attribution": {"team": self._chance.choice(("growth", "core", "search"))},
        }
        cost = (given * INPUT_PRICE + made * OUTPUT_PRICE) / MILLION
        if self._chance.random() < 0.3:
            # A stated cost wins over our price list.
            cost = Decimal(self._chance.randint(1, 10**12)) / 10**12
            call["cost"] = {"amount": f"{cost:f}", "source": "provider"}
        self.costs[call["id"]] = cost
        return call


@dataclass
class Stream:
    """Clients that log batch after batch, each retried with the same ids until it is answered."""

    tenant: Tenant
    books: Books
    answered: int = 0
    refused: int = 0
    cut: int = 0
    faults: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, clients: int = 3) -> Iterator[Stream]:
        """Keep the clients at work inside the block; afterwards every batch begun is answered."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join(GIVE_UP_AFTER_S + 10)
        assert not any(thread.is_alive() for thread in threads), "a client was left hanging"
        assert not self.faults, self.faults[:3]

    def wait_for_more(self, batches: int) -> None:
        """Wait until so many more batches were answered."""
        wanted = self.answered + batches
        wait_for(
            lambda: self.answered >= wanted or self.faults,
            GIVE_UP_AFTER_S,
            what=f"{batches} more batches are answered",
            why=self.tenant.product.output,
        )

    def _work(self) -> None:
        while not self._stopped.is_set() and not self.faults:
            body = self.books.batch(BATCH_SIZE)
            try:
                self._log(body)
            except Exception as error:  # noqa: BLE001 - shown by the test that waits for us
                self.faults.append(repr(error))

    def _log(self, body: bytes) -> None:
        deadline = time.monotonic() + GIVE_UP_AFTER_S
        while time.monotonic() < deadline:
            try:
                answer = self.tenant.log(body)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                self.cut += 1
                time.sleep(0.1)
                continue
            if answer.status in {200, 201}:
                self.answered += 1
                return
            assert (answer.status, answer.code) == (503, "unavailable"), answer
            assert int(answer.headers["retry-after"]) >= 1, answer
            self.refused += 1
            # A client in a hurry, harder on us than one that waits as long as it was told to.
            time.sleep(0.2)
        raise AssertionError("a batch was never answered")


def as_batch(calls: list[dict[str, Any]]) -> bytes:
    return json.dumps({"requests": calls}).encode()


def _made(answer: Answer) -> Any:
    assert answer.status == 201, answer
    return answer.json
