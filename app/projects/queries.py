"""Questions about projects; a deleted one does not exist for any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.extensions import db
from app.kit.errors import NotFound
from app.projects.models import Project

SORT_COLUMNS: dict[str, InstrumentedAttribute[Any]] = {
    "name": Project.name,
    "slug": Project.slug,
    "created_at": Project.created_at,
    "updated_at": Project.updated_at,
}


@dataclass(frozen=True, slots=True)
class ProjectFilter:
    """Which projects to list; None does not filter."""

    name_prefix: str | None = None
    slug_prefix: str | None = None
    is_archived: bool | None = None


def get_project(*, organization_id: UUID, project_id: UUID) -> Project:
    """Return the project. Raises NotFound."""
    project = db.session.scalar(select(Project).where(*_living(organization_id, project_id)))
    if project is None:
        raise NotFound("no such project")
    return project


def lock_project(*, organization_id: UUID, project_id: UUID) -> Project:
    """Return the project as it is now; nobody else changes it in this transaction. Raises NotFound."""
    statement = (
        select(Project)
        .where(*_living(organization_id, project_id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    project = db.session.scalar(statement)
    if project is None:
        raise NotFound("no such project")
    return project


def find_project_name(*, organization_id: UUID, project_id: UUID) -> str | None:
    """Return the name of the project, or None when the organization has none of this id."""
    return db.session.scalar(select(Project.name).where(*_living(organization_id, project_id)))


def projects_page(
    *,
    organization_id: UUID,
    wanted: ProjectFilter,
    sort: str,
    after: Sequence[str] | None,
    limit: int,
) -> Sequence[Project]:
    """Return up to `limit` projects in the order of `sort` (`-` first: descending), behind `after`.

    `after` is what sort_position() said of the last project before.
    """
    is_descending = sort.startswith("-")
    column = SORT_COLUMNS[sort.removeprefix("-")]
    statement = select(Project).where(
        Project.organization_id == organization_id,
        Project.deleted_at.is_(None),
        *_conditions(wanted),
    )
    if after is not None:
        place = tuple_(column, Project.id)
        last = tuple_(_sort_value(column, after[0]), UUID(after[1]))
        statement = statement.where(place < last if is_descending else place > last)
    order = [column, Project.id]
    statement = statement.order_by(*(part.desc() if is_descending else part for part in order))
    return db.session.scalars(statement.limit(limit)).all()


def sort_position(project: Project, *, sort: str) -> list[str]:
    """Return where the project stands in the order of `sort`, for a cursor."""
    value = getattr(project, sort.removeprefix("-"))
    return [value.isoformat() if isinstance(value, datetime) else value, str(project.id)]


def _living(organization_id: UUID, project_id: UUID) -> list[ColumnElement[bool]]:
    return [
        Project.organization_id == organization_id,
        Project.id == project_id,
        Project.deleted_at.is_(None),
    ]


def _conditions(wanted: ProjectFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name_prefix is not None:
        conditions.append(
            func.starts_with(func.lower(Project.name), func.lower(wanted.name_prefix))
        )
    if wanted.slug_prefix is not None:
        conditions.append(func.starts_with(Project.slug, wanted.slug_prefix))
    if wanted.is_archived is not None:
        is_archived = Project.archived_at.is_not(None)
        conditions.append(is_archived if wanted.is_archived else ~is_archived)
    return conditions


def _sort_value(column: InstrumentedAttribute[Any], text: str) -> object:
    return datetime.fromisoformat(text) if column.key.endswith("_at") else text
