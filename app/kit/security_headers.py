"""The headers that every answer carries."""

from __future__ import annotations

from flask import Response

CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"

FIXED = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


def harden(response: Response, *, is_authenticated: bool) -> Response:
    """Return the answer with its security headers; an authenticated one is never cached."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.extend(FIXED)
    if is_authenticated:
        headers["Cache-Control"] = "no-store"
    return response
