"""`flask audit ...`: whether the log of who did what is still what was written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
from flask import current_app
from flask.cli import AppGroup

from app.audit.seals import SealKeys
from app.audit.service.heads import BrokenHeads, published_seals
from app.audit.service.sealing import seal_waiting_rows
from app.audit.service.verification import Finding, verify_log
from app.audit.tasks import HEADS_FOLDER
from config import Config

audit = AppGroup("audit", help="The log of who did what.")


@audit.command("verify")
@click.option("--organization", type=click.UUID, help="Only this one; default: all of them.")
@click.option(
    "--heads",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder with published heads; default: that of this installation.",
)
def verify(organization: UUID | None, heads: Path | None) -> None:
    """Walk every chain and name the first row of each that is not what was sealed.

    Ends with 1 when something is wrong. Keep copies of the published heads (the folder `audit` of
    DEVGUARD_HOME, or the lines `audit_head` of the worker's log) where the administrator of the database
    has no access: without a head a tail that was cut off is not missed.
    """
    keys = SealKeys.of(_config().audit_keys)
    try:
        published = published_seals(folder=heads or _folder(), keys=keys)
    except BrokenHeads as error:
        raise click.ClickException(f"the published heads were tampered with: {error}") from None
    result = verify_log(keys=keys, published=published, organization_id=organization)
    for finding in result.findings:
        click.echo(_sentence(finding), err=True)
    if result.findings:
        raise click.ClickException(f"{len(result.findings)} chains are not what was sealed")
    click.echo(
        f"{result.rows} rows of {result.organizations} organizations are what was sealed; "
        f"{result.waiting} wait for their seal"
    )


@audit.command("seal")
def seal() -> None:
    """Seal now what waits, as the worker does every five seconds."""
    count = seal_waiting_rows(
        key=SealKeys.of(_config().audit_keys).current, folder=_folder(), now=datetime.now(UTC)
    )
    click.echo(f"{count} sealed")


def _sentence(finding: Finding) -> str:
    parts = {
        "organization": finding.organization_id,
        "position": finding.position,
        "row": finding.audit_log_id,
    }
    where = " ".join(f"{name}={value}" for name, value in parts.items() if value is not None)
    return f"BROKEN {where}: {finding.fault}"


def _config() -> Config:
    config: Config = current_app.extensions["devguard"]
    return config


def _folder() -> Path:
    return _config().home / HEADS_FOLDER
