"""The door of the audit log: what others call to write down what somebody did."""

from __future__ import annotations

from app.audit.service.records import changes, record

__all__ = ["changes", "record"]
