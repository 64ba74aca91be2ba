"""Runs the revisions as role dg_owner, one transaction each, under one lock for all hosts."""

from __future__ import annotations

from alembic import context
from flask import current_app
from sqlalchemy import NullPool, create_engine, text

# Any constant will do; two hosts that migrate at once take turns by it.
MIGRATION_LOCK = 7_235_011


def run() -> None:
    """Run the revisions on the database of the current application."""
    url = current_app.config["SQLALCHEMY_DATABASE_URI"]
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=current_app.extensions["migrate"].db.metadata,
            transaction_per_migration=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit("migrations need a database: they ask it which engine it has")
run()
