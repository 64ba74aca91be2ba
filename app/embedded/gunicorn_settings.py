"""gunicorn's settings wherever the web server runs: `python -m gunicorn --config python:app.embedded.gunicorn_settings`.

The application's modules are imported once, before the workers are forked, so that they share the memory (measured:
138 instead of 210 MB for two workers) and a worker that died is back at once. Only imported: each worker makes its own
application, because connections, threads and locks do not survive a fork.
"""

import gc
from importlib import import_module
from pathlib import Path
from typing import Any

from gevent import monkey

# Before anything that sockets, locks or threads are taken from.
monkey.patch_all()
import_module("app.factory")

wsgi_app = "app:create_app()"
worker_class = "gevent"
control_socket_disable = True
# How long requests under way may take until their worker is stopped anyway, in seconds.
graceful_timeout = 30
timeout = 60
loglevel = "warning"
# A batch is thousands of short-lived dicts, none of them a cycle: at Python's own threshold the collector walked
# the whole application's objects several times for each batch, 15 % of its time.
COLLECT_AFTER_ALLOCATIONS = 50_000


def post_fork(_server: Any, _worker: Any) -> None:
    """Leave what was imported out of every collection, and collect less often."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_ALLOCATIONS, 20, 20)


if Path("/dev/shm").is_dir():  # noqa: S108 - gunicorn makes and unlinks the files itself
    # Where workers show that they live: a slow disk must not look like a dead worker.
    worker_tmp_dir = "/dev/shm"  # noqa: S108
