"""`flask prices ...`: the built-in price list."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from app.api_gateway.service.catalogue_import import import_catalogue

prices = AppGroup("prices", help="The built-in price list.")


@prices.command("import")
def import_prices() -> None:
    """Bring the price list that ships with this release into the database; a second run adds nothing."""
    done = import_catalogue(now=datetime.now(UTC))
    click.echo(
        f"{done.added} prices added, {done.superseded} superseded, {done.unchanged} unchanged; "
        f"{done.rate_cards} rate cards added"
    )
