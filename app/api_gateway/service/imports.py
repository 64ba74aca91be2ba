"""Bringing files of calls into a project: batch by batch, each once, from where the last run ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from psycopg import Error as DriverError
from pydantic_core import to_json
from sqlalchemy.exc import SQLAlchemyError

from app.api_gateway.call_files import (
    CallFile,
    CallLine,
    FileForm,
    ImportFault,
    Place,
    check_form,
    constants_of,
    open_calls,
)
from app.api_gateway.logged_calls import AcceptedTimes, CallReader
from app.api_gateway.schemas.batches import read_ndjson
from app.api_gateway.service.import_batches import field_of, judge_lines, store_lines
from app.api_gateway.service.import_journal import FOLDER, Course, Journal, Note
from app.api_gateway.service.import_tally import Tally
from app.api_gateway.service.ingest import AHEAD
from app.api_gateway.service.prices import price_book_of_project
from app.audit.service import record
from app.kit.tenancy import organization_scope
from app.kit.transactions import transaction

PROBE = {"id": "probe", "started_at": "2026-01-01T00:00:00Z", "provider": "probe"}
STANDSTILL = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOrder:
    """Which file is to be imported into which project, and how."""

    organization_id: UUID
    project_id: UUID
    project_name: str
    path: Path
    form: FileForm
    moves_to_now: bool = False
    batch_size: int = 1000
    is_dry_run: bool = False
    starts_over: bool = False
    stops_at_refusal: bool = False


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far this run is: bytes of the file, and the rows that it read itself."""

    offset: int
    size: int
    rows: int
    resumed_at_line: int | None


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What the import did, together with the runs before this one that were interrupted."""

    sha256: str
    tally: Tally
    shift: timedelta
    rows_of_this_run: int
    resumed_at_line: int | None


Report = Callable[[ImportProgress], None]
Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of an import: what every step of it needs."""

    order: ImportOrder
    retention: timedelta
    now: Now
    report: Report
    journal: Journal
    sha256: str
    size: int


def import_calls(
    *, order: ImportOrder, home: Path, retention: timedelta, now: Now, report: Report
) -> ImportSummary:
    """Import the file and record it in the audit log; return what came of it.

    Each batch is a transaction of its own, so that an interrupted run keeps what it did; the next run
    of the same order goes on behind it. `report` is called before the first batch and after each.
    Raises ImportFault for a file or an order that cannot be, ImportRunning when another process is at it.
    """
    check_form(order.form)
    _check_constants(order.form)
    with _opened(order.path) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        journal = Journal(home / FOLDER / f"{_import_key(order, sha256)}.jsonl")
        run = _Run(order, retention, now, report, journal, sha256, size)
        if order.is_dry_run:
            with organization_scope(order.organization_id):
                return _rehearse(run, stream)
        with journal.held(), organization_scope(order.organization_id):
            return _import(run, stream)


def _import(run: _Run, stream: BinaryIO) -> ImportSummary:
    course = _course(run, stream)
    calls = open_calls(stream, run.order.form, shift=course.shift)
    calls.go_to(course.done.place)
    run.journal.begin(course)
    is_resumed = course.done.place is not None or course.claimed is not None
    resumed_at = calls.place.line + 1 if is_resumed else None
    run.report(ImportProgress(calls.place.offset, run.size, 0, resumed_at))
    note, rows_before = course.done, course.done.tally.rows
    try:
        for note in _notes(run, calls, course):
            rows = note.tally.rows - rows_before
            run.report(ImportProgress(calls.place.offset, run.size, rows, resumed_at))
    except BaseException:
        if note.tally.created > course.done.tally.created:
            with suppress(SQLAlchemyError, DriverError):
                _record(run, note.tally, course.shift, is_finished=False)
        raise
    _record(run, note.tally, course.shift, is_finished=True)
    run.journal.finish()
    rows = note.tally.rows - rows_before
    return ImportSummary(run.sha256, note.tally, course.shift, rows, resumed_at)


def _notes(run: _Run, calls: CallFile, course: Course) -> Iterator[Note]:
    """Store the calls batch by batch; yield after each commit what is true then."""
    lines, note = calls.calls(), course.done
    if course.claimed is not None:
        note = _settled(run, calls, _lines_until(calls, lines, course.claimed.place), course)
        yield note
    while batch := list(islice(lines, run.order.batch_size)):
        with transaction():
            note = Note(calls.place, note.tally.plus(_stored(run, batch)))
            run.journal.claim(note)
        yield note


