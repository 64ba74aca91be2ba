"""Passwords that many people chose and that leaked: the first that an attacker tries. Pure.

The lists are files (breached_passwords/SOURCE.md says whence); nothing is asked of the network
(OWASP ASVS 5.0, 6.2.4 and 6.2.12).
"""

from __future__ import annotations

import gzip
import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SHIPPED = Path(__file__).with_name("breached_passwords") / "common.txt.gz"
DIGEST_BYTES = 8


class BreachedPasswords:
    """A set of passwords, kept as 8 sorted bytes each: a million take 8 MB of a process."""

    def __init__(self, *paths: Path) -> None:
        digests = {_digest(line) for path in paths for line in _lines(path)}
        self._digests = array("Q", sorted(digests))

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, password: str) -> bool:
        digest = _digest(password)
        place = bisect_left(self._digests, digest)
        return place < len(self._digests) and self._digests[place] == digest


@cache
def breached_passwords(own_list: Path | None) -> BreachedPasswords:
    """Return the list that we ship with the operator's own one, read at the first call.

    Raises OSError for an own list that cannot be read.
    """
    return BreachedPasswords(*(path for path in (SHIPPED, own_list) if path is not None))


def _digest(password: str) -> int:
    raw = hashlib.blake2b(password.casefold().encode(), digest_size=DIGEST_BYTES).digest()
    return int.from_bytes(raw, "big")


def _lines(path: Path) -> Iterator[str]:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    for line in raw.decode(errors="replace").splitlines():
        if line.strip():
            yield line.strip()
