"""What may be kept of an object's fields, as canonical text. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
SECRET_WORDS = frozenset(
    {"password", "passphrase", "secret", "token", "key", "credential", "credentials"}
    | {"authorization", "cookie", "hash", "sha256", "dsn"}
)
# `api_key_id` or `token_kind` name or describe a secret and hold none.
HARMLESS_ENDINGS = frozenset(
    {"id", "ids", "kind", "name", "at", "count", "prefix", "last4", "is", "limit"}
)
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def canonical_text(fields: Mapping[str, Any] | None) -> str | None:
    """Return the fields as JSON with sorted keys, no blanks, and secrets replaced."""
    if fields is None:
        return None
    return json.dumps(
        redacted(fields), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )


def redacted(value: Any) -> Any:
    """Return the value with every field that is named like a secret replaced, at any depth."""
    if isinstance(value, Mapping):
        return {
            str(name): REDACTED if is_secret(str(name)) and part is not None else redacted(part)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        parts = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [redacted(part) for part in parts]
    return value


def is_secret(name: str) -> bool:
    """Return whether a field of this name holds a secret: `api_key`, `clientSecret`, `token`."""
    words = [word.lower() for word in WORDS.findall(name)]
    return bool(words) and words[-1] not in HARMLESS_ENDINGS and bool(SECRET_WORDS & set(words))


def _plain(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if callable(isoformat) else str(value)
