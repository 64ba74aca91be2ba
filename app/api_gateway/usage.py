"""Canonical usage: what one call consumed, in units that mean the same for every provider.

`input_tokens` and `output_tokens` are totals; every other token unit is a part of one of them. A name
reads `<kind>_<modality>_<direction>_tokens`, each part optional: `cache_read_audio_input_tokens` is the
audio that was read from the cache. The names follow OpenTelemetry GenAI where it has one; all 59 units
of genai-prices have exactly one name here (`library_name`).

    ours                           genai-prices                 part of
    input_tokens                   input_tokens                 -
    cache_read_input_tokens        cache_read_tokens            input_tokens
    cache_write_input_tokens       cache_write_tokens           input_tokens
    cache_write_5m_input_tokens    cache_write_5m_tokens        cache_write_input_tokens
    cache_write_1h_input_tokens    cache_write_1h_tokens        cache_write_input_tokens
    tool_input_tokens              input_tool_tokens            input_tokens
    audio_input_tokens (*)         input_audio_tokens           input_tokens
    cache_read_audio_input_tokens  cache_audio_read_tokens      both of its halves
    output_tokens                  output_tokens                -
    reasoning_output_tokens        output_reasoning_tokens      output_tokens
    citation_output_tokens         output_citation_tokens       output_tokens
    audio_output_tokens (*)        output_audio_tokens          output_tokens
    input_characters, audio_seconds, rerank_searches, web_searches, social_searches, storage_searches,
    code_executions, requests      the same                     -
    audio_input_seconds            input_audio_seconds          audio_seconds
    audio_output_seconds           output_audio_seconds         audio_seconds
    document_pages                 input_document_pages         -
    annotated_document_pages       input_annotated_document_pages  document_pages
    text_input_messages            input_text_messages          -
    input_pixels                   input_pixels                 -
    (*) and likewise text, image, video, alone and with every kind.

Any other name of the form `[a-z][a-z0-9_]{0,62}` is a unit that a tenant defined for an own provider.
Nothing here is ever clamped: what does not add up is refused with both numbers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

Count: TypeAlias = int | Decimal
Usage: TypeAlias = Mapping[str, Count]
Traits: TypeAlias = frozenset[tuple[str, str]]

MAX_COUNT: Final = 10**15
"""No call uses more of anything; a larger count is a fault of the sender, and would not fit a bigint sum."""

UNIT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

_MODALITIES = ("", "text", "audio", "image", "video")
_INPUT_KINDS = ("", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "tool")
_OUTPUT_KINDS = ("", "reasoning", "citation")
_OTHER_UNITS: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    ("input_characters", "input_characters", {"family": "characters", "direction": "input"}),
    ("text_input_messages", "input_text_messages", {"family": "messages", "modality": "text"}),
    ("audio_seconds", "audio_seconds", {"family": "durations"}),
    ("audio_input_seconds", "input_audio_seconds", {"family": "durations", "direction": "input"}),
    (
        "audio_output_seconds",
        "output_audio_seconds",
        {"family": "durations", "direction": "output"},
    ),
    ("input_pixels", "input_pixels", {"family": "pixels"}),
    ("document_pages", "input_document_pages", {"family": "document_pages"}),
    (
        "annotated_document_pages",
        "input_annotated_document_pages",
        {"family": "document_pages", "page_type": "annotated"},
    ),
    ("rerank_searches", "rerank_searches", {"family": "rerank"}),
    ("web_searches", "web_searches", {"family": "tool_calls", "tool_type": "web_search"}),
    ("social_searches", "social_searches", {"family": "tool_calls", "tool_type": "social_search"}),
    (
        "storage_searches",
        "storage_searches",
        {"family": "tool_calls", "tool_type": "storage_search"},
    ),
    ("code_executions", "code_executions", {"family": "tool_calls", "tool_type": "code_execution"}),
    ("requests", "requests", {"family": "requests"}),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that we and genai-prices know; a unit is part of every unit whose traits it has."""

    name: str
    library_name: str
    traits: Traits

    @property
    def family(self) -> str:
        """Return what is counted: tokens, durations, tool_calls, ..."""
        return dict(self.traits)["family"]


def _token_unit(direction: str, kind: str, modality: str) -> Unit:
    named = (kind, modality, direction, "tokens")
    traits = {"family": "tokens", "direction": direction, "token_type": kind, "modality": modality}
    library = (direction, modality, kind, "tokens")
    if kind.startswith("cache"):
        cache, action, *ttl = kind.split("_")
        library = (cache, modality, "_".join((action, *ttl)), "tokens")
        traits |= {"token_type": f"{cache}_{action}", "cache_ttl": "".join(ttl)}
    return Unit(
        "_".join(filter(None, named)),
        "_".join(filter(None, library)),
        frozenset((key, value) for key, value in traits.items() if value),
    )


def _all_units() -> Iterator[Unit]:
    for direction, kinds in (("input", _INPUT_KINDS), ("output", _OUTPUT_KINDS)):
        for kind in kinds:
            for modality in _MODALITIES:
                yield _token_unit(direction, kind, modality)
    for name, library_name, traits in _OTHER_UNITS:
        yield Unit(name, library_name, frozenset(traits.items()))


