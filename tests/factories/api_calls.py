"""Logged calls as tests know them: payloads, own providers with prices, and the ways to send both."""

from __future__ import annotations

import gzip
import json
import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.api_gateway.service.rollups import compact_rollups
from app.kit.tenancy import system_session
from tests.factories import people
from tests.factories.people import Caller, KeyCaller, MadeProject, Person

API = "/api/v1/api-gateway"
NDJSON = "application/x-ndjson"
Call = dict[str, Any]

# An own provider in the wire form of POST /providers; tests/api_gateway/oracle.py reads the same.
# `thirds` has a price that does not terminate, `writer` a cliff at 200,000 input tokens.
ACME_LLM: dict[str, Any] = {
    "name": "acme-llm",
    "display_name": "Acme LLM",
    "currency": "USD",
    "prices": [
        {
            "model": "writer",
            "rates": {
                "input_tokens": {
                    "price": "3",
                    "per": 1_000_000,
                    "tiers": [{"over": 200_000, "price": "6"}],
                },
                "cache_read_input_tokens": {
                    "price": "0.3",
                    "per": 1_000_000,
                    "tiers": [{"over": 200_000, "price": "0.6"}],
                },
                "output_tokens": {
                    "price": "15",
                    "per": 1_000_000,
                    "tiers": [{"over": 200_000, "price": "22.5"}],
                },
            },
        },
        {
            "model": "thirds",
            "rates": {
                "input_tokens": {"price": "0.000002", "per": 3},
                "output_tokens": {"price": "0.000001", "per": 7},
            },
        },
        {"model": "gift", "free": True},
        {
            "model": "reader",
            "rates": {
                "requests": {"price": "0.001"},
                "pages": {"price": "0.002", "tiers": [{"over": 100, "price": "0.0015"}]},
            },
        },
        {"model": "per-call", "rates": {"requests": {"price": "0.004"}}},
    ],
}
EURO_LLM: dict[str, Any] = {
    "name": "euro-llm",
    "display_name": "Euro LLM",
    "currency": "EUR",
    "prices": [
        {
            "model": "ecrivain",
            "rates": {
                "input_tokens": {"price": "2", "per": 1_000_000},
                "output_tokens": {"price": "8", "per": 1_000_000},
            },
        }
    ],
}


@dataclass(frozen=True)
class Desk:
    """Somebody with a project and an ingest key for it."""

    owner: Person
    project: MadeProject
    key: KeyCaller


def make_desk(app: Flask) -> Desk:
    owner = people.register(app)
    project = people.make_project(owner)
    key = people.make_key(owner, app=app, kind="ingest", project_id=str(project.id))
    return Desk(owner, project, key)


class OneDesk:
    """Tests that leave nothing behind that the next would stumble on share one organization."""

    @pytest.fixture(scope="class")
    @classmethod
    def desk(cls, app: Flask) -> Desk:
        return make_desk(app)

    @pytest.fixture
    def alice(self, desk: Desk) -> Person:
        return desk.owner

    @pytest.fixture
    def project(self, desk: Desk) -> MadeProject:
        return desk.project

    @pytest.fixture
    def ingest_key(self, desk: Desk) -> KeyCaller:
        return desk.key


def wire(moment: datetime) -> str:
    """Return the moment as RFC 3339 UTC with six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ago(**duration: float) -> str:
    """Return the moment so long ago as it travels."""
    return wire(datetime.now(UTC) - timedelta(**duration))


def api_call(**fields: Any) -> Call:
    """Return one call of an hour ago with an id of its own; a field given as None is left out."""
    call: Call = {
        "id": secrets.token_hex(8),
        "started_at": ago(hours=1),
        "provider": "openai",
        "request_model": "gpt-4o",
        "duration_ms": 812,
        "usage": {"input_tokens": 2006, "cache_read_input_tokens": 1920, "output_tokens": 300},
        **fields,
    }
    return {name: value for name, value in call.items() if value is not None}


def send(
    caller: Caller,
    body: Any,
    *,
    query: str = "",
    content_type: str = "application/json",
    **more: Any,
) -> TestResponse:
    """Send a body, as it stands when it is bytes, as JSON otherwise."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return caller.post(f"{API}/requests{query}", data=raw, content_type=content_type, **more)


