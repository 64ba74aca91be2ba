"""What the description of the API says of every route alike: problems, and headers that routes heed."""

from __future__ import annotations

from typing import Any

HEADER_PARAMETERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "Your name for this deed, kept for 24 hours: a repeat of the same request has "
        "no second effect and answers the same, with `Idempotent-Replayed: true`; another request "
        "with this key is 422, one while the first still runs 409. An answer that held a secret is "
        "not kept: its repeat is 409 `answered_once`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    "If-None-Match": {
        "description": "The `ETag` of an answer that you have: 304 when it is still the same.",
        "schema": {"type": "string"},
    },
    "If-Match": {
        "description": "The `ETag` that you saw last: 412 when the object was changed since.",
        "schema": {"type": "string"},
    },
}
PROBLEM_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "code", "request_id", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
