"""Is this process alive, may it be given work, and what is degraded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy.exc
from flask import Blueprint, Response, current_app
from redis import Redis, RedisError
from sqlalchemy import text

from app.extensions import db
from app.kit.endpoint import endpoint
from app.kit.patience import silent_at_most
from app.kit.payload import View
from app.kit.rate_limits import RateClass

blueprint = Blueprint("health", __name__)
# A balancer asks often and gives up early.
DATABASE_SILENCE_S = 2.0
PUBLIC = "load balancers and people ask before they have a credential; the answer names parts only"


@dataclass(frozen=True, slots=True)
class PartState:
    """Whether one part answered, and how long that took in milliseconds."""

    name: str
    is_up: bool
    duration_ms: float


class LiveView(View):
    status: str


class ReadyView(View):
    """`ready`: all parts answer. `degraded`: Redis is down, work waits in the outbox. `unavailable`: no database."""

    status: str
    degraded: list[str]


class HealthView(ReadyView):
    version: str
    parts: dict[str, Any]


@endpoint(
    blueprint,
    "GET",
    "/health/live",
    public=PUBLIC,
    rate=RateClass.UNLIMITED,
    answers={200: LiveView},
)
def show_liveness() -> Response:
    """Say that this process runs.

    Touches no other part: a restart would not repair those.
    """
    return _answer(LiveView(status="live"), status=200)


@endpoint(
    blueprint,
    "GET",
    "/health/ready",
    public=PUBLIC,
    rate=RateClass.UNLIMITED,
    answers={200: ReadyView, 503: ReadyView},
)
def show_readiness() -> Response:
    """Say whether this process may be given work, and what is degraded."""
    states = [_database_state(), _redis_state()]
    return _answer(ReadyView(**_summary(states)), status=200 if states[0].is_up else 503)


@endpoint(
    blueprint,
    "GET",
    "/health",
    public=PUBLIC,
    rate=RateClass.UNLIMITED,
    answers={200: HealthView, 503: HealthView},
)
def show_health() -> Response:
    """Say how each part does, for people."""
    states = [_database_state(), _redis_state()]
    parts = {
        state.name: {"up": state.is_up, "duration_ms": round(state.duration_ms, 2)}
        for state in states
    }
    view = HealthView(**_summary(states), version=str(current_app.config["VERSION"]), parts=parts)
    return _answer(view, status=200 if states[0].is_up else 503)


def _summary(states: list[PartState]) -> dict[str, Any]:
    degraded = [state.name for state in states if not state.is_up]
    if "database" in degraded:
        return {"status": "unavailable", "degraded": degraded}
    return {"status": "degraded" if degraded else "ready", "degraded": degraded}


def _database_state() -> PartState:
    began = time.perf_counter()
    try:
        with silent_at_most(DATABASE_SILENCE_S), db.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError):
        return PartState("database", is_up=False, duration_ms=(time.perf_counter() - began) * 1000)
    return PartState("database", is_up=True, duration_ms=(time.perf_counter() - began) * 1000)


def _redis_state() -> PartState:
    began = time.perf_counter()
    client: Redis = current_app.extensions["redis"]
    try:
        client.ping()
    except (RedisError, OSError):
        return PartState("redis", is_up=False, duration_ms=(time.perf_counter() - began) * 1000)
    return PartState("redis", is_up=True, duration_ms=(time.perf_counter() - began) * 1000)


def _answer(view: View, *, status: int) -> Response:
    response = Response(view.model_dump_json(), status=status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
