"""Calls come in: read, priced, written once with their rollup deltas, and each item answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection, RawCursor
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.api_gateway.logged_calls import (
    COLUMN_TYPES,
    COLUMNS,
    AcceptedTimes,
    CallReader,
    LoggedCall,
    RefusedCall,
    microseconds,
    moment_of,
)
from app.api_gateway.price_book import PriceBook
from app.api_gateway.pricing import PricingStatus
from app.api_gateway.service import rollup_sql
from app.api_gateway.service.cells import CellDirectory
from app.api_gateway.service.prices import current_prices, prices_in_hand
from app.extensions import db
from app.kit.errors import Fault

AHEAD = timedelta(minutes=10)
STAGED = "staged_api_requests"
_COLUMN_LIST = ", ".join(COLUMNS)

CREATE_STAGED = (
    f"CREATE TEMPORARY TABLE IF NOT EXISTS {STAGED} ON COMMIT DELETE ROWS AS "
    f"SELECT {_COLUMN_LIST} FROM api_requests WITH NO DATA"
)
EMPTY_STAGED = f"TRUNCATE {STAGED}"
COPY_STAGED = f"COPY {STAGED} ({_COLUMN_LIST}) FROM STDIN WITH (FORMAT text, NULL '')"


# How often the catalogue's and the organization's prices have changed.
_PRICE_CHANGES = (
    "SELECT coalesce(sum(version), 0) FROM api_price_versions "
    "WHERE organization_id IS NULL OR organization_id = $1::uuid"
)


def _insert_from(rows: str, *, cells: str) -> str:
    """Return the one statement that writes rows and what they add to the rollup.

    The delta comes from the rows really inserted. Answered is how many those were, and which, only
    when some were not; and how often prices have changed: nothing is written when that is not $4.
    """
    return f"""
WITH inserted AS (
    INSERT INTO api_requests (organization_id, project_id, {_COLUMN_LIST})
    SELECT $1::uuid, $2::uuid, {_COLUMN_LIST} FROM {rows}
    WHERE $4::bigint IS NULL OR $4::bigint = ({_PRICE_CHANGES})
    ON CONFLICT DO NOTHING
    RETURNING {", ".join(rollup_sql.COLUMNS_OF_ROWS)}
), deltas AS (
    INSERT INTO api_rollup_deltas ({", ".join(rollup_sql.COLUMNS)})
    {cells}
)
SELECT count(*), CASE WHEN count(*) < $3::bigint THEN array_agg(started_at) END,
       CASE WHEN count(*) < $3::bigint THEN array_agg(id) END,
       ({_PRICE_CHANGES})
