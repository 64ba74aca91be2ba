"""On whose behalf this request, task or command acts, for the audit log; set by the edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from app.kit.actor import Actor


@dataclass(frozen=True, slots=True)
class Doer:
    """Who does it: a label that is kept when the person or key is gone, and from where."""

    kind: str
    id: UUID | None
    label: str
    ip: str | None = None


_doer: ContextVar[Doer | None] = ContextVar("audit_doer", default=None)


def act_as(doer: Doer | None) -> None:
    """Set who acts from here on; None forgets, at the end of a request."""
    _doer.set(doer)


@contextmanager
def acting_as(doer: Doer) -> Iterator[None]:
    """Act as this doer inside: for tasks and commands, which nobody's credential started."""
    token = _doer.set(doer)
    try:
        yield
    finally:
        _doer.reset(token)


def current_doer() -> Doer:
    """Return who acts. Raises RuntimeError when the edge named nobody: a fault of the code."""
    doer = _doer.get()
    if doer is None:
        raise RuntimeError("nobody is named for the audit log: the edge calls act_as()")
    return doer


def doer_of(actor: Actor, *, ip: str | None) -> Doer:
    """Return the bearer of a credential as the audit log names him."""
    return Doer(
        kind=str(actor.kind), id=actor.api_key_id or actor.user_id, label=actor.label, ip=ip
    )


def operator(name: str) -> Doer:
    """Return the person at the server's console."""
    return Doer(kind="operator", id=None, label=name)


def system(name: str) -> Doer:
    """Return a job of ours, by its name."""
    return Doer(kind="system", id=None, label=name)
