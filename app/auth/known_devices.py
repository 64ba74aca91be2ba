"""Device tokens: what a device keeps to be known again as one that its owner signed in from. Pure.

A token proves no right. Whoever holds it is counted by himself when he mistypes the password, so
that strangers who guess at an account cannot keep its owner out.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from datetime import UTC, datetime, timedelta

PREFIX = "dgd_"
LIFETIME = timedelta(days=180)
ID_BYTES = 12
MOMENT_BYTES = 6
TOKEN_BYTES = ID_BYTES + MOMENT_BYTES + 32


def account_key(email: str, *, secret: str) -> bytes:
    """Return under which key attempts on an account are counted, whether or not it exists."""
    return _mac(secret, b"devguard account", email.encode())


def new_device_token(account: bytes, *, secret: str, now: datetime) -> str:
    """Return a token with which this account's owner is known on this device for half a year."""
    moment = int(now.timestamp()).to_bytes(MOMENT_BYTES, "big")
    body = secrets.token_bytes(ID_BYTES) + moment
    raw = body + _mac(secret, b"devguard device", account + body)
    return PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def device_id(token: str | None, account: bytes, *, secret: str, now: datetime) -> str | None:
    """Return which known device this is, None for a token of another account, an old or a forged one."""
    if token is None or not token.startswith(PREFIX) or not token.isascii():
        return None
    try:
        text = token.removeprefix(PREFIX)
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    body, mac = raw[:-32], raw[-32:]
    if len(raw) != TOKEN_BYTES or not hmac.compare_digest(
        mac, _mac(secret, b"devguard device", account + body)
    ):
        return None
    made_at = datetime.fromtimestamp(int.from_bytes(body[ID_BYTES:], "big"), tz=UTC)
    return body[:ID_BYTES].hex() if now < made_at + LIFETIME else None


def _mac(secret: str, purpose: bytes, text: bytes) -> bytes:
    return hmac.digest(hmac.digest(secret.encode(), purpose, "sha256"), text, "sha256")