FROM inserted
"""


# Parameters 1 to 4: organization, project, how many rows are expected to go in, the price changes
# that the rows were priced at (NULL: whatever they are).
FIRST_COLUMN = 5


def _one_row() -> str:
    values = ", ".join(
        f"${number}::{COLUMN_TYPES.get(name, 'text')} AS {name}"
        for number, name in enumerate(COLUMNS, start=FIRST_COLUMN)
    )
    return f"(SELECT {values}) AS staged"


INSERT_STAGED = _insert_from(STAGED, cells=rollup_sql.cells_of_rows("inserted"))
INSERT_ONE = _insert_from(_one_row(), cells=rollup_sql.cell_of_one_row("inserted"))
# One look-up by primary key for each call: as one set the planner reads whole partitions.
STORED_HASHES = """
SELECT wanted.started_at, wanted.id, stored.payload_hash
FROM unnest(%(moments)s::timestamptz[], %(ids)s::text[]) AS wanted (started_at, id)
CROSS JOIN LATERAL (
    SELECT payload_hash FROM api_requests
    WHERE project_id = %(project_id)s::uuid
      AND api_requests.started_at = wanted.started_at AND api_requests.id = wanted.id
    LIMIT 1
) AS stored
"""

Key = tuple[int, str]
_NO_ROW: tuple[int, None, None, None] = (0, None, None, None)
# Up to so many rows travel in parameters, one statement each; a staging table pays only for more.
FEW = 8


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """An item that was not stored, and why."""

    index: int
    id: str | None
    faults: list[Fault]


@dataclass(slots=True)
class LoggedBatch:
    """What became of the items of a batch."""

    created: list[LoggedCall] = field(default_factory=list)
    duplicates: list[LoggedCall] = field(default_factory=list)
    conflicts: list[LoggedCall] = field(default_factory=list)
    invalid: list[RefusedItem] = field(default_factory=list)
    # Prices changed since the book was loaded: nothing was written, price again.
    is_outdated: bool = False

    def pricing(self) -> dict[PricingStatus, int]:
        """Return how many of the created calls have which pricing status."""
        counts = Counter(call.priced[0] for call in self.created)
        return {status: counts.get(status, 0) for status in PricingStatus}

    def of_item(self, index: int) -> LoggedBatch:
        """Return what became of one item alone."""
        return LoggedBatch(
            created=[call for call in self.created if call.index == index],
            duplicates=[call for call in self.duplicates if call.index == index],
            conflicts=[call for call in self.conflicts if call.index == index],
            invalid=[item for item in self.invalid if item.index == index],
        )


def log_at_current_prices(
    *,
    organization_id: UUID,
    project_id: UUID,
    items: Sequence[tuple[int, Mapping[str, Any]]],
    now: datetime,
    retention: timedelta,
    session: Session | None = None,
) -> LoggedBatch:
    """Store the valid items at the prices in force; as log_api_requests otherwise.

    The prices in memory are taken, and the statement that writes refuses when they are no longer the
    ones in force: asking beforehand would cost each single call a round trip.
    """
    prices = prices_in_hand(project_id)
    while True:
        batch = log_api_requests(
            organization_id=organization_id,
            project_id=project_id,
            items=items,
            book=prices.book,
            now=now,
            retention=retention,
            price_changes=prices.versions.changes,
            session=session,
        )
        if not batch.is_outdated:
            return batch
        prices = current_prices(project_id)


def log_api_requests(
    *,
    organization_id: UUID,
    project_id: UUID,
    items: Iterable[tuple[int, Mapping[str, Any]]],
    book: PriceBook,
    now: datetime,
    retention: timedelta,
    price_changes: int | None = None,
    session: Session | None = None,
) -> LoggedBatch:
    """Store the valid items with their cost and rollup, each once; return what became of every item.

    `items` are (index, item) pairs whose types are already valid. The same (project, started_at, id)
    counts once: within the batch the first one wins. Nothing is committed here. With `price_changes`
    nothing is written, and `is_outdated` says so, unless prices have changed exactly so often.
    `session` is the request's own unless given.
    """
    batch = LoggedBatch()
    times = AcceptedTimes.around(now, retention=retention, ahead=AHEAD)
    calls = _read(items, reader=CallReader(book=book, times=times), batch=batch)
    fresh = _without_repeats(calls, batch)
    if fresh:
        _write(
            fresh,
            organization_id=organization_id,
            project_id=project_id,
            price_changes=price_changes,
            batch=batch,
            session=session or db.session(),
        )
    return batch


def _read(
    items: Iterable[tuple[int, Mapping[str, Any]]], *, reader: CallReader, batch: LoggedBatch
) -> list[LoggedCall]:
    calls: list[LoggedCall] = []
    for index, item in items:
        try:
            calls.append(reader.read(index, item))
        except RefusedCall as refusal:
            batch.invalid.append(RefusedItem(index, item["id"], refusal.faults))
    return calls


def _without_repeats(calls: Sequence[LoggedCall], batch: LoggedBatch) -> dict[Key, LoggedCall]:
    fresh: dict[Key, LoggedCall] = {}
    for call in calls:
        first = fresh.setdefault((call.started_us, call.id), call)
        if first is not call:
            is_same = first.payload_hash == call.payload_hash
            (batch.duplicates if is_same else batch.conflicts).append(call)
    return fresh


def _write(
    fresh: dict[Key, LoggedCall],
    *,
    organization_id: UUID,
    project_id: UUID,
    price_changes: int | None,
    batch: LoggedBatch,
    session: Session,
) -> None:
    group_ids = CellDirectory.group_ids(
        project_id=project_id, cells={call.cell for call in fresh.values()}
    )
    insert = _insert_few if len(fresh) <= FEW else _insert_staged
    # In order of the key: two deliveries of the same calls, shuffled, would else deadlock.
    inserted = insert(
        [(call, group_ids[call.cell]) for _, call in sorted(fresh.items())],
        parameters=[organization_id, project_id],
        price_changes=price_changes,
        session=session,
    )
    if inserted is None:
        batch.is_outdated = True
        return
    batch.created.extend(call for key, call in fresh.items() if key in inserted)
    rest = {key: call for key, call in fresh.items() if key not in inserted}
    if rest:
        connection = _psycopg_connection(session)
        _tell_apart(rest, connection=connection, project_id=project_id, batch=batch)


def _insert_few(
    calls: Sequence[tuple[LoggedCall, int]],
    *,
    parameters: Sequence[Any],
    price_changes: int | None,
    session: Session,
) -> set[Key] | None:
    """Return the keys of the calls that were new; None, and nothing is written, when prices changed."""
    # A raw cursor takes $1 as it stands: psycopg would read a statement of this length anew each time.
    cursor = RawCursor(_psycopg_connection(session))
    inserted: set[Key] = set()
    expected = price_changes
    for call, group_id in calls:
        values = [*parameters, 1, expected, *call.values(group_id)]
        count, _, _, changes = cursor.execute(INSERT_ONE, values).fetchone() or _NO_ROW
        if expected not in {None, changes}:
            return None
        # Asked of the first: the others are of the same moment, and what is written stays written.
        expected = None
        if count:
            inserted.add((call.started_us, call.id))
    return inserted


def _insert_staged(
    calls: Sequence[tuple[LoggedCall, int]],
    *,
    parameters: Sequence[Any],
    price_changes: int | None,
    session: Session,
) -> set[Key] | None:
    """Return the keys of the calls that were new; None, and nothing is written, when prices changed."""
    connection = _staging_connection(session)
    with connection.cursor().copy(COPY_STAGED) as copy:
        copy.write("".join([call.line(group_id) for call, group_id in calls]))
    values = [*parameters, len(calls), price_changes]
    row = RawCursor(connection).execute(INSERT_STAGED, values).fetchone() or _NO_ROW
    count, moments, ids, changes = row
    if price_changes not in {None, changes}:
        connection.execute(EMPTY_STAGED)
        return None
    if count == len(calls):
        return {(call.started_us, call.id) for call, _ in calls}
    return set(zip(map(microseconds, moments or ()), ids or (), strict=True))


def _tell_apart(
    rest: dict[Key, LoggedCall],
    *,
    connection: Connection[Any],
    project_id: UUID,
    batch: LoggedBatch,
) -> None:
    """Sort calls that were stored before into duplicates (same fields) and conflicts (others)."""
    parameters = {
        "project_id": str(project_id),
        "moments": [moment_of(started_us) for started_us, _ in rest],
        "ids": [id_ for _, id_ in rest],
    }
    rows = connection.execute(STORED_HASHES, parameters).fetchall()
    stored = {(microseconds(moment), id_): payload_hash for moment, id_, payload_hash in rows}
    for key, call in rest.items():
        is_same = stored.get(key) == call.payload_hash
        (batch.duplicates if is_same else batch.conflicts).append(call)


def _psycopg_connection(session: Session) -> Connection[Any]:
    connection = session.connection().connection.driver_connection
    if not isinstance(connection, Connection):
        raise TypeError("ingest needs a psycopg 3 connection")
    return connection


def _staging_connection(session: Session) -> Connection[Any]:
    """Return psycopg's connection of this transaction, with the staging table there."""
    connection = _psycopg_connection(session)
    known = session.connection().info
    if not known.get(STAGED):
        connection.execute(CREATE_STAGED)
        # A rollback would take the table along, so it is known only after the commit.
        event.listen(
            session, "after_commit", lambda _session: known.update({STAGED: True}), once=True
        )
    return connection
