"""Celery edges of the feature: upkeep of rollups and of the time series."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import current_app

from app.api_gateway.service.rollups import compact_rollups as compact
from app.api_gateway.service.series import keep_api_requests
from app.extensions import db
from app.kit.jobs import platform_task


@platform_task("api_gateway.compact_rollups")
def compact_rollups() -> None:
    """Take the deltas of logged calls into the levels of the rollup."""
    compact(db.session())


@platform_task("api_gateway.keep_partitions")
def keep_partitions() -> None:
    """Make partitions ahead, drop those behind the retention, compress what is old."""
    keep_api_requests(now=datetime.now(UTC), config=current_app.extensions["devguard"])
