"""Single calls that arrive together are written together: one transaction for all that waited.

A service that logs each call by itself pays a transaction for each. While one request writes, others of
the same project wait in line; then the first of the line writes for all of it, and each is answered with
what became of its own call, after the commit. Who comes alone writes at once: nothing waits for company.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from threading import Event, Lock
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy.exc

from app.api_gateway.service.ingest import LoggedBatch, log_at_current_prices
from app.kit.errors import Unavailable
from app.kit.tenancy import tenant_session

MOST_TOGETHER = 500
# Longer than a request waits for the database, so that a line behind a hanging one still hears why.
LONGEST_WAIT_S = 30.0


@dataclass(slots=True, eq=False)
class _Ticket:
    """One waiting call: woken when its group is written, or to write for a group itself."""

    item: Mapping[str, Any]
    woken: Event = field(default_factory=Event)
    group: list[_Ticket] | None = None
    batch: LoggedBatch | None = None
    error: Exception | None = None


class SingleCalls:
    """The lines of this process, one for each project that is being written."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lines: dict[UUID, list[_Ticket]] = {}

    def log(
        self,
        *,
        organization_id: UUID,
        project_id: UUID,
        item: Mapping[str, Any],
        now: datetime,
        retention: timedelta,
    ) -> LoggedBatch:
        """Store one call of valid types, committed; return what became of it.

        Raises what the writer of the group raised, Unavailable when it was not heard of for 30 s.
        """
        ticket = _Ticket(item)
        if self._joins_line(project_id, ticket) and not ticket.woken.wait(LONGEST_WAIT_S):
            self._leave_line(project_id, ticket)
        if ticket.group is not None:
            write = partial(
                self._written,
                organization_id=organization_id,
                project_id=project_id,
                now=now,
                retention=retention,
            )
            self._lead(ticket.group, project_id=project_id, write=write)
        if ticket.error is not None:
            raise ticket.error
        if ticket.batch is None:
            raise Unavailable("the call is not written yet; send it again, it counts once")
        return ticket.batch

    def _joins_line(self, project_id: UUID, ticket: _Ticket) -> bool:
        with self._lock:
            line = self._lines.get(project_id)
            if line is None:
                self._lines[project_id] = []
                ticket.group = [ticket]
                return False
            line.append(ticket)
            return True

    def _leave_line(self, project_id: UUID, ticket: _Ticket) -> None:
        with self._lock:
            line = self._lines.get(project_id, [])
            if ticket in line:
                line.remove(ticket)

    def _lead(self, group: list[_Ticket], *, project_id: UUID, write: _Write) -> None:
        """Write for the group, tell each of it, and let the next of the line write."""
        unavailable: Exception | None = None
        try:
            self._settle(group, write=write)
        except (sqlalchemy.exc.OperationalError, psycopg.OperationalError) as error:
            # No use in letting each of the line find out by itself that the database is away.
            unavailable = error
        finally:
            told = group + self._hand_over(project_id, dissolves=unavailable is not None)
            for ticket in told:
                ticket.error = ticket.error or unavailable
                ticket.woken.set()

    @staticmethod
    def _settle(group: Sequence[_Ticket], *, write: _Write) -> None:
        try:
            batch = write(group)
        except (sqlalchemy.exc.OperationalError, psycopg.OperationalError):
            raise
        except Exception as error:  # noqa: BLE001 - it is raised again by the request whose call it is
            if len(group) == 1:
                group[0].error = error
                return
            # One call's fault is not the others': each is written alone.
            for ticket in group:
                SingleCalls._settle([ticket], write=write)
            return
        for index, ticket in enumerate(group):
            ticket.batch = batch.of_item(index)

    @staticmethod
    def _written(
        group: Sequence[_Ticket],
        *,
        organization_id: UUID,
        project_id: UUID,
        now: datetime,
        retention: timedelta,
    ) -> LoggedBatch:
        with tenant_session() as session:
            return log_at_current_prices(
                organization_id=organization_id,
                project_id=project_id,
                items=[(index, ticket.item) for index, ticket in enumerate(group)],
                now=now,
                retention=retention,
                session=session,
            )

    def _hand_over(self, project_id: UUID, *, dissolves: bool) -> list[_Ticket]:
        """Wake the next writer of the line; return those who are told instead when it dissolves."""
        with self._lock:
            line = self._lines.pop(project_id)
            if dissolves or not line:
                return line
            next_group = line[:MOST_TOGETHER]
            self._lines[project_id] = line[MOST_TOGETHER:]
            next_group[0].group = next_group
        next_group[0].woken.set()
        return []


_Write = Callable[[Sequence[_Ticket]], LoggedBatch]
SINGLE_CALLS = SingleCalls()
