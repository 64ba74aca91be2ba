"""Published heads: what the database once said, kept where its administrator cannot take it back.

Each head goes to the log, which operators collect elsewhere, and to files under DEVGUARD_HOME. All are
kept: a chain that was cut and has grown again differs from an old head, not from the newest one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from app.audit.seals import Head, SealKey, SealKeys, head_line, read_head_line
from app.kit.logging import logger

log = logger(__name__)

CURRENT = "heads.jsonl"
ALL_FILES = "heads*.jsonl"
LARGEST_FILE_BYTES = 16_777_216

PublishedSeals = dict[UUID, dict[int, bytes]]


class BrokenHeads(Exception):
    """A file of published heads holds what we never wrote; the message says where."""


def publish_heads(heads: Sequence[Head], *, key: SealKey, folder: Path) -> None:
    """Write the signed heads to the log and behind the others in `folder`."""
    if not heads:
        return
    # The log first: a folder that cannot be written must not keep a head from everybody.
    for head in heads:
        log.info(
            "audit_head",
            organization_id=str(head.organization_id),
            position=head.position,
            seal=head.seal.hex(),
            key_id=key.id,
            signature=key.signature(head),
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder):
        _append("".join(f"{head_line(head, key)}\n" for head in heads), folder / CURRENT)


def published_seals(*, folder: Path, keys: SealKeys) -> PublishedSeals:
    """Return the seal that was published for each organization and position.

    Raises BrokenHeads for a line that is broken or not signed by us.
    """
    seals: PublishedSeals = {}
    for path in sorted(folder.glob(ALL_FILES)):
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    head = read_head_line(line, keys)
                except ValueError as error:
                    raise BrokenHeads(f"{path.name}, line {number}: {error}") from None
                _note(seals.setdefault(head.organization_id, {}), head)
    return seals


def _note(of_organization: dict[int, bytes], head: Head) -> None:
    # What was published first counts: a chain that grew again was published a second time.
    of_organization.setdefault(head.position, head.seal)


def _append(text: str, path: Path) -> None:
    if path.exists() and path.stat().st_size > LARGEST_FILE_BYTES:
        path.rename(path.with_name(f"heads-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