KNOWN_UNITS: Final[Mapping[str, Unit]] = {unit.name: unit for unit in _all_units()}
UNIT_BY_LIBRARY_NAME: Final[Mapping[str, str]] = {
    unit.library_name: unit.name for unit in KNOWN_UNITS.values()
}
TOKEN_UNITS: Final = frozenset(u.name for u in KNOWN_UNITS.values() if u.family == "tokens")
FRACTIONAL_UNITS: Final = frozenset(u.name for u in KNOWN_UNITS.values() if u.family == "durations")
"""Known units that are measured, not counted: seconds may have decimals."""

ANCESTORS: Final[Mapping[str, frozenset[str]]] = {
    unit.name: frozenset(o.name for o in KNOWN_UNITS.values() if o.traits < unit.traits)
    for unit in KNOWN_UNITS.values()
}
"""For each known unit every unit that it is a part of, near and far."""

_PARENTS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(
        sorted(
            a for a in ancestors if not any(a in ANCESTORS[b] for b in ancestors)
        )
    )
    for name, ancestors in ANCESTORS.items()
}  # fmt: skip


def _rival_parts() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (whole, parts) where the parts exclude each other: kinds, modalities or TTLs of one whole."""
    for whole in KNOWN_UNITS.values():
        children = [n for n, parents in _PARENTS.items() if whole.name in parents]
        by_trait: dict[str, list[str]] = {}
        for child in children:
            (added, *_) = sorted(key for key, _ in KNOWN_UNITS[child].traits - whole.traits)
            by_trait.setdefault(added, []).append(child)
        yield from ((whole.name, tuple(parts)) for parts in by_trait.values() if len(parts) > 1)


_RIVAL_PARTS: Final = tuple(_rival_parts())

# The units that a text call has; all others being absent or 0, four subtractions check the whole call.
_PLAIN_UNITS: Final = frozenset(
    {
        "input_tokens",
        "cache_read_input_tokens",
        "cache_write_input_tokens",
        "cache_write_1h_input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
        "requests",
    }
)


@dataclass(frozen=True, slots=True)
class UsageViolation:
    """Parts that are larger than their whole."""

    units: tuple[str, ...]
    count: Count
    total_unit: str
    total: Count | None
    """None when the whole is absent from the usage."""

    @property
    def unit(self) -> str:
        """Return the unit to point at."""
        return self.units[0]

    def __str__(self) -> str:
        """Return both numbers: `1920 of 86 input tokens`."""
        parts = (
            f"{self.count} ({' + '.join(self.units)})" if len(self.units) > 1 else f"{self.count}"
        )
        if self.total is None:
            return f"{parts} but no {self.total_unit}"
        return f"{parts} of {self.total} {self.total_unit.replace('_', ' ')}"


def usage_violations(usage: Usage) -> tuple[UsageViolation, ...]:
    """Return every part, or sum of parts that exclude each other, that exceeds its whole; () when all add up.

    A part whose whole is absent exceeds it. Overlaps of different kinds (cached and audio) are the rate
    card's affair. Counts are taken as they are: see `count_fault`. Rule: api-gateway.md 3.1.
    """
    return () if _is_plain_and_sound(usage) else tuple(_violations(usage))


def _is_plain_and_sound(usage: Usage) -> bool:
    count = usage.get
    cache_write = count("cache_write_input_tokens", 0)
    for unit in usage:
        if unit not in _PLAIN_UNITS and usage[unit]:
            return False
    return (
        count("cache_read_input_tokens", 0) + cache_write <= count("input_tokens", 0)
        and count("cache_write_1h_input_tokens", 0) <= cache_write
        and count("reasoning_output_tokens", 0) <= count("output_tokens", 0)
    )


def _violations(usage: Usage) -> Iterator[UsageViolation]:
    too_large = set()
    for unit, count in usage.items():
        for parent in _PARENTS.get(unit, ()):
            total = usage.get(parent)
            if count > (total or 0):
                too_large.add((unit, parent))
                yield UsageViolation((unit,), count, parent, total)
    for whole, parts in _RIVAL_PARTS:
        used = tuple(part for part in parts if usage.get(part))
        if len(used) < 2 or any((part, whole) in too_large for part in used):
            continue
        count = sum((usage[part] for part in used), start=0)
        if count > usage.get(whole, 0):
            yield UsageViolation(used, count, whole, usage.get(whole))


def is_unit_name(name: str) -> bool:
    """Return whether a unit may have this name, known or defined by a tenant."""
    return UNIT_NAME.fullmatch(name) is not None


def count_fault(unit: str, count: object) -> str | None:
    """Return what is wrong with a count, or None: known units are whole numbers, except durations.

    Counts are from 0 to 10**15. A unit that a tenant defined (`gb`) and seconds may be a `Decimal`
    with at most 12 places. A float is refused: it has already lost what the sender meant.
    """
    if isinstance(count, bool) or not isinstance(count, (int, Decimal)):
        return "must be a number"
    if isinstance(count, Decimal):
        if unit in KNOWN_UNITS and unit not in FRACTIONAL_UNITS:
            return "must be a whole number"
        if not count.is_finite():
            return "must be a finite number"
        if int(count.as_tuple().exponent) < -12:
            return "must have at most 12 decimal places"
    if count < 0:
        return "must not be negative"
    return "must be at most 10^15" if count > MAX_COUNT else None
