"""One request or command = one transaction. With jobs.py the only place that commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.extensions import db


@contextmanager
def transaction() -> Iterator[None]:
    """Commit what was done inside, or nothing of it; the answer is sent after the commit."""
    try:
        yield
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise
