"""Moving stored values to the newest data key: some rows at a time, beside those who write them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.extensions import db
from app.kit.encryption.columns import COLUMNS, EncryptedColumn, columns_of
from app.kit.encryption.data_keys import active_key
from app.kit.encryption.errors import EncryptionError, EncryptionKeyShredded
from app.kit.encryption.fields import renewed
from app.kit.encryption.key_cache import LIFETIME_S
from app.kit.jobs import enqueue, platform_task
from app.kit.logging import logger
from app.kit.tenancy import system_session

log = logger(__name__)

BATCH_ROWS = 500
FIRST_ID = UUID(int=0)
# When every process has seen the new key; and when no task that began before it can still be running
# (the workers' hard time limit is 600 s): what such a one wrote late, the second pass finds.
PASSES = (timedelta(seconds=LIFETIME_S + 1), timedelta(minutes=15))


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some rows: how many moved, how many could not be read, where to go on."""

    moved: int
    unreadable: int
    last_id: UUID | None


def request_reencryption(organization_id: UUID) -> None:
    """Ask for every value of the organization to be moved to its newest key."""
    now = datetime.now(UTC)
    for column in columns_of(organization_id):
        for pause in PASSES:
            _enqueue(organization_id, column, after=FIRST_ID, not_before=now + pause)


@platform_task("kit.reencrypt_column")
def reencrypt_column(*, organization_id: str, table: str, column: str, after: str) -> None:
    """Move the next rows, and ask for those behind them; of a shredded organization nothing."""
    described = COLUMNS[table, column]
    owner = UUID(organization_id)
    try:
        batch = reencrypt_batch(described, organization_id=owner, after=UUID(after))
    except EncryptionKeyShredded:
        return
    if batch.last_id is not None:
        _enqueue(owner, described, after=batch.last_id, not_before=None)


def reencrypt_batch(column: EncryptedColumn, *, organization_id: UUID, after: UUID) -> Batch:
    """Move the values of up to 500 rows behind the id in this session (role dg_system) to the newest key.

    A row that somebody writes just now is left to the second pass, so nobody ever waits for two rows.
    """
    rows = _rows_of_older_keys(column, organization_id, after=after)
    moved, unreadable = [], 0
    for row_id, sealed in rows:
        try:
            fresh = renewed(
                sealed,
                organization_id=organization_id,
                table=column.table,
                column=column.column,
                row_id=row_id,
            )
        except EncryptionError as error:
            unreadable += 1
            log.warning("field_unreadable", table=column.table, row_id=str(row_id), code=error.code)
        else:
            # None: it is under the newest key, of which we heard only after the rows were chosen.
            if fresh is not None:
                moved.append({"row_id": row_id, "fresh": fresh})
    if moved:
        statement = (
            f"UPDATE {column.table} SET {column.column} = :fresh WHERE {column.id_column} = :row_id"
        )
        db.session.connection().execute(text(statement), moved)
    log.info("fields_reencrypted", table=column.table, moved=len(moved), unreadable=unreadable)
    return Batch(len(moved), unreadable, rows[-1][0] if len(rows) == BATCH_ROWS else None)


def values_by_key(organization_id: UUID) -> dict[str, int]:
    """Return how many stored values each kid (32 hexadecimal digits) of the organization has."""
    counts: dict[str, int] = {}
    with system_session() as session:
        for column in columns_of(organization_id):
            statement = (
                f"SELECT split_part({column.column}, ':', 2), count(*) FROM {column.table} "
                f"WHERE {column.column} IS NOT NULL AND {_owned(column)} GROUP BY 1"
            )
            for kid, count in session.execute(text(statement), {"owner": organization_id}):
                counts[kid] = counts.get(kid, 0) + count
    return counts


def _rows_of_older_keys(
    column: EncryptedColumn, organization_id: UUID, *, after: UUID
) -> list[tuple[UUID, str]]:
    statement = f"""
    SELECT {column.id_column}, {column.column} FROM {column.table}
    WHERE {_owned(column)} AND {column.id_column} > :after
      AND {column.column} IS NOT NULL AND {column.column} NOT LIKE :current
    ORDER BY {column.id_column} LIMIT {BATCH_ROWS} FOR UPDATE SKIP LOCKED
    """
    current = f"v1:{active_key(organization_id).id.hex}:%"
    wanted = {"owner": organization_id, "after": after, "current": current}
    rows: Any = db.session.connection().execute(text(statement), wanted)
    return [(row_id, sealed) for row_id, sealed in rows]


def _owned(column: EncryptedColumn) -> str:
    if column.organization_column is None:
        # Named all the same, so that both kinds take the same values.
        return "CAST(:owner AS uuid) IS NOT NULL"
    return f"{column.organization_column} = :owner"


def _enqueue(
    organization_id: UUID, column: EncryptedColumn, *, after: UUID, not_before: datetime | None
) -> None:
    enqueue(
        reencrypt_column,
        not_before=not_before,
        organization_id=str(organization_id),
        table=column.table,
        column=column.column,
        after=str(after),
    )
