"""`flask api-requests ...`: bring files of logged calls into a project."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from flask import current_app
from flask.cli import AppGroup
from psycopg import OperationalError as DriverOperationalError
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.api_gateway.call_files import FileForm, FileFormat, ImportFault, assignments
from app.api_gateway.service.imports import ImportOrder, ImportProgress, Report, import_calls
from app.audit.context import acting_as, operator
from app.cli.import_output import ProgressLine, summary_as_json, summary_in_words
from app.kit.errors import DevGuardError, NotFound
from app.kit.tenancy import organization_scope
from app.kit.time_window import zone_named
from app.organizations.queries import OrganizationOverview, organizations_overview
from app.projects.queries import ProjectFilter, get_project, projects_page
from config import Config

api_requests = AppGroup("api-requests", help="Calls to paid APIs.")

OPERATOR = operator("flask api-requests import")
ENDINGS = {
    ".csv": FileFormat.csv,
    ".ndjson": FileFormat.ndjson,
    ".jsonl": FileFormat.ndjson,
}
NAMED_PROJECTS = 10
# Where all times must be read first, the person would wonder for some seconds.
LARGE_FILE_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class _Target:
    """A project of this installation, as the operator's choice found it."""

    organization_id: UUID
    organization_name: str
    project_id: UUID
    project_name: str
    slug: str

    def __str__(self) -> str:
        """Return how the project is named in a message."""
        return f"{self.slug} ({self.project_id}) of {self.organization_name}"


