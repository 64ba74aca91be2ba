"""Slugs: names that fit into a URL. Pure."""

from __future__ import annotations

import re
import unicodedata

LONGEST_SLUG = 63
SLUG_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"
NAMELESS = "project"
_OTHER = re.compile(r"[^a-z0-9]+")


def slug_of(name: str) -> str:
    """Return the slug of a name: its letters without accents and digits, joined by hyphens.

    A name without any such letter, as one in another script, is `project`.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _OTHER.sub("-", plain).strip("-")[:LONGEST_SLUG].rstrip("-") or NAMELESS
