"""A beat of the tests: one job, every second."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.kit.jobs.schedule import Every, SlotScheduler


class EachSecond(SlotScheduler):
    def __init__(self, app: Any, **options: Any) -> None:
        app.job_schedule = {"probe.note_slot": Every(timedelta(seconds=1), queue="probe")}
        super().__init__(app, **options)

    def tick(self, *arguments: Any, **options: Any) -> float:
        return min(0.2, super().tick(*arguments, **options))
