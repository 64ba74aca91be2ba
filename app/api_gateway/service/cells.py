"""The directory of rollup groups: each cell's names stand in the database once, rows carry a number."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import ClassVar
from uuid import UUID

from sqlalchemy import text

from app.api_gateway.logged_calls import Cell
from app.kit.tenancy import current_organization_id, tenant_session

MAXIMUM_KNOWN = 200_000

_INSERT = text(
    "INSERT INTO api_rollup_groups (organization_id, project_id, provider, model, operation, "
    "environment, team, outcome, currency) "
    "SELECT :organization_id, :project_id, cells.* FROM unnest("
    "CAST(:provider AS text[]), CAST(:model AS text[]), CAST(:operation AS text[]), "
    "CAST(:environment AS text[]), CAST(:team AS text[]), CAST(:outcome AS text[]), "
    "CAST(:currency AS text[])) AS cells "
    "ORDER BY 3, 4, 5, 6, 7, 8, 9 ON CONFLICT DO NOTHING"
)
_SELECT = text(
    "SELECT id, provider, model, operation, environment, team, outcome, currency "
    "FROM api_rollup_groups JOIN unnest("
    "CAST(:provider AS text[]), CAST(:model AS text[]), CAST(:operation AS text[]), "
    "CAST(:environment AS text[]), CAST(:team AS text[]), CAST(:outcome AS text[]), "
    "CAST(:currency AS text[])) "
    "AS cells (provider, model, operation, environment, team, outcome, currency) "
    "USING (provider, model, operation, environment, team, outcome, currency) "
    "WHERE organization_id = :organization_id AND project_id = :project_id"
)


class CellDirectory:
    """Group ids of cells, kept in the process: a group never changes and is never deleted."""

    _known: ClassVar[dict[tuple[UUID, Cell], int]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def group_ids(cls, *, project_id: UUID, cells: Iterable[Cell]) -> dict[Cell, int]:
        """Return the group id of each cell; new cells are made in a transaction of their own.

        A group that stays behind when the caller's transaction fails does no harm; a group that only
        the caller's transaction knew would make two writers of one new cell wait for each other.
        """
        known, unknown = cls._known, []
        found: dict[Cell, int] = {}
        for cell in cells:
            group_id = known.get((project_id, cell))
            if group_id is None:
                unknown.append(cell)
            else:
                found[cell] = group_id
        if unknown:
            made = cls._made(project_id=project_id, cells=unknown)
            cls._remember(project_id, made)
            found |= made
        return found

    @classmethod
    def _made(cls, *, project_id: UUID, cells: list[Cell]) -> dict[Cell, int]:
        columns = {name: [getattr(cell, name) for cell in cells] for name in Cell._fields}
        parameters = {
            "organization_id": current_organization_id(),
            "project_id": project_id,
            **columns,
        }
        with tenant_session() as session:
            session.execute(_INSERT, parameters)
            rows = session.execute(_SELECT, parameters).all()
        return {Cell(*row[1:]): row[0] for row in rows}

    @classmethod
    def _remember(cls, project_id: UUID, made: dict[Cell, int]) -> None:
        with cls._lock:
            if len(cls._known) > MAXIMUM_KNOWN:
                cls._known.clear()
            cls._known.update({(project_id, cell): group_id for cell, group_id in made.items()})
