"""Tasks of the tests: a real worker imports them with `--include tests.kit.jobs_probe`."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

from sqlalchemy import text

from app.extensions import db
from app.kit.jobs import PoisonPayload, RetryLater, enqueue, platform_task, tenant_task
from app.kit.tenancy import current_organization_id, system_session

TABLES = """
CREATE SCHEMA probe;
CREATE TABLE probe.effects (note text NOT NULL, organization_id uuid, role text NOT NULL, pid integer NOT NULL);
CREATE TABLE probe.starts (note text NOT NULL, pid integer NOT NULL);
GRANT USAGE ON SCHEMA probe TO dg_app, dg_system;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA probe TO dg_app, dg_system;
"""


def _effect(note: str, *, organization: bool = True) -> None:
    db.session.execute(
        text(
            "INSERT INTO probe.effects VALUES (:note, CAST(:organization_id AS uuid), current_user, :pid)"
        ),
        {
            "note": note,
            "organization_id": current_organization_id() if organization else None,
            "pid": os.getpid(),
        },
    )


def _start(note: str) -> int:
    """Note a start that survives whatever happens to the task; return how many there were."""
    with system_session() as session:
        session.execute(
            text("INSERT INTO probe.starts VALUES (:note, :pid)"),
            {"note": note, "pid": os.getpid()},
        )
        return session.scalar(
            text("SELECT count(*) FROM probe.starts WHERE note = :note"), {"note": note}
        )


@tenant_task("probe.take_note", queue="probe")
def take_note(*, note: str) -> None:
    _effect(note)


@tenant_task("probe.take_note_slowly", queue="probe")
def take_note_slowly(*, note: str, seconds: str) -> None:
    _start(note)
    _effect(note)
    time.sleep(float(seconds))


@tenant_task("probe.take_note_at_second_start", queue="probe")
def take_note_at_second_start(*, note: str) -> None:
    """Hang at the first start, so that the worker can be killed in the middle."""
    _effect(note)
    if _start(note) == 1:
        time.sleep(60)


@tenant_task("probe.fail_at_first", queue="probe", retry_backoff_s=0.01)
def fail_at_first(*, note: str, failures: str) -> None:
    _effect(note)
    if _start(note) <= int(failures):
        raise RuntimeError(f"{note} fails")


@tenant_task("probe.fail_always", queue="probe", max_retries=2, retry_backoff_s=0.01)
def fail_always(*, note: str) -> None:
    _effect(note)
    raise RuntimeError(f"{note} always fails")


@tenant_task("probe.kill_own_worker", queue="probe")
def kill_own_worker(*, note: str) -> None:
    _effect(note)
    _start(note)
    os.kill(os.getpid(), signal.SIGKILL)


@tenant_task("probe.refuse_payload", queue="probe")
def refuse_payload(*, note: str) -> None:
    _effect(note)
    raise PoisonPayload(f"{note} can never work")


@tenant_task("probe.ask_for_more_time", queue="probe")
def ask_for_more_time(*, note: str) -> None:
    raise RetryLater(f"{note} is early", after=timedelta(hours=2))


@tenant_task("probe.commit_itself", queue="probe", max_retries=0)
def commit_itself(*, note: str) -> None:
    _effect(note)
    db.session.commit()


@tenant_task("probe.break_a_constraint", queue="probe")
def break_a_constraint(*, note: str) -> None:
    db.session.execute(text("INSERT INTO probe.starts (note) VALUES (:note)"), {"note": note})


@tenant_task("probe.ask_for_note", queue="probe")
def ask_for_note(*, note: str) -> None:
    enqueue(take_note, note=note)


@tenant_task(
    "probe.sleep_over_limit", queue="probe", soft_time_limit=1, time_limit=5, max_retries=0
)
def sleep_over_limit(*, note: str) -> None:
    _effect(note)
    time.sleep(60)


@platform_task("probe.note_for_all", queue="probe")
def note_for_all() -> None:
    _start("note_for_all")
    _effect("note_for_all", organization=False)


@platform_task("probe.note_slot", queue="probe")
def note_slot() -> None:
    _effect("note_slot", organization=False)


@platform_task("probe.fail_for_all", queue="probe", max_retries=0)
def fail_for_all() -> None:
    raise RuntimeError("for all")


@tenant_task("probe.fail_unless_started", queue="probe", max_retries=0)
def fail_unless_started(*, note: str) -> None:
    """Fail at the first start, succeed at the second."""
    _effect(note)
    if _start(note) == 1:
        raise RuntimeError("not started yet")
