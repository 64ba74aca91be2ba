"""Analytics from rollups against the same questions asked of the raw rows, at 1 and 10 million calls.

Fills two projects with 30 days of calls, 1 and 10 million, on one embedded server, lets the product's
own compaction build the rollups, and asks both projects, through the service that the routes call:
cost by model by day, and p95 of the duration by model. The raw side is plain SQL through the guard view.
Answers are compared first: cost must be equal to the last digit, p95 within 2 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sqlalchemy import text  # noqa: E402

from app.embedded.postgres import start_postgres  # noqa: E402

GROUPS = """
INSERT INTO api_rollup_groups
    (organization_id, project_id, provider, model, operation, environment, team, outcome, currency)
SELECT :organization, :project, 'provider-' || m % 3, 'model-' || m, 'chat', e, t, o, 'USD'
FROM generate_series(0, 7) AS m, unnest(ARRAY['prod', 'staging']) AS e,
     unnest(ARRAY['growth', 'core']) AS t, unnest(ARRAY['success', 'error']) AS o
"""
# Long-tailed durations (log-normal, by Box-Muller) and 2 % errors, spread evenly over the 30 days.
ROWS = """
INSERT INTO measurements.api_requests (
    organization_id, project_id, started_at, id, group_id, payload_hash, provider, model, operation,
    outcome, environment, team, stream, cache_hit, attempt, duration_us, duration_bin, usage_source,
    input_tokens, cache_read_input_tokens, output_tokens, pricing_status, cost, computed_cost, currency)
SELECT :organization, :project, at, 'c' || n, g.id, n, g.provider, g.model, 'chat', g.outcome,
       g.environment, g.team, false, false, 1, us,
       ceil(ln(us / 1000.0) / ln(1.02 / 0.98)), 'provider', i, i / 2, o, 'computed',
       (i * 2.5 + o * 10) / 1000000.0, (i * 2.5 + o * 10) / 1000000.0, 'USD'
FROM (
    SELECT n, CAST(:start AS timestamptz) + n * (INTERVAL '30 days' / :count) AS at,
           (random() * 7)::int AS m, random() AS e, random() AS t, random() AS f,
           (exp(6.5 + 0.8 * sqrt(-2 * ln(1 - random())) * cos(6.2831853 * random())) * 1000)::bigint AS us,
           (200 + random() * 5000)::bigint AS i, (10 + random() * 900)::bigint AS o
    FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS n
) AS calls
JOIN api_rollup_groups AS g
  ON g.project_id = :project AND g.model = 'model-' || calls.m
 AND g.environment = CASE WHEN e < 0.8 THEN 'prod' ELSE 'staging' END
 AND g.team = CASE WHEN t < 0.5 THEN 'growth' ELSE 'core' END
 AND g.outcome = CASE WHEN f < 0.02 THEN 'error' ELSE 'success' END
"""
RAW_COST = """
SELECT model, date_trunc('day', started_at) AS day, sum(cost) AS cost, count(*) AS requests
FROM api_requests
WHERE project_id = :project AND started_at >= :start AND started_at < :end
GROUP BY 1, 2
"""
RAW_P95 = """
SELECT model, percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_us) / 1000.0 AS p95
FROM api_requests
WHERE project_id = :project AND started_at >= :start AND started_at < :end AND outcome = 'success'
GROUP BY 1
"""
SLICE = 250_000


def fill(organization: UUID, project: UUID, *, count: int, start: datetime) -> None:
    """Write the calls and what they add to the rollups, slice by slice, and compact."""
    from app.api_gateway.service import rollup_sql
    from app.api_gateway.service.rollups import compact_rollups
    from app.kit.tenancy import system_session

    names = {"organization": organization, "project": project, "start": start, "count": count}
    with system_session() as session:
        session.execute(text(GROUPS), names)
    columns = ", ".join(rollup_sql.COLUMNS)
    for low in range(0, count, SLICE):
        high = min(low + SLICE, count) - 1
        bounds = {
            "project": project,
            "from": start + low * timedelta(days=30) / count,
            "to": start + (high + 1) * timedelta(days=30) / count,
        }
        with system_session() as session:
            session.execute(text("SET LOCAL synchronous_commit = off"))
            session.execute(text(ROWS), {**names, "low": low, "high": high})
            rows = (
                "(SELECT * FROM measurements.api_requests WHERE project_id = :project "
                "AND started_at >= :from AND started_at < :to) AS fresh"
            )
            cells = rollup_sql.cells_of_rows(rows)
            session.execute(text(f"INSERT INTO api_rollup_deltas ({columns}) {cells}"), bounds)
        with system_session() as session:
            compact_rollups(session)
        print(f"\r  {high + 1:,} of {count:,} calls", end="", flush=True)
    print()


def analyze() -> None:
    """Tell the planner what is there, once all is filled: between fills it would plan for one project only."""
    from app.kit.tenancy import owner_session

    with owner_session() as session:
        for table in (
            "measurements.api_requests",
            "api_rollup_15m",
            "api_rollup_1h",
            "api_rollup_1d",
        ):
            session.execute(text(f"ANALYZE {table}"))


def timed(question: Callable[[], Any], *, times: int) -> tuple[float, Any]:
    """Return the median seconds and the last answer."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        answer = question()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), answer


