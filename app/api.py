"""Table of contents: every blueprint with its URL prefix - never a handler."""

from __future__ import annotations

from flask import Flask

from app.api_gateway import routes as api_gateway
from app.audit import routes as audit
from app.auth import routes as auth
from app.auth.authenticator import authenticate
from app.kit import health, openapi
from app.kit.endpoint import REGISTRY
from app.projects import routes as projects

API = "/api/v1"


def register_blueprints(app: Flask) -> None:
    """Register every blueprint under its prefix."""
    REGISTRY.authenticator = authenticate
    app.register_blueprint(health.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(auth.auth, url_prefix=f"{API}/auth")
    app.register_blueprint(auth.api_keys, url_prefix=f"{API}/api-keys")
    app.register_blueprint(auth.security, url_prefix=f"{API}/security")
    app.register_blueprint(audit.blueprint, url_prefix=f"{API}/audit")
    app.register_blueprint(projects.blueprint, url_prefix=f"{API}/projects")
    app.register_blueprint(api_gateway.blueprint, url_prefix=f"{API}/api-gateway")
