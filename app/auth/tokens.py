"""Access tokens: short-lived JWTs (RFC 9068) that name user, organization and session, no rights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from flask import current_app
from flask_jwt_extended import create_access_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException

from app.kit.errors import Unauthorized

ACCESS_TYPE = "at+jwt"
LONGEST_TOKEN = 2048
COMPACT_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
MALFORMED = (
    jwt.PyJWTError,
    JWTExtendedException,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Whom the token names; what he may do is read from the database at each use."""

    user_id: UUID
    organization_id: UUID
    session_id: UUID
    epoch: int


def issue_access_token(claims: AccessClaims) -> str:
    """Return a signed access token, valid for JWT_ACCESS_TOKEN_EXPIRES."""
    token: str = create_access_token(
        identity=str(claims.user_id),
        additional_claims={
            "org": str(claims.organization_id),
            "sid": str(claims.session_id),
            "epoch": claims.epoch,
        },
        additional_headers={"typ": ACCESS_TYPE},
    )
    return token


def access_token_lifetime_s() -> int:
    """Return for how many seconds an access token is valid."""
    return int(current_app.config["JWT_ACCESS_TOKEN_EXPIRES"].total_seconds())


def read_access_token(token: str) -> AccessClaims:
    """Return the claims of a valid access token.

    Algorithm, audience and issuer are fixed by configuration; nothing in the token's header chooses
    a key. Raises Unauthorized for everything else, `token_expired` when only its time is over.
    """
    if len(token) > LONGEST_TOKEN or not COMPACT_FORM.fullmatch(token):
        raise _refused()
    try:
        claims = decode_token(token)
        header = jwt.get_unverified_header(token)
        return _checked(claims, header)
    except jwt.ExpiredSignatureError:
        raise Unauthorized("the access token has expired", code="token_expired") from None
    except MALFORMED:
        raise _refused() from None


def _checked(claims: dict[str, Any], header: dict[str, Any]) -> AccessClaims:
    epoch = claims["epoch"]
    if header.get("typ") != ACCESS_TYPE or claims["type"] != "access" or "exp" not in claims:
        raise ValueError("no access token")
    if not isinstance(epoch, int):
        raise TypeError("no epoch")
    return AccessClaims(
        user_id=UUID(claims["sub"]),
        organization_id=UUID(claims["org"]),
        session_id=UUID(claims["sid"]),
        epoch=epoch,
    )


def _refused() -> Unauthorized:
    return Unauthorized("the credential is not valid")
