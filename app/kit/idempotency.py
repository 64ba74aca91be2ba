"""`Idempotency-Key`: a POST that is sent twice has its effect once, and both times the same answer.

The answer is kept in the transaction of the effect, so neither is ever there without the other. A
request that is refused keeps nothing: repeat it with the same key when it is put right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from flask import Response, request

from app.extensions import db
from app.kit.actor import Actor
from app.kit.errors import BadRequest, Conflict, InvalidPayload
from app.kit.idempotency_keys import KEPT, IdempotencyKey, KeyScope, find_kept, try_lock

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
# Visible ASCII: what a header may hold and a person can compare.
FORM = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_HEADERS = ("Content-Type", "Location", "ETag", "Link", "Content-Disposition")


def answer_once(
    deed: Callable[[], Response],
    *,
    key: str,
    actor: Actor,
    route: str,
    payload: bytes,
    is_replayable: bool,
) -> Response:
    """Return what the deed answers, or what it answered to the same request in the last 24 hours.

    Raises BadRequest for a malformed key, Conflict while a request with this key runs and for the
    repeat of one whose answer held a secret, InvalidPayload when the key came with another request.
    """
    if not FORM.fullmatch(key):
        raise BadRequest(
            f"{HEADER} must be 1 to 255 visible ASCII characters", code="invalid_idempotency_key"
        )
    scope = KeyScope(actor.organization_id, _bearer_id(actor), route, key)
    digest = _fingerprint(payload)
    if not try_lock(scope):
        raise Conflict(
            "a request with this key still runs; repeat it in a moment",
            code="idempotency_key_in_use",
            headers={"Retry-After": "1"},
        )
    now = datetime.now(UTC)
    kept = find_kept(scope, now=now)
    if kept is not None:
        return _replayed(kept, digest)
    response = deed()
    if response.status_code < 400:
        _keep(response, scope, digest=digest, is_replayable=is_replayable, now=now)
    return response


def _fingerprint(payload: bytes) -> bytes:
    # What the answer depends on: where, with which arguments, in which form, what.
    where = f"{request.full_path}\n{request.mimetype}\n".encode()
    return hashlib.sha256(where + payload).digest()


def _replayed(kept: IdempotencyKey, digest: bytes) -> Response:
    if kept.request_sha256 != digest:
        raise InvalidPayload(
            f"this {HEADER} was used with another request", code="idempotency_key_reused"
        )
    if not kept.is_replayable:
        location = kept.headers.get("Location")
        raise Conflict(
            "this was done before; its answer held a secret and is not kept",
            code="answered_once",
            headers={"Location": str(location)} if location else None,
        )
    response = Response(kept.body, status=kept.status)
    del response.headers["Content-Type"]
    response.headers.update(kept.headers)
    response.headers[REPLAYED] = "true"
    return response


def _keep(
    response: Response, scope: KeyScope, *, digest: bytes, is_replayable: bool, now: datetime
) -> None:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    db.session.add(
        IdempotencyKey(
            organization_id=scope.organization_id,
            actor_id=scope.actor_id,
            route=scope.route,
            key=scope.key,
            request_sha256=digest,
            is_replayable=is_replayable,
            status=response.status_code,
            headers=headers,
            body=response.get_data() if is_replayable else b"",
            created_at=now,
            expires_at=now + KEPT,
        )
    )


def _bearer_id(actor: Actor) -> UUID:
    bearer_id = actor.api_key_id or actor.user_id
    if bearer_id is None:
        raise RuntimeError("an actor is a person or a key")
    return bearer_id
