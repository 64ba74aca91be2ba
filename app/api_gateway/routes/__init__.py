"""HTTP in and out of the feature: what calls to paid APIs cost, and how long they take."""

from __future__ import annotations

from app.api_gateway.routes import analytics, providers, requests
from app.api_gateway.routes.blueprint import blueprint

__all__ = ["analytics", "blueprint", "providers", "requests"]
