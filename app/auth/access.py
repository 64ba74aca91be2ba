"""What other features may ask about the credential of this request. At the edge only."""

from __future__ import annotations

from uuid import UUID

from flask import g

from app.auth.key_cache import KEYS, BoundProject

__all__ = ["BoundProject", "bound_project", "forget_keys_of_project"]


def bound_project() -> BoundProject | None:
    """Return the one project that the ingest key of this request speaks for, without a query."""
    project: BoundProject | None = g.get("bound_project")
    return project


def forget_keys_of_project(project_id: UUID) -> None:
    """Make this process look the keys of a changed project up again."""
    KEYS.forget_project(project_id)
