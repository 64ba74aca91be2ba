"""Where strangers report what they found of ours."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Response, request

from app.auth.routes.blueprint import security as blueprint
from app.auth.schemas.api_keys import TokenLeakCreate, TokenLeakView
from app.auth.service.key_changes import LeakReport, report_leak
from app.kit.endpoint import answered, body, endpoint
from app.kit.rate_limits import RateClass


@endpoint(
    blueprint,
    "POST",
    "/token-leaks",
    public="whoever found a token may have it ended; he holds it already",
    rate=RateClass.ANONYMOUS,
    body=TokenLeakCreate,
    answers={202: TokenLeakView},
    audit="api_key.leaked",
)
def create_token_leak() -> Response:
    """Report an API key that was found where it must not be; it is revoked at once.

    Always 202, whether the token is ours, alive or nonsense. API keys match `\\bdg[psi]_[0-9A-Za-z]{36}\\b`:
    `dgp_` personal, `dgs_` service, `dgi_` ingest; 30 random base62 digits (0-9, A-Z, a-z in this order),
    then 6 base62 digits, most significant first, of the CRC-32 (as in zlib) of the 34 characters before.
    """
    found = body(TokenLeakCreate)
    report_leak(
        report=LeakReport(
            text=found.token, source=found.source, url=found.url, ip=request.remote_addr
        ),
        now=datetime.now(UTC),
    )
    return answered(TokenLeakView(status="accepted"), status=202)
