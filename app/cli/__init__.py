"""Table of contents: `flask ...` admin commands, each one service call - never SQL."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask

from app.api_gateway.service.catalogue_import import import_catalogue
from app.api_gateway.service.series import keep_api_requests
from app.cli import api_requests, audit, encryption, identity, jobs, prices


def register_commands(app: Flask) -> None:
    """Register every command group with the application."""
    app.cli.add_command(identity.users)
    app.cli.add_command(identity.organizations)
    app.cli.add_command(prices.prices)
    app.cli.add_command(api_requests.api_requests)
    app.cli.add_command(jobs.tasks)
    app.cli.add_command(encryption.keys)
    app.cli.add_command(audit.audit)


def after_upgrade(app: Flask) -> None:
    """Do what must follow the revisions: fill what the product ships with, make partitions."""
    with app.app_context():
        import_catalogue(now=datetime.now(UTC))
        keep_api_requests(now=datetime.now(UTC), config=app.extensions["devguard"])
