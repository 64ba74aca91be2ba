"""Time-based one-time passwords (RFC 6238) and recovery codes: making and recognising. Pure."""

from __future__ import annotations

import base64
import hmac
import io
import re
import secrets
from urllib.parse import quote, urlencode

import segno
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

# What every authenticator app does, whatever the URI says; SHA-1 is sound inside HMAC (RFC 6238).
DIGITS = 6
STEP_S = 30
SECRET_BYTES = 20
# Clocks differ, and people type: the step before and the one after are taken too.
STEPS_AROUND = 1
ISSUER = "DevGuard"

RECOVERY_CODES = 10
RECOVERY_BYTES = 15  # 120 bits (ASVS 5.0, 6.5.2: may be stored as plain SHA-256)
RECOVERY_GROUP = 4
_TOTP_CODE = re.compile(r"\d{6}", re.ASCII)


def new_secret() -> bytes:
    """Return a new shared secret of 160 bits, the length of the hash (RFC 4226 section 4)."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """Return the secret as authenticator apps take it: base32 without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def otpauth_uri(secret: bytes, *, email: str) -> str:
    """Return what the QR code says (the key URI format of Google Authenticator)."""
    arguments = {
        "secret": secret_text(secret),
        "issuer": ISSUER,
        "algorithm": "SHA1",
        "digits": DIGITS,
        "period": STEP_S,
    }
    return f"otpauth://totp/{ISSUER}:{quote(email)}?{urlencode(arguments)}"


def qr_svg(uri: str) -> str:
    """Return the QR code as an SVG image."""
    image = io.BytesIO()
    segno.make(uri, micro=False).save(image, kind="svg", xmldecl=False, scale=4)
    return image.getvalue().decode().strip()


def looks_like_totp(code: str) -> bool:
    """Return whether the code was meant to be one of the app's, not a recovery code."""
    return _TOTP_CODE.fullmatch(code.replace(" ", "")) is not None


def matching_step(secret: bytes, code: str, *, now_s: float) -> int | None:
    """Return the number of the time step whose code this is, None when it is of none around now."""
    totp = TOTP(secret, DIGITS, SHA1(), STEP_S, enforce_key_length=False)  # noqa: S303 - RFC 6238
    typed = code.replace(" ", "").encode()
    present = int(now_s // STEP_S)
    around = range(present - STEPS_AROUND, present + STEPS_AROUND + 1)
    matching = [step for step in around if hmac.compare_digest(totp.generate(step * STEP_S), typed)]
    return matching[-1] if matching else None


def new_recovery_codes() -> list[str]:
    """Return ten new codes as `abcd-efgh-...`, six groups of four."""
    return [_grouped(secrets.token_bytes(RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]


def plain_recovery_code(code: str) -> str:
    """Return the code as it is hashed, however it was typed."""
    return "".join(code.split()).replace("-", "").lower()


def _grouped(raw: bytes) -> str:
    text = base64.b32encode(raw).decode().lower()
    return "-".join(text[at : at + RECOVERY_GROUP] for at in range(0, len(text), RECOVERY_GROUP))