def _settled(run: _Run, calls: CallFile, lines: list[CallLine], course: Course) -> Note:
    """Store the batch again of which nobody knows whether it was committed; return what is true now."""
    claimed = course.claimed or course.done
    with transaction():
        again = _stored(run, lines)
        if not again.created and claimed.tally.created > course.done.tally.created:
            return claimed
        note = Note(calls.place, course.done.tally.plus(again))
        run.journal.begin(replace(course, claimed=None))
        run.journal.claim(note)
    return note


def _lines_until(calls: CallFile, lines: Iterator[CallLine], place: Place | None) -> list[CallLine]:
    found: list[CallLine] = []
    while place is not None and calls.place.offset < place.offset:
        found.append(next(lines))
    return found


def _stored(run: _Run, lines: list[CallLine]) -> Tally:
    tally = store_lines(
        organization_id=run.order.organization_id,
        project_id=run.order.project_id,
        lines=lines,
        now=run.now(),
        retention=run.retention,
    )
    return _unless_refused(run, tally)


def _rehearse(run: _Run, stream: BinaryIO) -> ImportSummary:
    """Read, judge and price every call as an import would; write nothing."""
    shift = _course(run, stream).shift
    calls = open_calls(stream, run.order.form, shift=shift)
    book = price_book_of_project(run.order.project_id)
    times = AcceptedTimes.around(run.now(), retention=run.retention, ahead=AHEAD)
    reader, lines, tally = CallReader(book=book, times=times), calls.calls(), Tally()
    run.report(ImportProgress(calls.place.offset, run.size, 0, None))
    while batch := list(islice(lines, run.order.batch_size)):
        tally = tally.plus(_unless_refused(run, judge_lines(reader=reader, lines=batch)))
        run.report(ImportProgress(calls.place.offset, run.size, tally.rows, None))
    return ImportSummary(run.sha256, tally, shift, tally.rows, None)


def _unless_refused(run: _Run, tally: Tally) -> Tally:
    if tally.refusals and run.order.stops_at_refusal:
        raise ImportFault("--fail-fast", tally.refusals[0].in_words())
    return tally


def _course(run: _Run, stream: BinaryIO) -> Course:
    """Return where this run begins: as noted, else at the first row, moved as far as it was before."""
    order, options = run.order, _options_text(run.order.form)
    known = run.journal.read()
    if known is None:
        return Course(options, shift=_shift(run, stream) if order.moves_to_now else STANDSTILL)
    if known.is_finished or known.options != options or order.starts_over:
        return Course(options, shift=known.shift)
    return known


def _shift(run: _Run, stream: BinaryIO) -> timedelta:
    latest = open_calls(stream, run.order.form).latest_start()
    if latest is None:
        raise ImportFault("--shift-to-now", "no row has a time that can be read")
    return run.now() - latest.replace(tzinfo=UTC)


def _record(run: _Run, tally: Tally, shift: timedelta, *, is_finished: bool) -> None:
    order = run.order
    with transaction():
        record(
            event="api_requests.imported",
            target_kind="project",
            target_id=order.project_id,
            target_label=order.project_name,
            after={
                "file": order.path.name,
                "digest": run.sha256,
                "created": tally.created,
                "duplicate": tally.duplicate,
                "refused": tally.refused,
                "first_started_at": tally.first_started_at,
                "last_started_at": tally.last_started_at,
                "shift_s": shift.total_seconds(),
                "finished": is_finished,
            },
        )


def _check_constants(form: FileForm) -> None:
    """Refuse at once a constant that would have every row refused."""
    read = read_ndjson(to_json({**PROBE, **constants_of(form)}))
    for fault in read.faults.get(0, ()):
        raise ImportFault("--set", f"{field_of(fault, index=0)}: {fault.detail}")


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    # Asked before it is opened: opening a pipe waits for whoever writes into it.
    if path.exists() and not path.is_file():
        raise ImportFault("FILE", f"{path} is no regular file; it is read more than once")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ImportFault("FILE", f"{path} cannot be read: {error.strerror}") from None
    with stream:
        yield stream


def _import_key(order: ImportOrder, sha256: str) -> str:
    """Return what tells this import from others: all that the identity of its calls follows from."""
    form = order.form
    parts = (
        str(order.project_id),
        sha256,
        order.moves_to_now,
        form.format,
        form.id_prefix,
        str(form.zone),
        *(form.columns.get(name) for name in ("id", "started_at")),
        form.constants.get("started_at"),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _options_text(form: FileForm) -> str:
    return json.dumps([dict(form.columns), dict(form.constants)], sort_keys=True)