def measure(project: UUID, *, start: datetime, label: str) -> dict[str, float]:
    """Ask both sides, check that they agree, print and return our medians in seconds."""
    from app.api_gateway.covering import Interval
    from app.api_gateway.service.analytics import Question, cost_analytics, latency_analytics
    from app.extensions import db
    from app.kit.time_window import TimeWindow

    window = TimeWindow(start, start + timedelta(days=30))

    def question(interval: Interval | None) -> Question:
        return Question(
            project_id=project, window=window, interval=interval, timezone="UTC",
            group_by=("model",), filters={}, limit=100, now=datetime.now(UTC),
        )  # fmt: skip

    def ask(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            answer = call()
            db.session.rollback()
            return answer

        return run

    names = {"project": project, "start": window.start, "end": window.end}
    ours_cost, cost = timed(
        ask(lambda: cost_analytics(question=question(Interval.DAY), currency="USD")), times=15
    )
    raw_cost, rows = timed(ask(lambda: db.session.execute(text(RAW_COST), names).all()), times=3)
    said = {
        (group.keys["model"], step.start): (group.cost, group.requests)
        for step in cost.series
        for group in step.groups
    }
    assert said == {(row.model, row.day): (row.cost, row.requests) for row in rows}, "cost differs"
    ours_p95, latency = timed(ask(lambda: latency_analytics(question=question(None))), times=15)
    raw_p95, rows = timed(ask(lambda: db.session.execute(text(RAW_P95), names).all()), times=3)
    for row in rows:
        (group,) = (g for g in latency.groups if g.keys["model"] == row.model)
        assert group.duration_ms.p95 is not None
        error = abs(Decimal(group.duration_ms.p95) / row.p95 - 1)
        assert error <= Decimal("0.0201"), f"p95 of {row.model} is {error:.4f} off"
    print(
        f"{label}: cost by model by day {ours_cost * 1e3:7.1f} ms, raw rows {raw_cost * 1e3:9.1f} ms, "
        f"{raw_cost / ours_cost:6.0f} times quicker"
    )
    print(
        f"{label}: p95 by model         {ours_p95 * 1e3:7.1f} ms, raw rows {raw_p95 * 1e3:9.1f} ms, "
        f"{raw_p95 / ours_p95:6.0f} times quicker"
    )
    return {"cost": ours_cost, "p95": ours_p95}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="devguard-bench-") as folder:
        home = Path(folder).resolve()
        home.chmod(0o755)
        server = start_postgres(home)
        try:
            _run(home, small=arguments.small, large=arguments.large)
        finally:
            server.stop()


def _run(home: Path, *, small: int, large: int) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    os.environ |= {"DEVGUARD_HOME": str(home), "DEVGUARD_LOG_LEVEL": "WARNING"}
    from flask_migrate import upgrade

    from app import create_app
    from app.cli import after_upgrade
    from app.extensions import db
    from app.kit.tenancy import organization_scope, system_session

    app = create_app()
    with app.app_context():
        upgrade(directory=str(ROOT / "app" / "migrations"))
    after_upgrade(app)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=30)
    organization, projects = uuid4(), {small: uuid4(), large: uuid4()}
    with app.app_context():
        with system_session() as session:
            session.execute(
                text("INSERT INTO organizations (id, name, created_at) VALUES (:id, 'b', now())"),
                {"id": organization},
            )
            for count, project in projects.items():
                session.execute(
                    text(
                        "INSERT INTO projects (id, organization_id, name, slug, description, "
                        "environments, version, created_at, updated_at) VALUES (:id, :organization, "
                        ":slug, :slug, '', '{}', 1, now(), now())"
                    ),
                    {"id": project, "organization": organization, "slug": f"calls-{count}"},
                )
        for count, project in projects.items():
            fill(organization, project, count=count, start=start)
        analyze()
        with organization_scope(organization):
            few = measure(projects[small], start=start, label=f"{small:>10,} calls")
            many = measure(projects[large], start=start, label=f"{large:>10,} calls")
        db.engine.dispose()
    print(
        f"{large / small:.0f} times the calls: cost {many['cost'] / few['cost']:.2f} times slower, "
        f"p95 {many['p95'] / few['p95']:.2f} times slower (targets: 100 times quicker at the large "
        "size, at most 1.3 times slower)"
    )


if __name__ == "__main__":
    main()
