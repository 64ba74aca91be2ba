"""What can go wrong, by name: each error knows its HTTP status, title and code. No flask here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule of a payload: where (JSON pointer or query parameter), which rule, in words."""

    pointer: str
    code: str
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"pointer": self.pointer, "code": self.code, "detail": self.detail}


class DevGuardError(Exception):
    """The base of every refusal; `detail` is shown to the caller, so it never holds a secret."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    code: str = "internal_error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str | None = None,
        faults: Sequence[Fault] = (),
        headers: dict[str, str] | None = None,
        members: dict[str, str | int] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.code = code or type(self).code
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        # Extension members of the problem (RFC 9457 section 3.2): what the caller needs to go on.
        self.members = dict(members or {})


class BadRequest(DevGuardError):
    status = 400
    title = "Bad request"
    code = "bad_request"


class Unauthorized(DevGuardError):
    status = 401
    title = "No valid credential"
    code = "unauthorized"

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str | None = None,
        members: dict[str, str | int] | None = None,
    ) -> None:
        headers = {"WWW-Authenticate": 'Bearer realm="devguard"'}
        super().__init__(detail, code=code, headers=headers, members=members)


class Forbidden(DevGuardError):
    status = 403
    title = "Not allowed"
    code = "forbidden"


class NotFound(DevGuardError):
    """What does not exist, and equally what belongs to others."""

    status = 404
    title = "Not found"
    code = "not_found"


class Conflict(DevGuardError):
    status = 409
    title = "Conflict"
    code = "conflict"


class PreconditionFailed(DevGuardError):
    """The object is not in the state that the caller named."""

    status = 412
    title = "Precondition failed"
    code = "precondition_failed"


class PayloadTooLarge(DevGuardError):
    status = 413
    title = "Payload too large"
    code = "payload_too_large"


class UnsupportedMediaType(DevGuardError):
    status = 415
    title = "Unsupported media type"
    code = "unsupported_media_type"


class InvalidPayload(DevGuardError):
    """A body or query that breaks rules; `faults` names every one of them."""

    status = 422
    title = "Invalid payload"
    code = "invalid_payload"


class TooManyRequests(DevGuardError):
    status = 429
    title = "Too many requests"
    code = "rate_limited"


class Unavailable(DevGuardError):
    """A part that we need is down; the caller should try again after `Retry-After` seconds."""

    status = 503
    title = "Temporarily unavailable"
    code = "unavailable"

    def __init__(self, detail: str | None = None, *, retry_after_s: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})
