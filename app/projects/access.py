"""Which project a request speaks for. At the edge only."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from app.auth.access import bound_project
from app.kit.endpoint import actor
from app.kit.errors import Fault, InvalidPayload, NotFound
from app.projects.queries import find_project_name


@dataclass(frozen=True, slots=True)
class ProjectRef:
    """A project that the bearer of this request may speak for."""

    id: UUID
    organization_id: UUID
    name: str


def project_of_request(project_id: UUID | None = None) -> ProjectRef:
    """Return the project of this request: that of its ingest key, else the one that it names.

    Costs no query for an ingest key. Raises InvalidPayload at `/project_id` when nothing names one,
    NotFound for a project of others and for another one than the key is bound to.
    """
    bound = bound_project()
    if bound is not None:
        if project_id not in {None, bound.id}:
            raise NotFound("no such project")
        return ProjectRef(bound.id, bound.organization_id, bound.name)
    if project_id is None:
        raise InvalidPayload(
            "the request names no project",
            faults=[Fault("/project_id", "missing", "name the project, or use an ingest key")],
        )
    organization_id = actor().organization_id
    name = find_project_name(organization_id=organization_id, project_id=project_id)
    if name is None:
        raise NotFound("no such project")
    return ProjectRef(project_id, organization_id, name)