@api_requests.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--project", help="Id or slug; may be left out where there is only one.")
@click.option("--organization", help="Id or name, where the slug of the project is not enough.")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FileFormat]),
    help="Default: by the ending (.csv, .ndjson, .jsonl).",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="A field of a call and the column of the CSV file that holds it: "
    "started_at=TIMESTAMP, usage.input_tokens=ContextTokens, tags.release=VERSION.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field that the file does not give: provider=openai, attribution.environment=prod.",
)
@click.option(
    "--timezone", default="UTC", show_default=True, help="IANA zone of times that name none."
)
@click.option(
    "--id-prefix", help="Put before each id; another prefix imports the same file as other calls."
)
@click.option(
    "--shift-to-now", is_flag=True, help="Move all times by one amount so that the last is now."
)
@click.option(
    "--batch-size",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 5000),
    help="Rows of one transaction.",
)
@click.option("--dry-run", is_flag=True, help="Read, judge and price everything; write nothing.")
@click.option("--restart", is_flag=True, help="Begin at the first row after an interruption, too.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first batch with a refused row.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_file(file: Path, project: str | None, organization: str | None, **options: Any) -> None:
    """Import the calls of FILE: CSV whose first row names the columns, or NDJSON of calls.

    A row that breaks a rule is refused and counted, and never stops the others. Every call counts
    once, however often its file is imported; after an interruption the same command goes on.
    """
    config: Config = current_app.extensions["devguard"]
    with _told(config), acting_as(OPERATOR):
        form = _form(file, options)
        target = _target(organization, project)
        order = _order(file, form, target, options)
        if order.moves_to_now and file.stat().st_size > LARGE_FILE_BYTES:
            click.echo(f"Looking for the last call of {file.name} ...", err=True)
        began = time.perf_counter()
        with ProgressLine(is_dry_run=order.is_dry_run) as line, _between_batches(line.show) as show:
            summary = import_calls(
                order=order,
                home=config.home,
                retention=timedelta(days=config.retention_days),
                now=_now,
                report=show,
            )
    elapsed_s = time.perf_counter() - began
    in_form = summary_as_json if options["as_json"] else summary_in_words
    click.echo(in_form(order, target.organization_name, summary, elapsed_s))
    if summary.tally.refused == summary.tally.rows:
        sys.exit(1)


def _now() -> datetime:
    return datetime.now(UTC)


def _form(file: Path, options: dict[str, Any]) -> FileForm:
    format_ = options["format_"] or ENDINGS.get(file.suffix.lower())
    if format_ is None:
        raise ImportFault("--format", f"{file.name} does not say what it is; add --format csv")
    try:
        zone = zone_named(options["timezone"])
    except DevGuardError as error:
        raise ImportFault("--timezone", error.faults[0].detail) from None
    return FileForm(
        format=FileFormat(format_),
        columns=assignments("--map", options["columns"]),
        constants=assignments("--set", options["constants"]),
        zone=zone,
        id_prefix=options["id_prefix"],
    )


def _order(file: Path, form: FileForm, target: _Target, options: dict[str, Any]) -> ImportOrder:
    return ImportOrder(
        organization_id=target.organization_id,
        project_id=target.project_id,
        project_name=target.project_name,
        path=file,
        form=form,
        moves_to_now=options["shift_to_now"],
        batch_size=options["batch_size"],
        is_dry_run=options["dry_run"],
        starts_over=options["restart"],
        stops_at_refusal=options["fail_fast"],
    )


def _target(organization: str | None, project: str | None) -> _Target:
    """Return the one project that is meant. Raises ImportFault when it is none or several."""
    found = list(islice(_targets(_organizations(organization), project), NAMED_PROJECTS + 1))
    if len(found) == 1:
        return found[0]
    if not found and project is None:
        raise ImportFault("--project", "there is no project yet; make one (POST /api/v1/projects)")
    if not found:
        raise ImportFault("--project", f"there is no project with the id or slug {project!r}")
    names = "; ".join(map(str, found[:NAMED_PROJECTS])) + ("; ..." * (len(found) > NAMED_PROJECTS))
    if project is None:
        raise ImportFault("--project", f"there are several, name one: {names}")
    raise ImportFault("--organization", f"several have a project {project!r}, name one: {names}")


def _organizations(wanted: str | None) -> list[OrganizationOverview]:
    known = organizations_overview()
    if wanted is None:
        return known
    found = [one for one in known if wanted in {str(one.organization_id), one.name}]
    if len(found) == 1:
        return found
    if not found:
        raise ImportFault("--organization", f"there is none with the id or name {wanted!r}")
    ids = ", ".join(str(one.organization_id) for one in found[:NAMED_PROJECTS])
    raise ImportFault("--organization", f"several have the name {wanted!r}, give the id: {ids}")


def _targets(
    organizations: Sequence[OrganizationOverview], project: str | None
) -> Iterator[_Target]:
    # One tenant after the other, as all reading of tenants' tables: the wall stays where it is.
    for organization in organizations:
        with organization_scope(organization.organization_id):
            found = [
                _Target(organization.organization_id, organization.name, one.id, one.name, one.slug)
                for one in _projects(organization.organization_id, project)
            ]
        yield from found


def _projects(organization_id: UUID, wanted: str | None) -> Sequence[Any]:
    """Return the projects of an organization with this id or slug; without one, the first few."""
    try:
        found = get_project(organization_id=organization_id, project_id=UUID(wanted or ""))
    except ValueError:
        page = projects_page(
            organization_id=organization_id,
            wanted=ProjectFilter(slug_prefix=wanted),
            sort="slug",
            after=None,
            limit=NAMED_PROJECTS + 1,
        )
        return [one for one in page if wanted in {None, one.slug}]
    except NotFound:
        return []
    return [found]


@contextmanager
def _between_batches(report: Report) -> Iterator[Report]:
    """Let Ctrl-C end the import behind the batch that it interrupts; a second one ends it at once."""
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    def report_unless_asked(progress: ImportProgress) -> None:
        # What comes before the first report, the reading of all times, may be interrupted anywhere.
        if not asked:
            signal.signal(signal.SIGINT, ask)
        report(progress)
        if asked:
            raise KeyboardInterrupt

    try:
        yield report_unless_asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _told(config: Config) -> Iterator[None]:
    """Tell the person what to do about what went wrong."""
    try:
        yield
    except DevGuardError as error:
        raise click.ClickException(error.detail) from None
    except (OperationalError, DriverOperationalError) as error:
        reason = str(getattr(error, "orig", error)).strip().split("\n")[0]
        where = f"DEVGUARD_HOME={config.home}" if config.embedded else "DATABASE_URL"
        raise click.ClickException(
            f"the database of {where} does not answer ({reason}). Start DevGuard with the same "
            "settings (python run.py), then give this command again: what is stored counts once."
        ) from None
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42P01":
            raise
        raise click.ClickException(
            "the database has no tables yet; run `python migrate.py upgrade` (run.py does it)"
        ) from None
    except KeyboardInterrupt:
        click.echo("\nStopped. The same command goes on behind the last batch.", err=True)
        sys.exit(130)
