"""Making, changing and deleting projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.audit.service import changes, record
from app.extensions import db
from app.kit.errors import Conflict
from app.kit.etags import Precondition
from app.kit.ids import new_id
from app.projects.models import Project
from app.projects.queries import lock_project
from app.projects.slugs import slug_of

AUDITED_FIELDS = ("name", "slug", "description", "environments", "archived_at")


class SlugTaken(Conflict):
    """Another project of the organization has this slug."""

    code = "slug_taken"


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project as somebody wants it; without a slug it gets one of its name."""

    name: str
    slug: str | None
    description: str
    environments: list[str]


def create_project(*, organization_id: UUID, wanted: NewProject, now: datetime) -> Project:
    """Return the new project. Raises SlugTaken, also for a slug that was made from the name."""
    project = Project(
        id=new_id(),
        organization_id=organization_id,
        name=wanted.name,
        slug=wanted.slug or slug_of(wanted.name),
        description=wanted.description,
        environments=wanted.environments,
        version=1,
        created_at=now,
        updated_at=now,
        archived_at=None,
        deleted_at=None,
    )
    _flush_unless_taken(project)
    record(
        event="project.created",
        target_kind="project",
        target_id=project.id,
        target_label=project.name,
        after=_audited(project),
    )
    return project


def update_project(
    *,
    organization_id: UUID,
    project_id: UUID,
    fields: Mapping[str, Any],
    now: datetime,
    precondition: Precondition | None = None,
) -> Project:
    """Return the project with these fields changed; `archived` puts it aside or takes it back.

    Raises NotFound, SlugTaken, PreconditionFailed. What changes nothing leaves version and time as they are.
    """
    project = _project_to_change(organization_id, project_id, precondition)
    before = _audited(project)
    for name, value in fields.items():
        if name == "archived":
            project.archived_at = (project.archived_at or now) if value else None
        else:
            setattr(project, name, value)
    was, becomes = changes(before=before, after=_audited(project))
    if becomes:
        project.version += 1
        project.updated_at = now
    _flush_unless_taken(project)
    record(
        event="project.updated",
        target_kind="project",
        target_id=project.id,
        target_label=project.name,
        before=was,
        after=becomes,
    )
    return project


def delete_project(
    *,
    organization_id: UUID,
    project_id: UUID,
    now: datetime,
    precondition: Precondition | None = None,
) -> None:
    """Delete the project; its keys work no longer. Raises NotFound, PreconditionFailed."""
    project = _project_to_change(organization_id, project_id, precondition)
    project.deleted_at = now
    project.updated_at = now
    project.version += 1
    record(
        event="project.deleted",
        target_kind="project",
        target_id=project.id,
        target_label=project.name,
        before=_audited(project),
    )


def _project_to_change(
    organization_id: UUID, project_id: UUID, precondition: Precondition | None
) -> Project:
    # Locked, so that of two who saw the same version only one changes it.
    project = lock_project(organization_id=organization_id, project_id=project_id)
    if precondition is not None:
        precondition.check(project.version)
    return project


def _flush_unless_taken(project: Project) -> None:
    slug = project.slug
    try:
        db.session.add(project)
        db.session.flush()
    except IntegrityError as error:
        if "uq_projects_organization_id_slug" not in str(error.orig):
            raise
        raise SlugTaken(f"another project has the slug {slug}") from None


def _audited(project: Project) -> dict[str, Any]:
    fields = {name: getattr(project, name) for name in AUDITED_FIELDS}
    return {**fields, "environments": list(project.environments)}