def send_batch(caller: Caller, calls: Iterable[Call], **more: Any) -> TestResponse:
    return send(caller, {"requests": list(calls)}, **more)


def send_lines(caller: Caller, calls: Iterable[Call], **more: Any) -> TestResponse:
    lines = b"\n".join(json.dumps(call).encode() for call in calls)
    return send(caller, lines, content_type=NDJSON, **more)


def send_gzip(caller: Caller, body: Any) -> TestResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(caller, gzip.compress(raw), headers={"Content-Encoding": "gzip"})


def logged(caller: Caller, calls: Sequence[Call], *, size: int = 500) -> None:
    """Log all of them in batches; each must be new."""
    for start in range(0, len(calls), size):
        answer = send_batch(caller, calls[start : start + size])
        assert answer.status_code == 201, answer.text
        assert answer.json["accepted"] == len(calls[start : start + size]), answer.text


def compact_all(app: Flask) -> None:
    """Take every delta into the levels, those of other tests too."""
    is_last = False
    while not is_last:
        with app.app_context(), system_session() as session:
            is_last = compact_rollups(session).is_last


def make_provider(owner: Caller, provider: Mapping[str, Any]) -> None:
    answer = owner.post(f"{API}/providers", json=dict(provider))
    assert answer.status_code == 201, answer.text


def all_pages(caller: Caller, query: str) -> list[dict[str, Any]]:
    """Return the calls of every page of GET /requests."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = caller.get(f"{API}/requests?{query}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status_code == 200, answer.text
        items += answer.json["items"]
        cursor = answer.json["next_cursor"]
    return items


def mixed_calls(moments: Iterable[datetime], *, seed: int = 0) -> list[Call]:
    """Return a call for each moment: every status, outcome and currency, in all dimensions."""
    chance = random.Random(seed)
    return [_mixed_call(chance, number, moment) for number, moment in enumerate(moments)]


def _mixed_call(chance: random.Random, number: int, moment: datetime) -> Call:
    provider, model = chance.choice(
        (
            ("acme-llm", "writer"), ("acme-llm", "writer"), ("acme-llm", "writer"),
            ("acme-llm", "thirds"), ("acme-llm", "gift"), ("acme-llm", "per-call"),
            ("acme-llm", "mystery"), ("euro-llm", "ecrivain"), ("nobody", "nothing"),
        )
    )  # fmt: skip
    total = chance.choice((0, 1, 86, 2006, 200_000, 200_001, 350_000))
    output = chance.choice((0, 1, 7, 300, 4_001))
    is_stream = chance.random() < 0.5
    call = api_call(
        id=f"mixed-{number}",
        started_at=wire(moment),
        provider=provider,
        request_model=model,
        operation=chance.choice((None, "chat", "embeddings")),
        outcome=chance.choice(
            (None, None, None, "success", "error", "error", "timeout", "cancelled")
        ),
        # Whole microseconds, as they are kept.
        duration_ms=chance.choice(
            (None, round(chance.uniform(1, 40), 3), round(chance.uniform(100, 9_000), 3))
        ),
        stream=is_stream or None,
        time_to_first_chunk_ms=chance.choice((None, chance.uniform(5, 900))),
        attempt=chance.choice((None, None, 1, 2, 3)),
        cache_hit=chance.random() < 0.1 or None,
        usage={
            "input_tokens": total,
            "cache_read_input_tokens": chance.randint(0, total),
            "output_tokens": output,
            "reasoning_output_tokens": chance.randint(0, output),
        },
        attribution={
            "team": chance.choice((None, "growth", "core")),
            "environment": chance.choice((None, "prod", "test")),
        },
    )
    if model != "writer":
        # Only `writer` has a rate for what the cache gave; the others carry it in the whole.
        del call["usage"]["cache_read_input_tokens"]
    if chance.random() < 0.15:
        del call["usage"]
    if chance.random() < 0.15:
        call["cost"] = {
            "amount": str(chance.choice(("0", "0.0033475", "0.000000000001", "12.5"))),
            "currency": chance.choice(("USD", "USD", "EUR")),
            "source": chance.choice(("provider", "provider", "client")),
        }
    elif model == "writer" and "usage" in call and chance.random() < 0.1:
        call["pricing_context"] = {"service_tier": "turbo"}
    return call
