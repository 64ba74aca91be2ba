"""The guards of attempts, made of the settings and of from where the request comes."""

from __future__ import annotations

from uuid import UUID

from flask import current_app, request

from app.auth.allowances import password_allowances
from app.auth.service.throttle import Guard
from config import Config


def settings() -> Config:
    """Return the settings of this process."""
    config: Config = current_app.extensions["devguard"]
    return config


def password_guard(*, device_token: str | None = None, session_id: UUID | None = None) -> Guard:
    """Return what counts wrong passwords of this request."""
    return Guard(
        allowances=password_allowances(settings()),
        secret=settings().secret_key,
        ip=request.remote_addr,
        device_token=device_token,
        session_id=session_id,
    )
