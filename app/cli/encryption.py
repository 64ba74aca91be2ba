"""`flask keys ...`: the keys under which customers' secrets are encrypted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import click
from flask.cli import AppGroup

from app.kit.encryption import reencryption, rotation
from app.kit.encryption.errors import EncryptionError
from app.kit.transactions import transaction

Answer = TypeVar("Answer")

keys = AppGroup("keys", help="The keys under which customers' secrets are encrypted.")


@keys.command("rotate-kek")
def rotate_kek() -> None:
    """Wrap every data key under the current key-encryption key; no field is touched."""
    done = _told(rotation.rotate_kek)
    click.echo(f"{done.rewrapped} data keys are now wrapped by {done.kek_id}")
    if done.lost:
        kids = ", ".join(str(kid) for kid in done.lost)
        raise click.ClickException(
            f"{len(done.lost)} stay behind, because no given key opens them "
            f"(DEVGUARD_ENCRYPTION_OLD_KEY): {kids}"
        )


@keys.command("rotate-data-key")
@click.option("--organization", "organization_id", required=True, type=click.UUID)
def rotate_data_key(organization_id: UUID) -> None:
    """Give an organization a new data key; what is stored is moved to it by a job."""
    with transaction():
        kid = _told(lambda: rotation.rotate_data_key(organization_id=organization_id))
    click.echo(f"data key {kid} encrypts from now on; stored values follow within minutes")


@keys.command("status")
@click.option("--organization", "organization_id", type=click.UUID, help="Its data keys, in full.")
def show_status(organization_id: UUID | None) -> None:
    """Show which key-encryption keys are in use, or the data keys of one organization."""
    if organization_id is not None:
        _show_organization(organization_id)
        return
    for kek in _told(rotation.wrapped_keys):
        click.echo(
            f"key-encryption key {kek.kek_id}  {kek.role:<7}  wraps {kek.active} active and "
            f"{kek.retired} retired data keys"
        )


def _show_organization(organization_id: UUID) -> None:
    stored = reencryption.values_by_key(organization_id)
    for key in rotation.keys_of_organization(organization_id=organization_id):
        state = "shredded" if key.shredded_at else "retired" if key.retired_at else "active"
        click.echo(
            f"{key.kid}  {state:<8}  made {key.created_at:%Y-%m-%d}  "
            f"wrapped by {key.kek_id or '-'}  {stored.get(key.kid.hex, 0)} values"
        )


def _told(deed: Callable[[], Answer]) -> Answer:
    try:
        return deed()
    except EncryptionError as error:
        raise click.ClickException(error.detail) from None
