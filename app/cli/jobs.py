"""`flask tasks ...`: what waits, what was given up, and what to do about it."""

from __future__ import annotations

import json
from importlib import import_module
from uuid import UUID

import click
from flask.cli import with_appcontext

from app.kit.errors import NotFound
from app.kit.jobs import dead_letters, drain


@click.group("tasks")
def tasks() -> None:
    """Background tasks: what waits, what was given up."""


@tasks.command("waiting")
@with_appcontext
def list_waiting() -> None:
    """Show what was asked for and has not ended, by task."""
    for row in dead_letters.list_waiting():
        age_s = int(row.oldest.total_seconds())
        click.echo(
            f"{row.task}  {row.messages} waiting, oldest {age_s} s  {row.last_error or ''}".rstrip()
        )


@tasks.command("dead")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--task", default=None, help="Only this task, by its full name.")
@with_appcontext
def list_dead(limit: int, task: str | None) -> None:
    """Show the tasks that were given up, newest first."""
    for row in dead_letters.list_dead(limit=limit, task=task):
        click.echo(
            f"{row.id}  {row.died_at:%Y-%m-%d %H:%M:%S}Z  {row.task}  {row.reason}  "
            f"organization={row.organization_id or '-'}  {json.dumps(row.payload)}  {row.last_error or ''}".rstrip()
        )


@tasks.command("replay")
@click.argument("dead_id", type=click.UUID)
@with_appcontext
def replay_dead(dead_id: UUID) -> None:
    """Ask again for a task that was given up."""
    try:
        message_id = dead_letters.replay_dead(dead_id)
    except NotFound as error:
        raise click.ClickException(error.detail) from None
    click.echo(f"asked for again as {message_id}")


@tasks.command("discard")
@click.argument("dead_id", type=click.UUID)
@with_appcontext
def discard_dead(dead_id: UUID) -> None:
    """Forget for good a task that was given up."""
    try:
        dead_letters.discard_dead(dead_id)
    except NotFound as error:
        raise click.ClickException(error.detail) from None
    click.echo(f"discarded {dead_id}")


@tasks.command("run")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@with_appcontext
def run_waiting(limit: int) -> None:
    """Run what waits here and now, without Redis and workers."""
    # For what it declares, and by name: tables of contents do not import each other.
    import_module("app.tasks")
    click.echo(f"{drain.run_waiting(limit=limit)} run")
