"""A worker that has one task: to note that it began and ended."""

import time
from pathlib import Path

from celery import Celery

from config import Config

config = Config.from_environment()
celery = Celery("stub", broker=config.celery_broker_url)
celery.conf.task_default_queue = "default"
celery.conf.broker_connection_retry_on_startup = True
celery.conf.beat_scheduler = "celery.beat:Scheduler"


@celery.task(name="stub.nap")
def nap(note: str) -> None:
    Path(note).write_text("began")
    time.sleep(1.5)
    Path(note).write_text("ended")
