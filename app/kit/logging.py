"""JSON log lines with the request id, in the web process and in every task that a request caused."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

from app.kit.ids import new_id

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def configure_logging(level: str) -> None:
    """Write every record, ours and the libraries', as one JSON object per line to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; call it with an event name and fields, never with a secret."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


def request_id_from(header: str | None) -> str:
    """Return the caller's request id when it is safe to repeat, else a new one."""
    if header and SAFE_REQUEST_ID.fullmatch(header):
        return header
    return str(new_id())


def bind_context(**fields: object) -> None:
    """Add fields to every line of this request or task."""
    structlog.contextvars.bind_contextvars(**fields)


def clear_context() -> None:
    """Forget the fields at the end of a request or task, so that the next one starts clean."""
    structlog.contextvars.clear_contextvars()


def bound_request_id() -> str | None:
    """Return the request id of this request or task, if one is bound."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return None if request_id is None else str(request_id)
