"""A worker or beat that includes this looks for what was killed or is busy at once, not every 10 s."""

from __future__ import annotations

from datetime import timedelta

from app.kit.jobs import relay, tasks

relay.ORPHAN_LOOK_S = 0.4
relay.POLL_S = 0.2
relay.LONGEST_PAUSE_S = 1.0
tasks.BUSY_DELAY = timedelta(seconds=0.5)
tasks.DATABASE_PAUSE_S = 0.2
