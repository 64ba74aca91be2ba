"""Table of contents: every mapped class, for Alembic and the shell - never imported by a feature."""

from __future__ import annotations

from app.api_gateway.models import prices as api_gateway_prices  # noqa: F401
from app.api_gateway.models import requests as api_gateway_models  # noqa: F401
from app.audit import models as audit_models  # noqa: F401
from app.auth import models as auth_models  # noqa: F401
from app.kit import idempotency_keys  # noqa: F401
from app.kit.encryption import models as encryption_models  # noqa: F401
from app.kit.jobs import models as jobs_models  # noqa: F401
from app.organizations import models as organizations_models  # noqa: F401
from app.projects import models as projects_models  # noqa: F401


def load() -> None:
    """Do nothing: importing this module mapped every class."""
