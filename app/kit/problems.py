"""The one place that turns an error into an answer: problem+json (RFC 9457) for every status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy.exc
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app.kit.errors import DevGuardError, Unavailable
from app.kit.logging import bound_request_id, logger

PROBLEM = "application/problem+json"
log = logger(__name__)

# One code for one status, whether we refuse or a library does.
_CODES = {kind.status: kind.code for kind in DevGuardError.__subclasses__()}


def register_problem_handlers(app: Flask) -> None:
    """Answer every error of the application as a problem; no stack trace leaves the server."""
    app.register_error_handler(DevGuardError, _refusal)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(sqlalchemy.exc.OperationalError, _database_down)
    app.register_error_handler(sqlalchemy.exc.InterfaceError, _database_down)
    app.register_error_handler(sqlalchemy.exc.TimeoutError, _database_down)
    app.register_error_handler(psycopg.OperationalError, _database_down)
    app.register_error_handler(Exception, _fault)


def problem(error: DevGuardError) -> Response:
    """Return the answer for a refusal."""
    response = _problem(
        status=error.status,
        title=error.title,
        code=error.code,
        detail=error.detail,
        errors=[fault.as_json() for fault in error.faults],
        members=error.members,
    )
    response.headers.update(error.headers)
    return response


def _refusal(error: DevGuardError) -> Response:
    return problem(error)


def _http_error(error: HTTPException) -> Response:
    if error.response is not None and isinstance(error.response, Response):
        return error.response
    status = error.code or 500
    response = _problem(
        status=status,
        title=error.name,
        code=_CODES.get(status) or error.name.lower().replace(" ", "_"),
        detail=error.description or error.name,
    )
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "location"}:
            response.headers[name] = value
    return response


def _database_down(error: Exception) -> Response:
    cause = getattr(error, "orig", None) or error
    # Only the first line: those behind it may quote the values of the statement.
    reason = str(cause).partition("\n")[0]
    log.error("database_unavailable", error=type(cause).__name__, reason=reason, path=request.path)
    if isinstance(cause, psycopg.errors.QueryCanceled):
        return problem(
            Unavailable("the database takes too long; ask for less or repeat the request")
        )
    return problem(Unavailable("the database does not answer; repeat the request"))


def _fault(error: Exception) -> Response:
    log.error("unhandled_error", path=request.path, method=request.method, exc_info=error)
    return _problem(
        status=500,
        title="Internal error",
        code="internal_error",
        detail="this is our fault; the request id finds it in the log",
    )


def _problem(
    *,
    status: int,
    title: str,
    code: str,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    members: Mapping[str, str | int] | None = None,
) -> Response:
    content: dict[str, Any] = {
        **(members or {}),
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": bound_request_id(),
        "errors": errors or [],
    }
    return Response(json.dumps(content), status=status, content_type=PROBLEM)
