"""Forgetting runs and slots that are long ended."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from app.extensions import db
from app.kit.jobs.tasks import platform_task

# Far longer than a message can wander: what is delivered later than that would run again.
KEPT = timedelta(days=7)

_CLEAN_RUNS = text("DELETE FROM task_runs WHERE finished_at < now() - :kept")
# The newest slot stays whatever its age: a yearly job must find its last claim.
_CLEAN_SLOTS = text("""
DELETE FROM job_runs
WHERE claimed_at < now() - :kept
  AND slot < (SELECT max(slot) FROM job_runs AS newest WHERE newest.name = job_runs.name)
""")


@platform_task("kit.clean_job_records")
def clean_job_records() -> None:
    """Delete the records of runs and slots that ended a week ago; dead tasks stay for a person."""
    db.session.execute(_CLEAN_RUNS, {"kept": KEPT})
    db.session.execute(_CLEAN_SLOTS, {"kept": KEPT})
