"""Which password schemes are in use, so that a refusal takes as long for each of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.organizations.queries import password_marks

# Marks change when the operator sets another scheme or cost; the look-up reads every account.
LIFETIME_S = 300.0


@dataclass(slots=True)
class _Known:
    marks: frozenset[str] = frozenset()
    ends_at_s: float = 0.0


_KNOWN = _Known()


def marks_in_use() -> frozenset[str]:
    """Return scheme and cost of all stored passwords, read at most every five minutes."""
    now_s = time.monotonic()
    if now_s >= _KNOWN.ends_at_s:
        _KNOWN.ends_at_s = now_s + LIFETIME_S
        _KNOWN.marks = password_marks()
    return _KNOWN.marks


def forget_marks() -> None:
    """Look the marks up anew at the next refusal."""
    _KNOWN.ends_at_s = 0.0
