"""HTTP of the feature. Every module with routes is imported here, so that it declares them."""

from __future__ import annotations

from app.auth.routes import accounts, factors, sessions, step_up  # noqa: F401
from app.auth.routes import api_keys as api_key_routes  # noqa: F401
from app.auth.routes import security as security_routes  # noqa: F401
from app.auth.routes.blueprint import api_keys, auth, security

__all__ = ["api_keys", "auth", "security"]
