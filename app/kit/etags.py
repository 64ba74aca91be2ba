"""Entity tags (RFC 9110 section 8.8.3): which state of an object a caller has seen. No flask here.

A tag is made of the version or the content of the object, never of the credential: two people who see
the same object have the same tag.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from app.kit.errors import BadRequest, PreconditionFailed

ANY = "*"
TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
LIST_OF_TAGS = re.compile(rf"\s*{TAG.pattern}(\s*,\s*{TAG.pattern})*\s*")


def tag_of_version(version: int) -> str:
    """Return the strong tag of an object that counts its changes."""
    return f'"v{version}"'


def tag_of_content(content: bytes) -> str:
    """Return the strong tag of an answer whose object counts no changes."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Precondition:
    """What `If-Match` demands: the states of the object that the caller is ready to change."""

    tags: frozenset[str]

    @classmethod
    def of(cls, header: str | None) -> Precondition | None:
        """Return what the header demands, None without one. Raises BadRequest for a malformed one."""
        tags = read_tags(header)
        return None if tags is None else cls(tags)

    def check(self, version: int) -> None:
        """Raise PreconditionFailed unless the object is in one of these states.

        A weak tag never matches here (RFC 9110 section 13.1.1).
        """
        if ANY not in self.tags and tag_of_version(version) not in self.tags:
            raise PreconditionFailed("the object was changed since you read it; read it again")


def is_known(tag: str, header: str | None) -> bool:
    """Return whether `If-None-Match` names the tag, so that the caller has the answer already."""
    tags = read_tags(header)
    if tags is None:
        return False
    return ANY in tags or tag in {known.removeprefix("W/") for known in tags}


def read_tags(header: str | None) -> frozenset[str] | None:
    """Return the tags of a header, `*` among them. Raises BadRequest for a malformed one."""
    if header is None:
        return None
    if header.strip() == ANY:
        return frozenset({ANY})
    if not LIST_OF_TAGS.fullmatch(header):
        raise BadRequest('send entity tags as "...", separated by commas', code="malformed_tags")
    return frozenset(match.group() for match in TAG.finditer(header))
