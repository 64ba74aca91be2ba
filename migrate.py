"""Bring the database to a revision: `python migrate.py init|migrate|upgrade|downgrade|current`.

Works on DATABASE_URL, else on the embedded PostgreSQL, which it starts for the duration when it does not run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import flask_migrate
from alembic.util import CommandError
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from app import cli, create_app
from app.embedded.borrowing import database
from app.embedded.exits import ExitCode, StartFault
from app.embedded.starting import read_config

FOLDER = str(Path(__file__).resolve().parent / "app" / "migrations")


@click.group(help=__doc__)
def main() -> None:
    """Group the commands."""


@main.command()
def init() -> None:
    """Make the folder of the revisions, where there is none."""
    _on_database(lambda _app: flask_migrate.init(directory=FOLDER))


@main.command()
@click.option("-m", "--message", required=True, help="what the revision does")
@click.option("--empty", is_flag=True, help="do not compare the models with the database")
def migrate(message: str, *, empty: bool) -> None:
    """Write a new revision: what the models have and the database has not."""
    make = flask_migrate.revision if empty else flask_migrate.migrate
    _on_database(lambda _app: make(directory=FOLDER, message=message))


@main.command()
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Go up to the newest revision, then bring what the code knows (prices, partitions) into the database."""

    def go_up(app: Flask) -> None:
        flask_migrate.upgrade(directory=FOLDER, revision=revision)
        cli.after_upgrade(app)

    _on_database(go_up)


@main.command()
@click.argument("revision", default="-1")
def downgrade(revision: str) -> None:
    """Go down, by one revision unless told otherwise."""
    _on_database(lambda _app: flask_migrate.downgrade(directory=FOLDER, revision=revision))


@main.command()
def current() -> None:
    """Print the revision of the database."""
    _on_database(lambda _app: flask_migrate.current(directory=FOLDER))


def _on_database(deed: Callable[[Flask], None]) -> None:
    try:
        config = read_config()
        with database(config):
            app = create_app(config)
            with app.app_context():
                deed(app)
    except StartFault as fault:
        _end(fault.code, fault)
    except (CommandError, SQLAlchemyError) as error:
        _end(ExitCode.MIGRATION_FAILED, error)


def _end(code: ExitCode, error: Exception) -> None:
    click.echo(f"DevGuard: {error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
