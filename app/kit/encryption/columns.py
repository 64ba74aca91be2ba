"""Which columns hold encrypted text: what is not listed here, a rotation would forget."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

# What belongs to a person or to the installation, and to no organization.
PLATFORM_ID = UUID(int=0)

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """A text column of encrypted values; `organization_column` is None where rows belong to nobody's organization."""

    table: str
    column: str
    id_column: str = "id"
    organization_column: str | None = "organization_id"

    def __post_init__(self) -> None:
        for name in (self.table, self.column, self.id_column, self.organization_column or "id"):
            # They become SQL text and part of what is authenticated: no quotes, no `|`.
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a table or column")


COLUMNS: dict[tuple[str, str], EncryptedColumn] = {}


def register_column(
    table: str,
    column: str,
    *,
    id_column: str = "id",
    organization_column: str | None = "organization_id",
) -> EncryptedColumn:
    """Tell the rotation of a text column that holds encrypted values; return its description.

    The id column is the row's UUID. dg_system needs SELECT and UPDATE on the table
    (dg_protect_table grants both). Raises ValueError for a name that is none.
    """
    described = EncryptedColumn(table, column, id_column, organization_column)
    COLUMNS[table, column] = described
    return described


def columns_of(organization_id: UUID) -> list[EncryptedColumn]:
    """Return the columns that hold values of the organization, or of the platform."""
    is_platform = organization_id == PLATFORM_ID
    return [
        column for column in COLUMNS.values() if (column.organization_column is None) == is_platform
    ]


def check_registered(table: str, column: str) -> None:
    """Raise LookupError for a column that nobody registered."""
    if (table, column) not in COLUMNS:
        raise LookupError(f"register_column({table!r}, {column!r}) was never called")
