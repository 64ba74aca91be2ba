"""Celery edges of the audit log: giving new rows their seals."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import current_app

from app.audit.seals import SealKeys
from app.audit.service.sealing import seal_waiting_rows
from app.kit.jobs import platform_task
from config import Config

HEADS_FOLDER = "audit"


@platform_task("audit.seal_events")
def seal_events() -> None:
    """Seal what requests wrote since the last time, and publish how far each chain goes."""
    config: Config = current_app.extensions["devguard"]
    seal_waiting_rows(
        key=SealKeys.of(config.audit_keys).current,
        folder=config.home / HEADS_FOLDER,
        now=datetime.now(UTC),
    )
