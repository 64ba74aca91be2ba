"""Projects: list, make, show, change, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import Blueprint, Response

from app.auth.access import forget_keys_of_project
from app.kit.conditional import if_match
from app.kit.endpoint import (
    actor,
    body,
    created,
    endpoint,
    listed,
    no_content,
    ok,
    query,
    secret_key,
)
from app.kit.pagination import CursorSigner, filters_of, page_of
from app.kit.rate_limits import RateClass
from app.projects import queries, service
from app.projects.queries import ProjectFilter
from app.projects.schemas import (
    ProjectArguments,
    ProjectCreate,
    ProjectPage,
    ProjectReplace,
    ProjectUpdate,
    ProjectView,
)
from app.projects.service import NewProject

blueprint = Blueprint("projects", __name__)


@endpoint(
    blueprint,
    "GET",
    "",
    scope="projects:read",
    rate=RateClass.READ,
    query=ProjectArguments,
    answers={200: ProjectPage},
)
def list_projects() -> Response:
    """List the projects of the organization."""
    wanted = query(ProjectArguments)
    signer = CursorSigner(key=secret_key(), name="projects", filters=filters_of(wanted))
    rows = queries.projects_page(
        organization_id=actor().organization_id,
        wanted=ProjectFilter(wanted.name, wanted.slug, wanted.archived),
        sort=wanted.sort,
        after=None if wanted.cursor is None else signer.position_of(wanted.cursor),
        limit=wanted.limit + 1,
    )
    page = page_of(
        rows,
        limit=wanted.limit,
        position=lambda project: queries.sort_position(project, sort=wanted.sort),
        signer=signer,
    )
    return listed(page, ProjectView)


@endpoint(
    blueprint,
    "POST",
    "",
    scope="projects:write",
    rate=RateClass.WRITE,
    body=ProjectCreate,
    answers={201: ProjectView},
    errors=(409,),
    audit="project.created",
    examples={"shortest": {"name": "Checkout"}},
)
def create_project() -> Response:
    """Make a project. 409 `slug_taken` when another one has the slug, given or made from the name."""
    wanted = body(ProjectCreate)
    project = service.create_project(
        organization_id=actor().organization_id,
        wanted=NewProject(**wanted.model_dump()),
        now=datetime.now(UTC),
    )
    return created(
        ProjectView.model_validate(project),
        location=f"/api/v1/projects/{project.id}",
        version=project.version,
    )


@endpoint(
    blueprint,
    "GET",
    "/<uuid:project_id>",
    scope="projects:read",
    rate=RateClass.READ,
    answers={200: ProjectView},
)
def show_project(project_id: UUID) -> Response:
    """Show a project."""
    project = queries.get_project(organization_id=actor().organization_id, project_id=project_id)
    return ok(ProjectView.model_validate(project), version=project.version)


@endpoint(
    blueprint,
    "PUT",
    "/<uuid:project_id>",
    scope="projects:write",
    rate=RateClass.WRITE,
    body=ProjectReplace,
    answers={200: ProjectView},
    errors=(409,),
    audit="project.updated",
    versioned=True,
)
def replace_project(project_id: UUID) -> Response:
    """Replace a project; what is left out falls back to its default."""
    return _updated(project_id, body(ProjectReplace).model_dump())


@endpoint(
    blueprint,
    "PATCH",
    "/<uuid:project_id>",
    scope="projects:write",
    rate=RateClass.WRITE,
    body=ProjectUpdate,
    answers={200: ProjectView},
    errors=(409,),
    audit="project.updated",
    versioned=True,
)
def update_project(project_id: UUID) -> Response:
    """Change what is sent of a project; `archived` puts it aside without stopping anything."""
    return _updated(project_id, body(ProjectUpdate).model_dump(exclude_unset=True))


@endpoint(
    blueprint,
    "DELETE",
    "/<uuid:project_id>",
    scope="projects:delete",
    rate=RateClass.WRITE,
    answers={204: None},
    audit="project.deleted",
    versioned=True,
)
def delete_project(project_id: UUID) -> Response:
    """Delete a project: it is gone for everybody, and its ingest keys are refused."""
    service.delete_project(
        organization_id=actor().organization_id,
        project_id=project_id,
        precondition=if_match(),
        now=datetime.now(UTC),
    )
    forget_keys_of_project(project_id)
    return no_content()


def _updated(project_id: UUID, fields: dict[str, object]) -> Response:
    project = service.update_project(
        organization_id=actor().organization_id,
        project_id=project_id,
        fields=fields,
        precondition=if_match(),
        now=datetime.now(UTC),
    )
    forget_keys_of_project(project_id)
    return ok(ProjectView.model_validate(project), version=project.version)
