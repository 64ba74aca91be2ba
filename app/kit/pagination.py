"""Pages of a list: a limit, and an opaque signed cursor bound to tenant, list and filters."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from app.kit.errors import Fault, InvalidPayload
from app.kit.payload import QueryArguments
from app.kit.tenancy import current_organization_id

DEFAULT_LIMIT = 20
MAXIMUM_LIMIT = 100
SIGNATURE_BYTES = 16

Row = TypeVar("Row")
Shown = TypeVar("Shown")


class PageArguments(QueryArguments):
    """The arguments of every list."""

    limit: Annotated[int, Field(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, Field(max_length=2000)] | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of rows and the cursor of the next one, None at the end."""

    items: list[Row]
    next_cursor: str | None
    total: int | None = None

    def mapped(self, view_of: Callable[[Row], Shown]) -> Page[Shown]:
        """Return the page with each row shown by `view_of`."""
        return Page([view_of(row) for row in self.items], self.next_cursor, self.total)


class CursorSigner:
    """Makes and reads cursors of one list. `key` is the application's secret."""

    def __init__(self, *, key: str, name: str, filters: object) -> None:
        self._key = hashlib.sha256(f"cursor|{key}".encode()).digest()
        # Bound to tenant, list and filters: a cursor of another one is no position in this list.
        bound = json.dumps(
            [str(current_organization_id()), name, filters], default=str, sort_keys=True
        )
        self._binding = hashlib.sha256(bound.encode()).digest()

    def cursor_of(self, position: Sequence[str]) -> str:
        """Return the opaque text that stands for this position (the sort keys of the last row)."""
        body = json.dumps(list(position)).encode()
        return _text_of(self._signature(body) + body)

    def position_of(self, cursor: str) -> list[str]:
        """Return the position. Raises InvalidPayload for a broken cursor or one of another list."""
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            raise _refused() from None
        signature, body = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
        # Base64 reads many texts as the same bytes; only ours is a cursor.
        if not hmac.compare_digest(signature, self._signature(body)) or _text_of(raw) != cursor:
            raise _refused()
        position = json.loads(body)
        return [str(part) for part in position]

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._binding + body, "sha256")[:SIGNATURE_BYTES]


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _refused() -> InvalidPayload:
    return InvalidPayload(
        "the cursor is broken or belongs to another list or other filters",
        faults=[Fault("/cursor", "invalid_cursor", "start again without a cursor")],
    )


def page_of(
    rows: Sequence[Row],
    *,
    limit: int,
    position: Callable[[Row], Sequence[str]],
    signer: CursorSigner,
) -> Page[Row]:
    """Return one page from at most `limit + 1` rows that were asked for in order."""
    items = list(rows[:limit])
    more = len(rows) > limit
    return Page(items, signer.cursor_of(position(items[-1])) if more and items else None)


def filters_of(arguments: QueryArguments) -> dict[str, Any]:
    """Return what a cursor of this list is bound to: every argument but the page itself."""
    return arguments.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_none=True)
