"""Why a request to the outside was not made, or came to nothing. Shown to customers: no internal address in them."""

from __future__ import annotations

from app.kit.errors import DevGuardError, InvalidPayload


class OutboundRefused(InvalidPayload):
    """We do not connect there; the code says which rule it breaks: `outbound_scheme`, `_userinfo`, `_url`,
    `_host`, `_port`, `_address`, `_method`, `_header`, `_body`."""

    code = "outbound_refused"
    title = "Refused to connect"


class OutboundFailed(DevGuardError):
    """It did not answer as it should; the code says how: `outbound_dns`, `_connection`, `_timeout`,
    `_certificate`, `_tls`, `_protocol`, `_too_large`, `_not_json`."""

    status = 502
    code = "bad_gateway"
    title = "No valid answer from outside"
