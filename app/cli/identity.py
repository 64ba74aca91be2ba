"""`flask users ...` and `flask organizations ...`: what only the operator at the console may do."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from flask import current_app
from flask.cli import AppGroup

from app.audit.context import operator
from app.auth.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, PasswordHasher
from app.auth.service import accounts
from app.auth.service.accounts import Registration
from app.kit.errors import DevGuardError
from app.kit.tenancy import leave_organization
from app.kit.transactions import transaction
from app.organizations.emails import normalised_email
from app.organizations.queries import organizations_overview

users = AppGroup("users", help="People of this installation.")
organizations = AppGroup("organizations", help="Organizations of this installation.")
OPERATOR = operator("flask command")


@users.command("create")
@click.option("--email", required=True)
@click.option("--name", required=True)
@click.option("--organization-name", required=True, help="The organization that he will own.")
@click.password_option(help="Asked for when not given; a command line is seen by others.")
def create_user(email: str, name: str, organization_name: str, password: str) -> None:
    """Register a person and found his organization, also where registration is closed."""
    registration = Registration(
        email=_email(email),
        password=_password(password),
        name=name,
        organization_name=organization_name,
    )
    try:
        with transaction():
            proven = accounts.register_account(
                registration=registration,
                hasher=_hasher(),
                doer=OPERATOR,
                ip=None,
                now=datetime.now(UTC),
            )
    except DevGuardError as error:
        raise click.ClickException(error.detail) from None
    finally:
        leave_organization()
    click.echo(f"user {proven.user_id} owns organization {proven.organization_id}")


@users.command("reset-password")
@click.option("--email", required=True)
@click.password_option(help="Asked for when not given; a command line is seen by others.")
def reset_password(email: str, password: str) -> None:
    """Give a person a new password and end all his sessions."""
    try:
        with transaction():
            accounts.reset_password(
                email=_email(email),
                password=_password(password),
                hasher=_hasher(),
                doer=OPERATOR,
                now=datetime.now(UTC),
            )
    except DevGuardError as error:
        raise click.ClickException(error.detail) from None
    finally:
        leave_organization()
    click.echo("the password is changed and every session has ended")


@users.command("reset-mfa")
@click.option("--email", required=True)
def reset_mfa(email: str) -> None:
    """Take the second factor from a person who lost app and recovery codes; ends his sessions."""
    try:
        with transaction():
            accounts.reset_factor(email=_email(email), doer=OPERATOR)
    except DevGuardError as error:
        raise click.ClickException(error.detail) from None
    finally:
        leave_organization()
    click.echo("the second factor is gone and every session has ended")


@organizations.command("list")
def list_organizations() -> None:
    """List every organization with its number of members."""
    for row in organizations_overview():
        created = row.created_at.strftime("%Y-%m-%d")
        click.echo(f"{row.organization_id}  {created}  {row.members:>5}  {row.name}")


def _hasher() -> PasswordHasher:
    return PasswordHasher.of(current_app.extensions["devguard"])


def _email(text: str) -> str:
    try:
        return normalised_email(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--email") from None


def _password(text: str) -> str:
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD:
        raise click.BadParameter(
            f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters",
            param_hint="--password",
        )
    return text
